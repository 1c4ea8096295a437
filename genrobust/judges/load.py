"""How a reference becomes a judge: by name, by trained weights, or by the code of a user."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import nn

from genrobust import files
from genrobust.data.base import DATASETS
from genrobust.data.reference import is_same, training
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.foreign import as_script, build
from genrobust.judges.check import check_judge
from genrobust.judges.judge import Judge
from genrobust.judges.networks import ARCHITECTURES
from genrobust.models.card import Card
from genrobust.models.weights import half_precision, load_state_dict, read_state_dict
from genrobust.modes import plain_modes
from genrobust.plugins import blamed
from genrobust.reach import reach
from genrobust.registry import Registry

WEIGHTS = Path(__file__).parent.parent / "weights"

#: What a name stands for: a function from a dataset's name to a classifier.
JUDGES: Registry[Callable[[str], nn.Module | Judge]] = Registry(
    "judge", {name: f"genrobust.judges.load:{name}" for name in ARCHITECTURES}
)


class Roles(NamedTuple):
    """Which references attack and which score; ``shared`` if one does both.

    Example:
        >>> roles(["lenet", "vgg"]).scorers
        ('vgg',)
    """

    attacker: str
    scorers: tuple[str, ...]
    shared: bool


def roles(references: Sequence[str]) -> Roles:
    """Who does what among the judges of a run: the first attacks, the others score.

    One alone does both: attacks then see what scores them.

    Args:
        references: as :func:`load_judge` takes them.

    Raises:
        GenrobustError: there is none, or one twice.

    Example:
        >>> roles(["lenet", "vgg", "resnet"])
        Roles(attacker='lenet', scorers=('vgg', 'resnet'), shared=False)
        >>> roles(["mine.py:judge"])
        Roles(attacker='mine.py:judge', scorers=('mine.py:judge',), shared=True)
    """
    if not references:
        raise GenrobustError("there is no judge; give one or more with --judge, such as lenet")
    twice = next((r for i, r in enumerate(references) if r in references[:i]), None)
    if twice is not None:
        raise GenrobustError(
            f"the judge '{twice}' is given twice; give each once: the first for the attacks, the "
            "others to score"
        )
    first, *others = references
    return Roles(first, tuple(others) or (first,), not others)


@plain_modes()
def load_judge(dataset: str, reference: str) -> Judge:
    """A judge by name or by place, frozen and checked on images of the data set's shape.

    Its hash covers what it does: of networks of genrobust all weights; of other code the weights,
    that code, and the versions of the packages that it uses, Python's and torch's too.

    Args:
        dataset: whose images it sees, and whose classes it tells apart.
        reference: a registered name, such as ``"lenet"``, which ships for some data sets;
            ``"path/to/file.py:function"`` or ``"package.module:function"``, a function without
            arguments that returns a torch module from images (B, C, H, W) in [0, 1] to logits
            (B, classes), or a :class:`Judge`; or ``"path/to/judge.safetensors"``, with the card
            that ``genrobust train --judge`` writes beside it.

    Raises:
        GenrobustError: there is none, none ships for that data set, or it is no judge of it.

    Example:
        >>> judge = load_judge("digits", "lenet")
        >>> judge.labels(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1])
    """
    if reference in ARCHITECTURES:
        return _shipped(reference, dataset)
    known = DATASETS.get(dataset)
    if not known.classes:
        raise GenrobustError(
            f"'{dataset}' has no classes for the judge '{reference}' to tell apart; leave it out, "
            "or choose a data set with labels"
        )
    place = reference
    if file_of(reference) is not None:
        place = str(files.expanded(_ROOT.get() or "") / reference)
    with as_script(place.rpartition(":")[0] or place):
        hashed, module = _found(dataset, place)
        module.to("cpu").eval().requires_grad_(False)
    judge = Judge(name_of(dataset, reference), module, "")
    check_judge(judge, known.image_shape, len(known.classes))
    return replace(judge, sha256=hashed(module), lock=Lock())


def name_of(dataset: str, reference: str) -> str:
    """What records call a judge.

    >>> name_of("digits", "lenet"), name_of("digits", "mine.py:judge")
    ('digits/lenet', 'mine.py:judge')
    """
    return reference if is_place(reference) else f"{dataset}/{reference}"


def is_place(reference: str) -> bool:
    """Whether it says where a judge lies, rather than who is registered."""
    return is_code(reference) or reference.endswith(".safetensors")


def is_code(reference: str) -> bool:
    """Whether it names code to be run, which nobody has registered."""
    return ":" in reference


def file_of(reference: str) -> Path | None:
    """The file that it names, where it names one.

    >>> file_of("sub/mine.py:judge"), file_of("package.module:judge"), file_of("lenet")
    (PosixPath('sub/mine.py'), None, None)
    """
    place = reference.rpartition(":")[0] if is_code(reference) else reference
    return Path(place) if place.endswith((".py", ".safetensors")) else None


@contextmanager
def judges_at(root: str | Path | None) -> Iterator[None]:
    """Within it :func:`load_judge` has relative places of files start there; None: where one is."""
    before = _ROOT.set(root)
    try:
        yield
    finally:
        _ROOT.reset(before)


_ROOT: ContextVar[str | Path | None] = ContextVar("root", default=None)


def _found(dataset: str, reference: str) -> tuple[Callable[[nn.Module], str], nn.Module]:
    """The module of a reference, and how it is hashed."""
    if is_code(reference):
        return _hash_with_code, _module(build(reference), reference)
    if reference.endswith(".safetensors"):
        network, card = _trained(Path(reference))
        if not is_same(card.dataset, dataset):
            warnings.warn(
                f"the judge '{reference}' was trained on '{card.dataset}' and is to judge "
                f"'{dataset}'; its classes must be the same, in the same order",
                GenrobustWarning,
                stacklevel=4,
            )
        return _hash_of_weights, network
    if reference.endswith((".py", ".pt", ".pth")):
        raise GenrobustError(
            f"'{reference}' is no judge by itself; type FILE.py:FUNCTION, a function without "
            "arguments that returns one, or give the .safetensors file of 'genrobust train --judge'"
        )
    make = JUDGES.get(reference)
    package = str(getattr(make, "__module__", "")).partition(".")[0]
    with blamed(f"the judge '{reference}'", make):
        made = make(dataset)
    return partial(_hash_with_code, package=package), _module(made, reference)


def _module(made: Any, reference: str) -> nn.Module:
    module = made.module if isinstance(made, Judge) else made
    if not isinstance(module, nn.Module):
        raise GenrobustError(
            f"'{reference}' returned a {type(made).__name__}; it must return a torch.nn.Module "
            "that gives logits, or a genrobust.judges.Judge"
        )
    return module


def _trained(path: Path) -> tuple[nn.Module, Card]:
    """What ``genrobust train --judge`` wrote."""
    state, beside = read_state_dict(path), path.with_suffix(".json")
    try:
        card = Card.model_validate_json(files.read_text(beside))
        sizes = card.architecture
        with torch.random.fork_rng(devices=[]):  # for weights that are then replaced
            network = ARCHITECTURES[sizes["name"]](int(sizes["channels"]), int(sizes["classes"]))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise GenrobustError(
            f"'{beside}' is not there or not the card of a judge, which says what network the "
            f"weights '{path}' are of; give both as 'genrobust train --judge' wrote them"
        ) from problem
    load_state_dict(network, state, path)
    if _hash_of_weights(network) != card.weights_sha256:
        raise GenrobustError(
            f"the weights '{path}' are not those that their card '{beside.name}' names; give both "
            "as 'genrobust train --judge' wrote them"
        )
    for weights in network.parameters():
        if weights.ndim == 4:  # convolutions are quicker so
            weights.data = weights.data.contiguous(memory_format=torch.channels_last)
    return network, card


def _hash_of_weights(module: nn.Module) -> str:
    return files.sha256_of_tensors(half_precision(module))


def _hash_with_code(module: nn.Module, package: str = "") -> str:
    found = reach({"judge": module}, own={package} - {"", "genrobust"})
    numbers = files.sha256_of_tensors(found.tensors)
    return hashlib.sha256(f"{found.code}\n{numbers}".encode()).hexdigest()


def _folder(dataset: str) -> str:
    """Where its weights lie: some systems allow no colon in a file's name."""
    return dataset.replace(":", "=")


@cache
def _shipped(architecture: str, dataset: str) -> Judge:
    path = WEIGHTS / _folder(dataset) / f"judge-{architecture}.safetensors"
    if not path.is_file():
        at = WEIGHTS.glob(f"*/judge-{architecture}.safetensors")
        shipped = sorted(p.parent.name.replace("=", ":") for p in at)
        raise GenrobustError(
            f"no judge '{architecture}' ships for '{dataset}', only for {', '.join(shipped)}; "
            f"{_training(architecture, dataset)}give one of your own as FILE.py:FUNCTION"
        )
    network, _ = _trained(path)
    network.eval().requires_grad_(False)
    return Judge(name_of(dataset, architecture), network, _hash_of_weights(network))


def _training(architecture: str, dataset: str) -> str:
    """How such a judge is trained; nothing where no command has the data."""
    command = training("judge", architecture, dataset)
    return f"train one with {command} and give its .safetensors file, or " if command else ""


def _by_name(name: str) -> Callable[[str], nn.Module | Judge]:
    make = partial(_shipped, name)
    make.__doc__ = ARCHITECTURES[name].__doc__
    return make


lenet, vgg, resnet, thesis, committee = map(_by_name, ARCHITECTURES)

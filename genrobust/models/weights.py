"""Weights files: read safely and strictly, written in half precision with a card."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from genrobust import files
from genrobust.errors import GenrobustError, GenrobustWarning, a_few
from genrobust.models.card import Card
from genrobust.models.networks import NetworkSpec

#: What wrappers put into the names of what they wrap, wherever it is.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

#: What is in archives of whole models alone, and how to load these.
_PROGRAMS = (
    ("constants.pkl", "torch.jit.load", ""),
    ("archive_format", "torch.export.load", ".module()"),
)


def read_state_dict(path: str | Path, module: nn.Module | None = None) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a ``.pt`` file with a state dict.

    A ``.pt`` file is unpickled with ``weights_only=True``: nothing in it is executed. Of a
    checkpoint that holds one state dict beside the optimizer's and the like, that is taken; of one
    that holds several, the one that fits the module, or those of the module's parts.

    Args:
        path: the file.
        module: what the weights are for, if that is known.

    Raises:
        GenrobustError: the file is missing, damaged, or holds something else, or several.
    """
    path = Path(path)
    if path.is_dir():
        raise GenrobustError(f"'{path}' is a folder; give the file of weights that is in it")
    if not path.is_file():
        raise GenrobustError(f"there is no weights file '{path}'; check the path")
    if program := program_in(path):
        raise GenrobustError(program)
    try:
        if path.suffix == ".safetensors":
            return files.read_tensors(path)[0]
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # a damaged pickle can raise anything
        raise GenrobustError(
            f"the weights file '{path}' cannot be read ({_reason(problem, path)}); give a "
            ".safetensors file, or a .pt file written by torch.save(module.state_dict(), path)"
        ) from problem
    return _state_dict_in(content, path, module)


def program_in(path: Path) -> str | None:
    """What to do with a file that holds a whole model, code and weights; None if it holds none.

    Its code is TorchScript's, or that of torch.export, which only the user's own function may load.
    """
    inside: set[str] = set()
    with suppress(OSError, zipfile.BadZipFile):
        if path.is_file():  # no pipe is waited for
            with zipfile.ZipFile(path) as archive:
                inside = {name.rpartition("/")[2] for name in archive.namelist()}
    for mark, load, end in _PROGRAMS:
        if mark in inside:
            return (
                f"'{path}' holds a whole model, and not its weights alone; give FILE.py:FUNCTION, "
                f"a function that returns {load}({str(path)!r}){end}, and no weights"
            )
    return None


def _reason(problem: Exception, path: Path) -> str:
    """Why a file could not be read; torch's own words are a page of advice."""
    words = str(problem)
    if isinstance(problem, UnpicklingError):
        held = re.search(r"GLOBAL (\S+) was not an allowed global", words)
        if held or zipfile.is_zipfile(path):
            return f"beside tensors it holds {held[1] if held else 'objects'}, which could run code"
        return "it is no file of torch's, or of objects that could run code"
    if "PytorchStreamReader" in words:
        return "it is damaged"
    return words.splitlines()[0] if words else type(problem).__name__


def _state_dict_in(content: Any, path: Path, module: nn.Module | None) -> dict[str, Tensor]:
    """The one state dict in what a file holds."""
    if _is_state_dict(content):
        return dict(content)
    held = content if isinstance(content, dict) else {}
    found = [key for key, value in held.items() if isinstance(value, dict) and _tensors_in(value)]
    if not found:
        other = [k for k, v in held.items() if not isinstance(v, Tensor)]
        if len(other) < len(held):
            raise GenrobustError(
                f"the weights file '{path}' holds '{other[0]}' beside tensors, a "
                f"{type(held[other[0]]).__name__}, which genrobust does not load; load it in the "
                "function that builds the model, with module.load_state_dict, and give no weights"
            )
        raise GenrobustError(
            f"the weights file '{path}' holds no state dict but a {type(content).__name__}; "
            "write it with torch.save(module.state_dict(), path)"
        )
    if len(found) == 1:
        _say_taken(found, path)
        return _state_dict_in(held[found[0]], path, module)
    states = {key: held[key] for key in found if _is_state_dict(held[key])}
    return _of_several(found, states, path, module)


def _of_several(
    names: list[Any], states: dict[Any, dict[str, Tensor]], path: Path, module: nn.Module | None
) -> dict[str, Tensor]:
    """Of several parts of a file the one that fits the module, or those of its children."""
    own = {} if module is None else module.state_dict()
    fitting = [key for key, state in states.items() if _fits(own, state)]
    if len(fitting) == 1:
        _say_taken(fitting, path)
        return states[fitting[0]]
    children = () if module is None else dict(module.named_children())
    parts = {key: child for key in states if (child := _child_of(key)) in children}
    joined = {f"{parts[key]}.{k}": tensor for key in parts for k, tensor in states[key].items()}
    if not fitting and _fits(own, joined):
        _say_taken(list(parts), path)
        return joined
    listed = " and ".join(f"'{key}'" for key in names)
    if module is not None and not fitting:
        raise GenrobustError(
            f"the weights file '{path}' holds weights under {listed}, and none of these are all "
            f"that {type(module).__name__} takes; write what it takes alone, under its own names, "
            "with torch.save(module.state_dict(), path)"
        )
    raise GenrobustError(
        f"the weights file '{path}' holds weights under {listed}, and genrobust cannot tell which "
        f"are the model's; write those alone, such as with torch.save(torch.load('{path.name}')"
        f"[{(fitting or names)[0]!r}], path)"
    )


def _child_of(key: Any) -> str:
    """The part of a module that what lies under a key is the state of."""
    return str(key).removesuffix("_state_dict")


def _say_taken(names: list[Any], path: Path) -> None:
    if names not in (["state_dict"], ["model_state_dict"]):
        listed = " and ".join(f"'{name}'" for name in names)
        warnings.warn(
            f"of the weights file '{path}', what it holds under {listed} is loaded",
            GenrobustWarning,
            stacklevel=4,
        )


def _fits(own: dict[str, Tensor], state: dict[str, Tensor]) -> bool:
    """Whether these are a module's weights, up to a prefix of their names."""
    found = state if own.keys() == state.keys() else (_renamed(own, state) or ("", {}))[1]
    return bool(own) and own.keys() == found.keys() and not any(_misfits(own, found))


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )


def _tensors_in(content: dict[Any, Any], depth: int = 3) -> bool:
    """Whether it is a state dict, or holds one not far down, and no optimizer's state."""
    if {"state", "param_groups"} <= content.keys() or not depth:
        return False
    if _is_state_dict(content):
        return any(tensor.is_floating_point() for tensor in content.values())
    return any(
        isinstance(value, dict) and _tensors_in(value, depth - 1) for value in content.values()
    )


def load_state_dict(module: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Load strictly: every key must fit, but for one prefix that all of them have, or lack.

    Such a prefix is what ``DataParallel``, ``torch.compile`` or a training module adds; that it was
    taken away is said.

    Raises:
        GenrobustError: keys are missing, left over, or of another shape.
    """
    own = module.state_dict()
    if own.keys() != state.keys() and (found := _renamed(own, state)):
        how, state = found
        warnings.warn(
            f"the weights in '{source}' are loaded {how} in their names",
            GenrobustWarning,
            stacklevel=2,
        )
    missing = [f"'{key}'" for key in sorted(own.keys() - state.keys())]
    unknown = [f"'{key}'" for key in sorted(state.keys() - own.keys())]
    wrong = [
        *([f"it lacks {a_few(missing)}"] if missing else []),
        *([f"it has {a_few(unknown)} that the model lacks"] if unknown else []),
        *[*_misfits(own, state), *_numberless(module, state)][:2],
    ]
    if wrong:
        raise GenrobustError(
            f"the weights in '{source}' do not fit {type(module).__name__}: {'; '.join(wrong)}; "
            + _hint(own, state)
        )
    module.load_state_dict(state)


def _misfits(own: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """Which weights have another shape than the model's, in words; a lazy one has none yet."""
    return [
        f"'{k}' is {tuple(state[k].shape)} where the model has {tuple(own[k].shape)}"
        for k in sorted(own.keys() & state.keys())
        if not is_lazy(own[k]) and own[k].shape != state[k].shape
    ]


def _numberless(module: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Which weights are no plain real numbers, as the model's are, in words.

    Torch would take whole numbers for weights, though their scale lies elsewhere.
    """
    own = {name: weight for name, weight in module.named_parameters() if name in state}
    return [
        f"'{name}' holds {kind} where the model has plain real numbers"
        for name, weight in sorted(own.items())
        if weight.is_floating_point() and (kind := _kind_of(state[name]))
    ]


def _kind_of(given: Tensor) -> str | None:
    """What a tensor holds that is no plain real numbers; None if it holds these."""
    if given.is_meta:
        return "no numbers, as it lies on the device 'meta',"
    if given.layout != torch.strided:
        return "a sparse tensor"
    if not given.is_floating_point():
        return f"{str(given.dtype).removeprefix('torch.')} numbers"
    return None


def _renamed(
    own: dict[str, Tensor], state: dict[str, Tensor]
) -> tuple[str, dict[str, Tensor]] | None:
    """The weights under the module's names, and how they came to them.

    None where more than one prefix keeps them apart.
    """
    bare = {_unwrapped(key): key for key in own}
    ways: list[tuple[str, Callable[[str], str]]] = [
        *((f"without '{start}'", partial(_without, start)) for start in _starts(state)),
        *((f"with '{start}'", start.__add__) for start in _starts(own)),
        ("without what wrappers add", lambda key: bare.get(_unwrapped(key), key)),
    ]
    for how, name in ways:
        renamed = {name(key): tensor for key, tensor in state.items()}
        if renamed.keys() == own.keys() and len(renamed) == len(state):
            return how, renamed
    return None


def _starts(state: dict[str, Tensor]) -> list[str]:
    """The dotted prefixes that all names share."""
    first = next(iter(state), "")
    ends = [i + 1 for i, letter in enumerate(first) if letter == "."]
    return [first[:end] for end in ends if all(key.startswith(first[:end]) for key in state)]


def _without(start: str, key: str) -> str:
    return key[len(start) :]


def _unwrapped(key: str) -> str:
    """A name without what wrappers put into it, wherever it is."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def _hint(own: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    """What to type where a part of the weights is all that the model takes."""
    starts = {start for key in state for start in _starts({key: state[key]})}
    fitting = [start for start in sorted(starts) if _is_part(own, state, start)]
    if not fitting:
        return "give the weights of this architecture, or the architecture of these weights"
    line = (
        f"torch.save({{k.removeprefix('{fitting[0]}'): v for k, v in weights.items() if "
        f"k.startswith('{fitting[0]}')}}, path)"
    )
    listed = " and ".join(f"'{start}'" for start in fitting)
    if len(fitting) == 1:
        return f"those under {listed} fit: write them alone with {line}"
    return (
        f"those under {listed} fit each, such as weights beside their moving average: write those "
        f"that are deployed alone, such as with {line}"
    )


def _is_part(own: dict[str, Tensor], state: dict[str, Tensor], start: str) -> bool:
    """Whether what lies under a prefix is all that a module takes."""
    part = {_without(start, key): state[key] for key in state if key.startswith(start)}
    return part.keys() == own.keys() and not _misfits(own, part)


def network_of(weights: str | Path) -> NetworkSpec | None:
    """The network that the card beside trained weights names; None without one, or of no model.

    Raises:
        GenrobustError: what is in the card's place cannot be read.
    """
    path = Path(weights).with_suffix(".json")
    if not Path(weights).is_file():
        return None  # which is said when they are read
    try:
        content = files.read_text(path)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise GenrobustError(
            f"'{path}', beside the weights, cannot be read as their card ({problem.strerror}); set "
            "that right, or put the weights where no such file is"
        ) from problem
    try:
        return NetworkSpec.model_validate(Card.model_validate_json(content).architecture)
    except ValueError:
        return None


def save_weights(folder: Path, module: nn.Module, card: Card) -> None:
    """Write ``NAME.safetensors`` (half precision) and ``NAME.json``, the card."""
    files.write_tensors(folder / f"{card.name}.safetensors", half_precision(module), {})
    files.write_text(folder / f"{card.name}.json", card.model_dump_json(indent=1) + "\n")


def half_precision(module: nn.Module) -> dict[str, Tensor]:
    """The state dict with floating tensors in half precision."""
    return {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in module.state_dict().items()
    }


def round_to_half(module: nn.Module) -> None:
    """Round the weights to half precision in place, so that metrics are those of the file."""
    module.load_state_dict(
        {k: v.to(module.state_dict()[k]) for k, v in half_precision(module).items()}
    )

"""Everything that can go wrong before a run does so here: names, files, data, model, device."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from genrobust import files
from genrobust.arguments import usable_device
from genrobust.attacks.base import ATTACKS, LABELLED, make_attack
from genrobust.attacks.objective import ObjectiveAttack
from genrobust.data.base import DATASETS, Images, data_at, is_reference
from genrobust.errors import GenrobustError, GenrobustWarning, in_a_line
from genrobust.judges import Judge, load_judge
from genrobust.judges.check import check_gradient, check_recognises
from genrobust.judges.load import is_place, judges_at
from genrobust.models import sharing
from genrobust.models.checks.check import check_model
from genrobust.models.checks.fidelity import Fidelity, fidelity, say
from genrobust.models.identity import IMAGES, Identity, identity
from genrobust.models.model import GenerativeModel
from genrobust.models.reading.modules import module_from, own_shape
from genrobust.models.wrapping import adapt
from genrobust.models.zoo import load_model, zoo_card
from genrobust.norms import NORMS, load_norm
from genrobust.plugins import is_ours
from genrobust.reach import reach
from genrobust.records.record import ModelInfo, Record
from genrobust.rules.base import RULES
from genrobust.runner.adjusted import adjusted
from genrobust.runner.executors.base import EXECUTORS, Executor
from genrobust.runner.memory import in_memory
from genrobust.runner.options import Options
from genrobust.runner.provenance import command, libraries
from genrobust.runner.purpose import AnyRecord, Purpose, RobustAccuracy
from genrobust.runner.scorer import scorer_of
from genrobust.runner.shard import Loaded
from genrobust.runner.sources import images_of, references_of
from genrobust.runner.spec import RunSpec
from genrobust.suites.suite import JudgeRef, Suite, load_suite
from genrobust.threat import ThreatModel

#: The most images of a chunk that a model is checked on.
CHECKED = 256


@dataclass(frozen=True, eq=False)
class Prepared(Generic[AnyRecord]):
    """A run that has everything it needs.

    Args:
        identity: hash of the model, see :func:`genrobust.models.identity.identity`, and of what
            else results depend on that shards do not name, see :func:`_identity`.
        own: hash of the model alone, the same in every suite, under every --batch-size and on every
            machine.
        settings: what is not as the suite says, or the seed, in short words.
        spec: from which other processes prepare the same, if the executor has any.
        purpose: what the run is for.
    """

    loaded: Loaded
    options: Options
    suite: Suite
    workers: int
    deviations: tuple[str, ...]
    model: ModelInfo
    fidelity: Fidelity
    command: str
    identity: str
    own: str
    settings: tuple[str, ...]
    spec: RunSpec | None
    purpose: Purpose[Any, AnyRecord]


def chosen_suite(given: str | os.PathLike[str] | Suite, data_root: str | Path | None) -> Suite:
    """The suite of that name or file, or the one given.

    Raises:
        GenrobustError: there is none of that name; it is no suite at all, or none that a file could
            hold.
    """
    if isinstance(given, Suite):
        try:
            return Suite.model_validate(given.model_dump())  # a copy with changes was not checked
        except ValidationError as problem:
            raise GenrobustError(
                f"the suite '{given.name}' is none: {in_a_line(problem, Suite)}; change what "
                "model_copy(update=...) was given, or start from load_suite('digits')"
            ) from problem
    if not isinstance(given, (str, os.PathLike)):
        raise GenrobustError(
            f"suite is a {type(given).__name__}; give a name such as 'digits', a suite's file, or "
            "a Suite"
        )
    return load_suite(os.fspath(given), data_root)


def prepare(
    model: str | nn.Module | GenerativeModel,
    suite: Suite,
    options: Options,
    reference: str | None = None,
) -> Prepared[Record]:
    """Load and check all that a run needs; nothing is written.

    Args:
        model: a name, a place or a live object.
        suite: the protocol.
        options: how to run it.
        reference: how the record calls a live object.

    Raises:
        GenrobustError: the model, the data or a judge is missing or not what the suite says.
    """
    executor = _executor(options, model)
    home = str(Path.cwd()) if executor.elsewhere else ""
    used, deviations, settings = adjusted(suite, options)
    _require_attacks(used)
    device = usable_device(options.device)
    images = images_of(used, options)
    ready = wrapped(model, used.dataset, images.shape, options)
    live = ready
    if options.evidence:
        ready = _as_data(ready)
    references = references_of(used, images, options, device)
    who = identity(ready, images.take(used.sample_ids[:IMAGES]))
    run = _identity(who, used, references)
    ready.module.to(device)
    if ready.input_shape != images.shape:
        raise GenrobustError(
            f"the model takes images of shape {ready.input_shape} and the suite '{used.name}' has "
            f"{images.shape}; choose a suite of such images, or resize inside encode= and decode= "
            "when you wrap it"
        )
    some = images.take(used.sample_ids[: min(used.chunk_size, CHECKED)])
    checked = in_memory(partial(check_model, x=some), ready, len(some))
    ready = checked.model
    live = live.at_most(ready.max_batch)
    live.module.to(device)
    compared = fidelity(live, some)
    say(live, compared)
    with judges_at(options.judge_root):
        attacker, scorers = _judges(used, images, device)
    spec = None
    if isinstance(model, str):
        reference = model
        if executor.elsewhere:
            spec = RunSpec(model=model, suite=suite, options=options, identity=run, home=home)
    card = zoo_card(model, used.dataset) if isinstance(model, str) else None
    return Prepared(
        loaded=Loaded(
            scorer_of(used, scorers, ready, options.seed, images),
            images,
            attacker,
            references,
        ),
        options=options,
        suite=used,
        workers=_workers(options, executor, used, ready),
        deviations=deviations,
        model=ModelInfo(
            name=options.name or ready.name,
            reference=reference or "a live object",
            fingerprint=who.fingerprint,
            spec=ready.spec | ({"straight": [*ready.straight]} if ready.straight else {}),
            input_shape=ready.input_shape,
            latents=checked.latents,
            code_size=checked.code_size,
            parameters=ready.parameters,
            draws=ready.draws,
            deploy=ready.deploy is not None,
            card=card.model_dump(mode="json") if card and options.weights is None else None,
        ),
        fidelity=compared,
        command=command(reference or "FILE.py:FUNCTION", suite, options),
        identity=run,
        own=who.own,
        settings=settings,
        spec=spec,
        purpose=RobustAccuracy(),
    )


def _require_attacks(suite: Suite) -> None:
    """The attacks take the suite's balls, and have all that they need under its rule."""
    rule = RULES.get(suite.rule)
    load_norm(suite.norm).require_shape(DATASETS.get(suite.dataset).image_shape)
    for entry in suite.attacks:
        attack = make_attack(entry.attack, entry.settings)
        for radius in suite.eps:
            attack.refuse_threat(ThreatModel(suite.norm, radius))
        if not rule.labelled and LABELLED & set(attack.needs(entry.goal)):
            raise GenrobustError(
                f"the attack '{entry.attack}' needs a judge or labels, and the suite "
                f"'{suite.name}' scores by {suite.rule}, without them; choose attacks such as "
                "'latent' or 'output'"
            )
    if math.isinf(suite.eps[-1]):
        raise GenrobustError(
            "eps is inf, and scores are means over the radii up to the largest; give finite ones"
        )


def _identity(model: Identity, suite: Suite, references: tuple[Tensor, Tensor] | None) -> str:
    """Of the model, where it is before it goes to a device, and of what else steers a search.

    That is other people's code and the files that settings of their attacks name, the releases of
    the libraries that attacks leave the search to, and the training images that attacks are given,
    where they are not those of a registered data set.
    """
    digest = hashlib.sha256(model.whole.encode())
    for name, kind in _classes(suite):
        if not is_ours(kind):
            found = reach({name: kind}, own={kind.__module__.partition(".")[0]})
            digest.update(f"{name} {found.code} {files.sha256_of_tensors(found.tensors)}".encode())
    for file in _files_of_settings(suite):
        digest.update(hashlib.sha256(files.read_bytes(file)).digest())
    for name, release in libraries(suite).items():
        digest.update(f"{name} {release}".encode())
    if references is not None and is_reference(suite.dataset):
        named = dict(zip(("images", "labels"), references, strict=True))
        digest.update(files.sha256_of_tensors(named).encode())
    return digest.hexdigest()


def _files_of_settings(suite: Suite) -> Iterator[Path]:
    """Files that attacks of others are given, such as the weights of a model to attack through."""
    for entry in suite.attacks:
        attack = make_attack(entry.attack, entry.settings)
        given = None if is_ours(attack) else attack.settings()
        paths = (Path(value) for value in _within(given) if isinstance(value, (str, Path)))
        yield from (path for path in paths if files.is_there(path) and path.is_file())


def _within(setting: Any) -> Iterator[Any]:
    """What a setting holds, such as each of a tuple of paths."""
    if isinstance(setting, Mapping):
        setting = tuple(setting.values())
    if isinstance(setting, (tuple, list)):
        for one in setting:
            yield from _within(one)
    else:
        yield setting


def _classes(suite: Suite) -> Iterator[tuple[str, type]]:
    """Of all that a suite names and that may be a plugin's, whose code results depend on."""
    for name in sorted({entry.attack for entry in suite.attacks}):
        kind = ATTACKS.get(name)
        yield name, kind
        if issubclass(kind, ObjectiveAttack):  # a class of ours around what may be a plugin's
            yield f"the objective of {name}", kind.objective
    yield f"the rule {suite.rule}", RULES.get(suite.rule)
    yield f"the norm {suite.norm}", NORMS.get(suite.norm)


def wrapped(
    model: str | nn.Module | GenerativeModel,
    dataset: str,
    shape: tuple[int, int, int],
    options: Options,
) -> GenerativeModel:
    """A model by name, by place or live, ready for batches; what says no shape takes the data's."""
    if isinstance(model, GenerativeModel):
        return model.at_most(options.batch_size)
    if isinstance(model, nn.Module):
        return adapt(model, input_shape=own_shape(model) or shape, max_batch=options.batch_size)
    if not isinstance(model, str):
        raise GenrobustError(
            f"model is a {type(model).__name__}; "
            + (
                module_from(model)
                or "give a name such as 'vae', a torch module, or what genrobust.wrap gives"
            )
        )
    with data_at(options.data_root):
        return load_model(model, dataset, options.weights, options.batch_size)


def _as_data(model: GenerativeModel) -> GenerativeModel:
    """The model as others can load it without trust, or itself where it cannot be data."""
    # What few runs ask for, and all would wait for.
    from genrobust.models.portable import export_model, load_portable

    try:
        return load_portable(*export_model(model)).at_most(model.max_batch)
    except GenrobustError as problem:
        warnings.warn(
            f"the evidence will name the model by its fingerprint alone: {problem}",
            GenrobustWarning,
            stacklevel=2,
        )
        return model


def _judges(suite: Suite, images: Images, device: torch.device) -> tuple[Judge | None, list[Judge]]:
    """The attacker's, and those that score: what the suite names, tried on its sources."""
    attacker = None if suite.attacker_judge is None else _judge(suite, suite.attacker_judge, device)
    scorers = [_judge(suite, ref, device) for ref in suite.scoring_judges]
    ids = suite.sample_ids[:CHECKED]
    asked = (attacker, *scorers) if RULES.get(suite.rule).shows_source else ()
    for judge in {judge.sha256: judge for judge in asked if judge}.values():
        check_recognises(judge, images.take(ids).to(device), images.labels_of(ids).to(device))
    if attacker is not None:
        check_gradient(attacker, images.take(ids[:2]).to(device))
    return attacker, scorers


def _judge(suite: Suite, ref: JudgeRef, device: torch.device) -> Judge:
    try:
        judge = load_judge(suite.dataset, ref.architecture)
    except GenrobustError as problem:
        if not is_place(ref.architecture):
            raise
        raise GenrobustError(
            f"the suite '{suite.name}' names the judge '{ref.architecture}', looked for from the "
            f"current folder unless --judge-root (judge_root=) says from which: {problem}"
        ) from problem
    if judge.sha256 != ref.sha256:
        raise GenrobustError(
            f"the judge '{judge.name}' is not the one the suite '{suite.name}' names (sha256 "
            f"{judge.sha256[:12]}, expected {ref.sha256[:12]}); {_how_to_have_it(judge.name)}"
        )
    return judge.to(device)


def _how_to_have_it(judge: str) -> str:
    if is_place(judge):
        return (
            "give the code and weights, and the Python and torch, that the suite was made with, "
            "and let the code build the same at every call; or make the suite anew"
        )
    return "install the version of genrobust, or of the plugin, that the suite belongs to"


def _executor(options: Options, model: str | nn.Module | GenerativeModel) -> type[Executor]:
    """The one that is asked for, where it can do what is asked."""
    executor = EXECUTORS.get(options.executor)
    if options.workers is not None and options.workers < 1:
        raise GenrobustError(f"--workers is {options.workers}; it must be 1 or more")
    most = executor.most_workers
    if most is not None and (options.workers or 1) > most:
        raise GenrobustError(
            f"--workers is {options.workers}, and the executor '{options.executor}' has use "
            f"for {most}; leave --workers out, or give --executor processes"
        )
    if executor.elsewhere and not isinstance(model, str):
        raise GenrobustError(
            f"the executor '{options.executor}' builds the model anew in other processes, "
            "which cannot be done with a live object; give its name or FILE.py:FUNCTION as the "
            "model, or threads as the executor"
        )
    return executor


def _workers(
    options: Options, executor: type[Executor], suite: Suite, model: GenerativeModel
) -> int:
    wanted = options.workers
    if wanted is None:
        wanted = 1 if options.device != "cpu" else max(1, torch.get_num_threads())
        wanted = min(wanted, executor.most_workers or wanted)
    if executor.elsewhere:
        return wanted
    if model.draws > 1 or RULES.get(suite.rule).draws:
        return 1  # random numbers come from the process's generators, which threads share
    if wanted > 1 and (why := _why_alone(suite, model)) is not None:
        warnings.warn(
            f"the model '{model.name}' {why}; it runs one shard at a time, whatever --workers "
            "says; with --executor processes each worker has a model of its own",
            GenrobustWarning,
            stacklevel=2,
        )
        return 1
    return wanted


def _why_alone(suite: Suite, model: GenerativeModel) -> str | None:
    """Why threads may not share a model; None if they may."""
    if sharing.shares_badly(model):
        return (
            "gives other results when another batch passes through it meanwhile, as it keeps "
            "something outside its functions' local variables"
        )
    if any(ATTACKS.get(entry.attack).draws_globally for entry in suite.attacks) and sharing.draws(
        model
    ):
        return "draws from the random generators that an attack's library draws from"
    return None

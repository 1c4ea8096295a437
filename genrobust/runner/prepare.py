"""Everything that can go wrong before a run does so here: names, files, data, model, device."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Generic

import torch
from torch import Tensor, nn

from genrobust import files
from genrobust.arguments import usable_device
from genrobust.attacks.base import ATTACKS, make_attack
from genrobust.attacks.objective import ObjectiveAttack
from genrobust.data.base import DATASETS, Images, data_at, is_reference, load_images
from genrobust.data.reference import reference_images
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.foreign import ran_out_of_memory
from genrobust.judges import Judge, load_judge
from genrobust.judges.check import check_gradient, check_recognises
from genrobust.judges.load import is_place, judges_at
from genrobust.models import threads
from genrobust.models.check import ModelCheck, check_model
from genrobust.models.edges import with_edges
from genrobust.models.fidelity import Fidelity, fidelity, say
from genrobust.models.identity import IMAGES, Identity, identity
from genrobust.models.model import GenerativeModel
from genrobust.models.modules import own_shape
from genrobust.models.portable import export_model, load_portable
from genrobust.models.wrapping import adapt
from genrobust.models.zoo import load_model, zoo_card
from genrobust.norms import NORMS
from genrobust.plugins import is_ours
from genrobust.reach import reach
from genrobust.records.record import ModelInfo, Record
from genrobust.rules.base import RULES
from genrobust.runner.executors.base import EXECUTORS, Executor
from genrobust.runner.options import Options
from genrobust.runner.provenance import command, libraries
from genrobust.runner.purpose import AnyRecord, Purpose, Robustness
from genrobust.runner.scorer import scorer_of
from genrobust.runner.shard import Loaded
from genrobust.runner.spec import RunSpec
from genrobust.suites.suite import OWN, JudgeRef, Suite, load_suite, registered_as
from genrobust.threat import TOLERANCE, ThreatModel

#: What a batch has only where a suite has judges.
LABELLED = {"judge", "labels", "target_labels"}

#: How many training images are handed to attacks that need some.
REFERENCES = 1000

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


def chosen_suite(
    given: str | os.PathLike[str] | Suite, data_root: str | Path | None = None
) -> Suite:
    """The suite of that name or file, or the one given.

    Raises:
        GenrobustError: there is none of that name; it is no suite at all.
    """
    if isinstance(given, Suite):
        return given
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
    with judges_at(options.judge_root):
        used, deviations, settings = _adjusted(suite, options)
    rule = RULES.get(used.rule)
    for entry in used.attacks:
        attack = make_attack(entry.attack, entry.settings)
        for radius in used.eps:
            attack.refuse_threat(ThreatModel(used.norm, radius))
        if not rule.labelled and LABELLED & set(attack.needs(entry.goal)):
            raise GenrobustError(
                f"the attack '{entry.attack}' needs a judge or labels, and the suite '{used.name}' "
                f"scores by {used.rule}, without them; choose attacks such as 'latent' or 'output'"
            )
    if math.isinf(used.eps[-1]):
        raise GenrobustError(
            "eps is inf, and scores are means over the radii up to the largest; give finite ones"
        )
    device = usable_device(options.device)
    images = load_images(used.dataset, used.split, options.data_root)
    if images.sha256 != used.data_sha256:
        advice = "fetch the data set anew"
        if is_reference(used.dataset):
            advice = (
                "they have changed since it was drawn, or are others at each reading: put them "
                "back or take random transforms out, or draw a new suite with --data (data=)"
            )
        raise GenrobustError(
            f"the {used.split} images of '{used.dataset}' are not those of the suite (sha256 "
            f"{images.sha256[:12]}, expected {used.data_sha256[:12]}); {advice}"
        )
    if images.labels is None and rule.labelled:
        raise GenrobustError(
            f"the images of '{used.dataset}' have no labels, and the suite '{used.name}' scores by "
            f"judges, which need them; give a suite with the rule 'distance'"
        )
    _check_samples(used, images)
    ready = wrapped(model, used.dataset, images.shape, options)
    live = ready
    if options.as_data:
        ready = _as_data(ready)
    references = _references(used, images, options, device)
    who = identity(ready, images.take(used.sample_ids[:IMAGES]))
    run = _identity(who, used, references)
    ready.module.to(device)
    if ready.input_shape != images.shape:
        raise GenrobustError(
            f"the model takes images of shape {ready.input_shape} and the suite '{used.name}' has "
            f"{images.shape}; resize inside encode= and decode= when you wrap it"
        )
    ids = [*used.sample_ids, *used.target_ids]
    for first in range(0, len(ids), REFERENCES):
        _require_pixels(images.take(ids[first : first + REFERENCES]), used)
    some = images.take(used.sample_ids[: min(used.chunk_size, CHECKED)])
    ready, checked = _that_fits(ready, some)
    if isinstance(model, nn.Module):  # the others were looked at when they were wrapped or loaded
        ready = with_edges(ready)
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
            spec=ready.spec,
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
        purpose=Robustness(),
    )


def _identity(model: Identity, suite: Suite, references: tuple[Tensor, Tensor] | None) -> str:
    """Of the model, where it is before it goes to a device, and of what else steers a search.

    That is other people's code, the releases of the libraries that attacks leave the search to, and
    the training images that attacks are given, where they are not those of a registered data set.
    """
    digest = hashlib.sha256(model.whole.encode())
    for name, kind in _classes(suite):
        if not is_ours(kind):
            found = reach({name: kind}, own={kind.__module__.partition(".")[0]})
            digest.update(f"{name} {found.code} {files.sha256_of_tensors(found.tensors)}".encode())
    for name, release in libraries(suite).items():
        digest.update(f"{name} {release}".encode())
    if references is not None and is_reference(suite.dataset):
        named = dict(zip(("images", "labels"), references, strict=True))
        digest.update(files.sha256_of_tensors(named).encode())
    return digest.hexdigest()


def _classes(suite: Suite) -> Iterator[tuple[str, type]]:
    """Of all that a suite names and that may be a plugin's, whose code results depend on."""
    for name in sorted({entry.attack for entry in suite.attacks}):
        kind = ATTACKS.get(name)
        yield name, kind
        if issubclass(kind, ObjectiveAttack):  # a class of ours around what may be a plugin's
            yield f"the objective of {name}", kind.objective
    yield f"the rule {suite.rule}", RULES.get(suite.rule)
    yield f"the norm {suite.norm}", NORMS.get(suite.norm)


def _check_samples(suite: Suite, images: Images) -> None:
    """Sources and targets are images of the data set, each source once, of classes that it has.

    Raises:
        GenrobustError: they are not, or a source is to imitate its own class.
    """
    who = f"the suite '{suite.name}'"
    for name in ("sample_ids", "target_ids"):
        wrong = [i for i in getattr(suite, name) if not 0 <= i < len(images)]
        if wrong:
            raise GenrobustError(
                f"{who} names the image {wrong[0]} in {name}, and the {suite.split} images of "
                f"'{suite.dataset}' are 0 to {len(images) - 1}; correct the suite"
            )
    ids = suite.sample_ids
    twice = next((i for i, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise GenrobustError(
            f"{who} names the image {twice} twice in sample_ids, which key the random draws; name "
            "each once"
        )
    if not RULES.get(suite.rule).labelled:
        return
    labels, targets = (images.labels_of(i).tolist() for i in (ids, suite.target_ids))
    count = len(DATASETS.get(suite.dataset).classes)
    outside = next((c for c in [*labels, *targets] if c >= count), None)
    if outside is not None:
        raise GenrobustError(
            f"'{suite.dataset}' has an image of class {outside} and names {count} classes; number "
            "its classes from 0 and name them all"
        )
    for i, own, aim in zip(ids, labels, targets, strict=True):
        if own == aim:
            raise GenrobustError(
                f"{who} gives the image {i} a target of its own class, which it shows without an "
                "attack; give it another target"
            )


def _references(
    suite: Suite, images: Images, options: Options, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """The first training images, if an attack of the suite needs some."""
    needing = {
        entry.attack
        for entry in suite.attacks
        if "references" in make_attack(entry.attack, entry.settings).needs(entry.goal)
    }
    if not needing:
        return None
    found = reference_images(suite.dataset, REFERENCES, options.data_root)
    ids = torch.arange(min(REFERENCES, len(found)))
    labels = found.labels_of(ids)
    if images.labels is not None:
        shown = images.labels[torch.tensor([*suite.sample_ids, *suite.target_ids])]
        _warn_of_lacking(shown, labels, needing)
    return found.take(ids).to(device), labels.to(device)


def _warn_of_lacking(shown: Tensor, labels: Tensor, attacks: set[str]) -> None:
    """Sources and targets are of classes that attacks are not led to."""
    lacking = sorted(set(shown.tolist()) - set(labels.tolist()))
    if lacking:
        warnings.warn(
            f"there is no picture of the classes {', '.join(map(str, lacking))} among those that "
            f"{', '.join(sorted(attacks))} go by, so that they lead to no such class, or refuse "
            "it; put some into the train split",
            GenrobustWarning,
            stacklevel=4,
        )


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
            f"model is a {type(model).__name__}; give a name such as 'vae', a torch module, or "
            "what genrobust.wrap gives"
        )
    with data_at(options.data_root):
        return load_model(model, dataset, options.weights, options.batch_size)


def _that_fits(model: GenerativeModel, some: Tensor) -> tuple[GenerativeModel, ModelCheck]:
    """The model, checked; where memory runs out, as one that takes half as many images at once."""
    fits = model
    while True:
        try:
            checked = check_model(fits, some)
            break
        except Exception as problem:
            most = (fits.max_batch or len(some)) // 2
            if most == 0 or not ran_out_of_memory(problem):
                raise
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
        fits = fits.at_most(most)
    if fits is not model:
        warnings.warn(
            f"memory ran out, and only {fits.max_batch} images at once go through the model, which "
            "changes no result but for rounding; give --batch-size, or fewer --workers",
            GenrobustWarning,
            stacklevel=2,
        )
    return fits, checked


def _as_data(model: GenerativeModel) -> GenerativeModel:
    """The model as others can load it without trust, or itself where it cannot be data."""
    try:
        return load_portable(*export_model(model)).at_most(model.max_batch)
    except GenrobustError as problem:
        warnings.warn(
            f"the evidence will name the model by its fingerprint alone: {problem}",
            GenrobustWarning,
            stacklevel=2,
        )
        return model


def _require_pixels(pixels: Tensor, suite: Suite) -> None:
    """Before a model or an attack is blamed for what the data are."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also NaN
        raise GenrobustError(
            f"the {suite.split} images of '{suite.dataset}' have pixels from {low:.4g} to "
            f"{high:.4g} where [0, 1] is allowed; let the data set give bytes, or floats in [0, 1] "
            "such as images / 255"
        )


def _judges(suite: Suite, images: Images, device: torch.device) -> tuple[Judge | None, list[Judge]]:
    """The attacker's, and those that score: what the suite names, tried on its sources."""
    attacker = None if suite.attacker_judge is None else _judge(suite, suite.attacker_judge, device)
    scorers = [_judge(suite, ref, device) for ref in suite.scoring_judges]
    ids = suite.sample_ids[:CHECKED]
    for judge in {judge.sha256: judge for judge in (attacker, *scorers) if judge}.values():
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


def _adjusted(suite: Suite, options: Options) -> tuple[Suite, tuple[str, ...], tuple[str, ...]]:
    """The suite as it is run; how that departs from the suite; and that in short words.

    The short words also name the seed, and not that the suite is one's own.
    """
    used, deviations, settings = suite, [], []
    known = registered_as(suite)
    if known is None or load_suite(known, options.data_root) != suite:
        deviations.append(OWN)
    if options.attacks:
        used = used.with_attacks(list(options.attacks))
        deviations.append(f"attacks {', '.join(options.attacks)} in place of the suite's")
        settings.append(f"attack-{'-'.join(options.attacks)}")
    if options.judge or options.rule is not None:
        used = used.judged_by(options.judge, options.rule)
        deviations.append(_said_of_judges(used))
        settings += [] if options.rule is None else [f"rule-{options.rule}"]
        settings += [f"judge-{PurePath(reference).name}" for reference in options.judge]
    if used.shared_judges:
        names = " and ".join(used.shared_judges)
        deviations.append(f"one judge is attacker and scorer: {names}")
        warnings.warn(
            f"one judge, {names}, is attacker and scorer: attacks may fool it rather than change "
            "what a picture shows; give more with --judge, of which the first attacks and the "
            "others score",
            GenrobustWarning,
            stacklevel=2,
        )
    if options.norm is not None:
        used = used.with_norm(options.norm)
        if used.norm != suite.norm:
            deviations.append(f"the norm {used.norm} in place of the suite's")
            settings.append(f"norm-{used.norm}")
    if options.eps:
        used = used.with_eps(list(options.eps))
        deviations.append(f"eps {', '.join(map(str, used.eps))} in place of the suite's")
    if options.limit is not None:
        used = used.limited(options.limit)
        if len(used.sample_ids) < len(suite.sample_ids):
            deviations.append(f"the first {options.limit} of {len(suite.sample_ids)} samples")
            settings.append(f"limit-{options.limit}")
    if options.eps:
        settings.append(f"eps-{'-'.join(map(str, used.eps))}")
    if options.seed != 0:
        settings.append(f"seed-{options.seed}")
    return used, tuple(deviations), tuple(settings)


def _said_of_judges(suite: Suite) -> str:
    names = [ref.architecture for ref in suite.scoring_judges]
    rule = RULES.get(suite.rule)
    if rule.judges_needed[1] == 1:
        drawing = ", its dropout drawing" if rule.draws else ""
        return f"success by the judge {names[0]} alone{drawing}"
    assert suite.attacker_judge is not None
    attacker = suite.attacker_judge.architecture
    return f"success by the judges {' and '.join(names)}, attacks by {attacker}"


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
    if threads.shares_badly(model):
        return (
            "gives other results when another batch passes through it meanwhile, as it keeps "
            "something outside its functions' local variables"
        )
    if any(ATTACKS.get(entry.attack).draws_globally for entry in suite.attacks) and threads.draws(
        model
    ):
        return "draws from the random generators that an attack's library draws from"
    return None

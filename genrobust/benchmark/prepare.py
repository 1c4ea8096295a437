"""Everything that can go wrong before a run does so here: names, files, data, model, device."""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from genrobust.attacks.base import make_attack
from genrobust.benchmark.options import Options
from genrobust.benchmark.provenance import command
from genrobust.benchmark.record import ModelInfo
from genrobust.benchmark.scoring import Scorer
from genrobust.benchmark.shard import Setting
from genrobust.data.base import DATASETS, Images, load_images
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.judges.judge import Judge, Panel, load_judge
from genrobust.models.check import check_model
from genrobust.models.model import GenerativeModel
from genrobust.models.portable import export_model, load_portable
from genrobust.models.wrapping import wrap
from genrobust.models.zoo import load_model, zoo_card
from genrobust.suites.suite import SUITES, JudgeRef, Suite, load_suite
from genrobust.threat import Norm, ThreatModel

#: What a batch has only where a suite has judges.
LABELLED = {"judge", "labels", "target_labels"}

#: How many training images are handed to attacks that need some.
REFERENCES = 1000


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run that has everything it needs."""

    setting: Setting
    options: Options
    suite: Suite
    workers: int
    deviations: tuple[str, ...]
    model: ModelInfo
    command: str


def chosen_suite(given: str | os.PathLike[str] | Suite) -> Suite:
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
    return load_suite(os.fspath(given))


def prepare(
    model: str | nn.Module | GenerativeModel,
    suite: Suite,
    options: Options,
    reference: str | None = None,
) -> Prepared:
    """Load and check all that a run needs; nothing is written.

    Args:
        model: a name, a place or a live object.
        suite: the protocol.
        options: how to run it.
        reference: how the record calls a live object.

    Raises:
        GenrobustError: the model, the data or a judge is missing or not what the suite says.
    """
    used, deviations = _adjusted(suite, options)
    for entry in used.attacks:
        attack = make_attack(entry.attack, entry.settings)
        for radius in used.eps:
            attack.refuse_threat(ThreatModel(used.norm, radius))
        if used.rule == "distance" and LABELLED & set(attack.needs(entry.goal)):
            raise GenrobustError(
                f"the attack '{entry.attack}' needs a judge or labels, and the suite '{used.name}' "
                "scores by distance, without them; choose attacks such as 'latent' or 'output'"
            )
    if math.isinf(used.eps[-1]):
        raise GenrobustError(
            "eps is inf, and scores are means over the radii up to the largest; give finite ones"
        )
    device = _device(options.device)
    images = load_images(used.dataset, used.split, options.data_root)
    if images.sha256 != used.data_sha256:
        raise GenrobustError(
            f"the {used.split} images of '{used.dataset}' are not those of the suite (sha256 "
            f"{images.sha256[:12]}, expected {used.data_sha256[:12]}); fetch the data set anew"
        )
    if images.labels is None and used.rule != "distance":
        raise GenrobustError(
            f"the images of '{used.dataset}' have no labels, and the suite '{used.name}' scores by "
            f"judges, which need them; give a suite with the rule 'distance'"
        )
    _check_samples(used, images)
    ready = _wrapped(model, used.dataset, images.shape, options.weights)
    if options.as_data:
        ready = _as_data(ready)
    ready.module.to(device)
    if ready.input_shape != images.shape:
        raise GenrobustError(
            f"the model takes images of shape {ready.input_shape} and the suite '{used.name}' has "
            f"{images.shape}; resize inside encode= and decode= when you wrap it"
        )
    checked = check_model(ready, images.take(used.sample_ids[:8]))
    attacker = None if used.attacker_judge is None else _judge(used, used.attacker_judge, device)
    scorers = tuple(_judge(used, ref, device) for ref in used.scoring_judges)
    if used.rule == "single-live":
        scorers = tuple(judge.live() for judge in scorers)
    panel = Panel(scorers) if scorers else None
    reference = model if isinstance(model, str) else reference
    card = zoo_card(model, used.dataset) if isinstance(model, str) else None
    return Prepared(
        setting=Setting(
            Scorer(used.rule, panel, ready, options.seed),
            images,
            attacker,
            _references(used, options, device),
        ),
        options=options,
        suite=used,
        workers=_workers(options, used, ready),
        deviations=deviations,
        model=ModelInfo(
            name=ready.name,
            reference=reference or "a live object",
            fingerprint=ready.fingerprint(),
            spec=ready.spec,
            input_shape=ready.input_shape,
            latents=checked.latents,
            code_size=checked.code_size,
            parameters=ready.parameters,
            draws=ready.draws,
            deploy=ready.deploy is not None,
            card=card.model_dump(mode="json") if card and options.weights is None else None,
        ),
        command=command(reference or "FILE.py:FUNCTION", suite, options),
    )


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
    if suite.rule == "distance":
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
    suite: Suite, options: Options, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """The first training images, if an attack of the suite needs some."""
    needed = (make_attack(e.attack, e.settings).needs(e.goal) for e in suite.attacks)
    if not any("references" in needs for needs in needed):
        return None
    images = load_images(suite.dataset, "train", options.data_root)
    ids = torch.arange(min(REFERENCES, len(images)))
    return images.take(ids).to(device), images.labels_of(ids).to(device)


def _wrapped(
    model: str | nn.Module | GenerativeModel,
    dataset: str,
    shape: tuple[int, int, int],
    weights: str | Path | None,
) -> GenerativeModel:
    if isinstance(model, GenerativeModel):
        return model
    if isinstance(model, nn.Module):
        known = hasattr(model, "input_shape") or hasattr(model, "img_size")
        return wrap(model, input_shape=None if known else shape)
    if not isinstance(model, str):
        raise GenrobustError(
            f"model is a {type(model).__name__}; give a name such as 'vae', a torch module, or "
            "what genrobust.wrap gives"
        )
    return load_model(model, dataset, weights)


def _as_data(model: GenerativeModel) -> GenerativeModel:
    """The model as others can load it without trust, or itself where it cannot be data."""
    try:
        return load_portable(*export_model(model))
    except GenrobustError as problem:
        warnings.warn(
            f"the evidence will name the model by its fingerprint alone: {problem}",
            GenrobustWarning,
            stacklevel=2,
        )
        return model


def _judge(suite: Suite, ref: JudgeRef, device: torch.device) -> Judge:
    judge = load_judge(suite.dataset, ref.architecture)
    if judge.sha256 != ref.sha256:
        raise GenrobustError(
            f"the judge '{judge.name}' is not the one the suite '{suite.name}' names (sha256 "
            f"{judge.sha256[:12]}, expected {ref.sha256[:12]}); install the genrobust version that "
            "the suite belongs to"
        )
    return judge.to(device)


def _adjusted(suite: Suite, options: Options) -> tuple[Suite, tuple[str, ...]]:
    """The suite as it is run, and how that departs from the suite."""
    used, deviations = suite, []
    if suite.name not in SUITES or SUITES.get(suite.name)() != suite:
        deviations.append("a suite of one's own")
    if options.attacks:
        used = used.with_attacks(list(options.attacks))
        deviations.append(f"attacks {', '.join(options.attacks)} in place of the suite's")
    if options.judge is not None:
        used = _judged_by(used, options.judge, options.judge_in_train_mode)
        live = ", its dropout drawing" if options.judge_in_train_mode else ""
        deviations.append(f"success by the judge {options.judge} alone{live}")
    elif options.judge_in_train_mode:
        raise GenrobustError(
            "--judge-in-train-mode is about one judge; give it with --judge, such as --judge thesis"
        )
    if options.norm is not None:
        used = used.with_norm(ThreatModel(cast("Norm", options.norm)).norm)
        if used.norm != suite.norm:
            deviations.append(f"the norm {used.norm} in place of the suite's")
    if options.eps:
        used = used.with_eps(list(options.eps))
        deviations.append(f"eps {', '.join(map(str, used.eps))} in place of the suite's")
    if options.limit is not None:
        used = used.limited(options.limit)
        if len(used.sample_ids) < len(suite.sample_ids):
            deviations.append(f"the first {options.limit} of {len(suite.sample_ids)} samples")
    return used, tuple(deviations)


def _judged_by(suite: Suite, architecture: str, live: bool) -> Suite:
    if suite.rule == "distance":
        raise GenrobustError(
            f"the suite '{suite.name}' scores by distance, without judges; leave --judge out"
        )
    sha256 = load_judge(suite.dataset, architecture).sha256
    return suite.judged_by(JudgeRef(architecture=architecture, sha256=sha256), live)


def _workers(options: Options, suite: Suite, model: GenerativeModel) -> int:
    if model.draws > 1 or suite.rule == "single-live":
        return 1  # random numbers come from the process's generators, which threads share
    if options.workers is not None:
        if options.workers < 1:
            raise GenrobustError(f"--workers is {options.workers}; it must be 1 or more")
        return options.workers
    return 1 if options.device != "cpu" else max(1, torch.get_num_threads())


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()  # which "meta" cannot: it has no data
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as problem:
        reason = str(problem).splitlines()[0]
        raise GenrobustError(
            f"the device '{name}' cannot be used ({reason}); choose cpu, or one that torch sees"
        ) from problem
    return device

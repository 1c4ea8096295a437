"""bench(): score a model on a suite."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from genrobust import files
from genrobust._version import __version__
from genrobust.attacks.base import ATTACKS
from genrobust.benchmark import collect, flags
from genrobust.benchmark.execute import run_all
from genrobust.benchmark.plan import ShardSpec, plan
from genrobust.benchmark.record import (
    DataInfo,
    JudgeInfo,
    ModelInfo,
    Provenance,
    Record,
    Times,
)
from genrobust.benchmark.shard import Measured, Setting, run_shard
from genrobust.benchmark.store import Store
from genrobust.data.base import DATASETS, load_images
from genrobust.errors import GenrobustError
from genrobust.judges.judge import Judge, Panel, load_judge
from genrobust.models.check import check_model
from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import wrap
from genrobust.models.zoo import load_model, zoo_card
from genrobust.report.examples import Example
from genrobust.suites.suite import JudgeRef, Suite, load_suite

#: How many training images are handed to attacks that need some.
REFERENCES = 1000

#: Called with the shards done and the shards in all.
Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Options:
    """How to run a suite: which part of it, where to, with how many hands."""

    limit: int | None = None
    seed: int = 0
    attacks: tuple[str, ...] = ()
    eps: tuple[float, ...] = ()
    device: str = "cpu"
    workers: int | None = None
    data_root: str | Path | None = None
    weights: str | Path | None = None


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


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its record and the pictures for its report."""

    record: Record
    examples: list[Example]


def bench(
    model: str | nn.Module | GenerativeModel,
    suite: str | Suite = "digits",
    *,
    limit: int | None = None,
    seed: int = 0,
    attacks: Sequence[str] = (),
    eps: Sequence[float] = (),
    device: str = "cpu",
    workers: int | None = None,
    data_root: str | Path | None = None,
    out: str | Path | None = None,
) -> Record:
    """Score a model under a suite's protocol.

    Args:
        model: a zoo name, ``"file.py:function"``, ``"package.module:function"``, a module, or
            what :func:`genrobust.wrap` gives.
        suite: a suite's name, such as ``"digits"`` or ``"mnist"``; a JSON file's path; or a Suite.
        limit: only the first so many samples (the record is then not official).
        seed: of every random draw.
        attacks: these in place of the suite's (not official either).
        eps: these radii in place of the suite's grid (likewise).
        device: where to compute: ``"cpu"``, ``"cuda"``.
        workers: shards at a time; default the number of cores, on a GPU 1.
        data_root: the folder with the data set; see :func:`genrobust.load_images`.
        out: a folder that keeps shards (so that a stopped run resumes), ``record.json`` and
            ``report.html``; default none is kept.

    Returns:
        The record: scores with intervals, matrices, cost, provenance.

    Raises:
        GenrobustError: unknown names, a model that fails its check, data that is missing, a
            folder that cannot be written.

    Example:
        >>> record = bench("jointvae", limit=4, eps=[0.05])
        >>> record.scores.sources, record.official
        (4, False)
    """
    options = Options(limit, seed, tuple(attacks), tuple(eps), device, workers, data_root)
    chosen = load_suite(suite) if isinstance(suite, str) else suite
    prepared = prepare(model, chosen, options)
    if out is None:
        with tempfile.TemporaryDirectory(prefix="genrobust-") as folder:
            return execute(prepared, Path(folder)).record
    run = execute(prepared, Path(out))
    write_report(Path(out), [run])
    return run.record


def prepare(model: str | nn.Module | GenerativeModel, suite: Suite, options: Options) -> Prepared:
    """Load and check all that a run needs; nothing is written.

    Raises:
        GenrobustError: the model, the data or a judge is missing or not what the suite says.
    """
    used, deviations = _adjusted(suite, options)
    device = _device(options.device)
    images = load_images(used.dataset, used.split, options.data_root)
    if images.sha256 != used.data_sha256:
        raise GenrobustError(
            f"the {used.split} images of '{used.dataset}' are not those of the suite (sha256 "
            f"{images.sha256[:12]}, expected {used.data_sha256[:12]}); fetch the data set anew"
        )
    ready = _wrapped(model, used.dataset, images.shape, options.weights)
    ready.module.to(device)
    if ready.input_shape != images.shape:
        raise GenrobustError(
            f"the model takes images of shape {ready.input_shape} and the suite '{used.name}' has "
            f"{images.shape}; resize inside encode= and decode= when you wrap it"
        )
    checked = check_model(ready, images.take(used.sample_ids[:8]))
    attacker = _judge(used, used.attacker_judge, device)
    panel = Panel(tuple(_judge(used, ref, device) for ref in used.scoring_judges))
    reference = model if isinstance(model, str) else None
    card = zoo_card(model, used.dataset) if isinstance(model, str) else None
    return Prepared(
        setting=Setting(ready, images, attacker, panel, _references(used, options, device)),
        options=options,
        suite=used,
        workers=_workers(options),
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
            card=card.model_dump(mode="json") if card and options.weights is None else None,
        ),
        command=command(reference or "FILE.py:FUNCTION", suite, options),
    )


def execute(prepared: Prepared, folder: Path, on_progress: Progress = _silent) -> Run:
    """Run what is missing in ``folder``, and write ``plan.json`` and ``record.json`` there.

    Raises:
        GenrobustError: the folder cannot be written, or a shard failed; what is done stays.
    """
    suite, setting = prepared.suite, prepared.setting
    device = _device_kind(prepared.options.device)
    shards = plan(suite, prepared.model.fingerprint, prepared.options.seed, device)
    outline = {"command": prepared.command, "shards": [s.model_dump(mode="json") for s in shards]}
    files.write_text(folder / "plan.json", json.dumps(outline, indent=1) + "\n")
    measured = _run_missing(Store(folder), shards, prepared, on_progress)
    joined = collect.join(measured)
    attacker = JudgeInfo(
        name=setting.attacker.name, sha256=setting.attacker.sha256, role="attacker"
    )
    scorers = [JudgeInfo(name=j.name, sha256=j.sha256, role="scorer") for j in setting.panel.judges]
    record = Record(
        official=not prepared.deviations,
        deviations=prepared.deviations,
        model=prepared.model,
        suite=suite,
        suite_sha256=suite.sha256,
        seed=prepared.options.seed,
        data=DataInfo(name=suite.dataset, split=suite.split, sha256=suite.data_sha256),
        judges=(attacker, *scorers),
        flags=flags.raised(suite, joined),
        scores=collect.score(suite, joined, len(DATASETS.get(suite.dataset).classes)),
        attacks=collect.attack_costs(suite, joined),
        forwards=int(joined["forwards"].sum()),
        backwards=int(joined["backwards"].sum()),
        provenance=_provenance(prepared.command, device, shards),
        times=Times(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            attack_seconds=round(sum(m.seconds for m in measured), 3),
        ),
    )
    files.write_text(folder / "record.json", record.model_dump_json(indent=1) + "\n")
    return Run(record, collect.examples(suite, joined))


def _references(
    suite: Suite, options: Options, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """The first training images, if an attack of the suite needs some."""
    if not any(ATTACKS.get(entry.attack).needs_references for entry in suite.attacks):
        return None
    images = load_images(suite.dataset, "train", options.data_root)
    ids = torch.arange(min(REFERENCES, len(images)))
    return images.take(ids).to(device), images.labels[ids].to(device)


def write_report(folder: Path, runs: Sequence[Run]) -> Path:
    """Write ``report.html`` on one run, or comparing several."""
    from genrobust.report.html import render

    path = folder / "report.html"
    files.write_text(path, render([(run.record, run.examples) for run in runs]))
    return path


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
    return load_model(model, dataset, weights)


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
    if options.attacks:
        used = used.with_attacks(list(options.attacks))
        deviations.append(f"attacks {', '.join(options.attacks)} in place of the suite's")
    if options.eps:
        used = used.with_eps(list(options.eps))
        deviations.append(f"eps {', '.join(map(str, used.eps))} in place of the suite's")
    if options.limit is not None:
        used = used.limited(options.limit)
        if used != suite.model_copy(update={"attacks": used.attacks, "eps": used.eps}):
            deviations.append(f"the first {options.limit} of {len(suite.sample_ids)} samples")
    return used, tuple(deviations)


def _run_missing(
    store: Store, shards: list[ShardSpec], prepared: Prepared, on_progress: Progress
) -> list[Measured]:
    done = {spec.key: found for spec in shards if (found := store.read(spec)) is not None}
    missing = [spec for spec in shards if spec.key not in done]
    on_progress(len(done), len(shards))

    def work(spec: ShardSpec, cancelled: Callable[[], bool]) -> Measured | None:
        measured = run_shard(spec, prepared.setting, cancelled)
        if measured is not None:
            store.write(spec, measured)
        return measured

    for spec, measured in run_all(missing, work, prepared.workers):
        done[spec.key] = measured
        on_progress(len(done), len(shards))
    return [done[spec.key] for spec in shards]


def _workers(options: Options) -> int:
    if options.workers is not None:
        if options.workers < 1:
            raise GenrobustError(f"--workers is {options.workers}; it must be 1 or more")
        return options.workers
    return 1 if options.device != "cpu" else max(1, torch.get_num_threads())


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as problem:
        reason = str(problem).splitlines()[0]
        raise GenrobustError(
            f"the device '{name}' cannot be used ({reason}); choose cpu, or one that torch sees"
        ) from problem
    return device


def _device_kind(name: str) -> str:
    """What results may depend on: the kind of device, not its number."""
    device = torch.device(name)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _provenance(command: str, device: str, shards: list[ShardSpec]) -> Provenance:
    packages = ("torch", "numpy", "scipy", "safetensors", "pydantic")
    return Provenance(
        command=command,
        genrobust=__version__,
        python=platform.python_version(),
        packages={name: version(name) for name in packages},
        platform=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        device=device,
        shards=tuple(spec.key for spec in shards),
    )


def command(model: str, suite: Suite, options: Options) -> str:
    """The shell command that repeats the run."""
    words = ["genrobust", "bench", "--model", model]
    if options.weights is not None:
        words += ["--weights", str(options.weights)]
    words += ["--suite", suite.name]
    for name in options.attacks:
        words += ["--attack", name]
    for radius in options.eps:
        words += ["--eps", str(radius)]
    if options.limit is not None:
        words += ["--limit", str(options.limit)]
    if options.device != "cpu":
        words += ["--device", options.device]
    return shlex.join([*words, "--seed", str(options.seed)])


def _processor() -> str:
    """The processor's name where the system tells it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

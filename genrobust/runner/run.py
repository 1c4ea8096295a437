"""bench(): score a model on a suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from torch import nn

from genrobust import files
from genrobust.arguments import path
from genrobust.errors import GenrobustError
from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import left_as_it_was
from genrobust.outcomes import flags
from genrobust.outcomes.outcome import Outcome
from genrobust.outcomes.scores import scores
from genrobust.records.examples import Example
from genrobust.records.record import DataInfo, JudgeInfo, Record, Times
from genrobust.runner import collect, places
from genrobust.runner.executors.base import EXECUTORS
from genrobust.runner.options import Options
from genrobust.runner.plan import Part, ShardSpec, plan
from genrobust.runner.prepare import Prepared, chosen_suite, prepare
from genrobust.runner.provenance import device_kind, provenance
from genrobust.runner.shard import Measured, Setting
from genrobust.runner.store import Store
from genrobust.runner.task import Task
from genrobust.suites.suite import Suite

#: Called with the shards done and the shards in all.
Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Say nothing."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its record and the pictures for its report."""

    record: Record
    examples: list[Example]

    def called(self, name: str) -> Run:
        """The same under a name that tells it from others beside it."""
        model = self.record.model.model_copy(update={"name": name})
        return replace(self, record=self.record.model_copy(update={"model": model}))


def bench(
    model: str | nn.Module | GenerativeModel,
    suite: str | Suite = "digits",
    *,
    limit: int | None = None,
    seed: int = 0,
    attacks: Sequence[str] = (),
    norm: str | None = None,
    eps: Sequence[float] = (),
    judge: str | None = None,
    judge_in_train_mode: bool = False,
    device: str = "cpu",
    workers: int | None = None,
    executor: str = "threads",
    batch_size: int | None = None,
    data_root: str | Path | None = None,
    out: str | Path | None = None,
) -> Record:
    """Score a model under a suite's protocol.

    Args:
        model: a zoo name, ``"file.py:function"``, ``"package.module:function"``, a module, or
            what :func:`genrobust.wrap` gives. A module is given back as it was: what trains, what
            wants a gradient, where it is.
        suite: a suite's name, such as ``"digits"`` or ``"mnist"``; a JSON file's path; or a Suite.
        limit: only the first so many samples (the record is then not official).
        seed: of every random draw.
        attacks: these in place of the suite's (not official either).
        norm: such as ``"l2"``, in place of the suite's (likewise). Its radii are converted: see
            :meth:`genrobust.suites.Suite.with_norm`.
        eps: these radii in place of the suite's grid (likewise).
        judge: score by this one judge, the rule of the published attacks (likewise).
        judge_in_train_mode: let that judge's dropout draw, as published code does that forgets to
            turn it off.
        device: where to compute: ``"cpu"``, ``"cuda"``.
        workers: shards at a time; default the number of cores, on a GPU 1.
        executor: who computes them: ``"threads"``, ``"processes"``, ``"serial"``, ``"ray"``, or a
            plugin's. In other processes the model is built anew from its name or place.
        batch_size: the most images that go through the model at once; default any number. Results
            are the same up to rounding.
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
    place = (
        None if out is None else Path(path("out", out, "runs")).absolute()
    )  # before a model's file changes directory
    options = Options(
        limit=limit,
        seed=seed,
        attacks=attacks,
        norm=norm,
        eps=eps,
        judge=judge,
        judge_in_train_mode=judge_in_train_mode,
        device=device,
        workers=workers,
        executor=executor,
        batch_size=batch_size,
        data_root=data_root,
    )
    with left_as_it_was(model):
        prepared = prepare(model, chosen_suite(suite, data_root), options)
        if place is None:
            with files.temporary_folder() as folder:
                return execute(prepared, folder).record
        run = execute(prepared, place)
    write_report(place, [run])
    return run.record


def execute(
    prepared: Prepared, folder: Path, on_progress: Progress = silent, here: str | None = None
) -> Run:
    """Run what is missing in ``folder``, and write ``plan.json`` and ``record.json`` there.

    ``here`` is the command with what lies where on this machine, for the plan alone: no record
    holds it.

    Raises:
        GenrobustError: the folder cannot be written, or a shard failed; what is done stays.
    """
    suite, setting = prepared.suite, prepared.setting
    shards = shards_of(prepared)
    places.begin(folder, prepared, shards, here)
    measured = run_missing(folder, prepared, shards, on_progress)
    outcome = Outcome.joined([shard.tensors for shard in measured])
    record = Record(
        official=not prepared.deviations,
        deviations=prepared.deviations,
        model=prepared.model,
        fidelity=prepared.fidelity,
        suite=suite,
        suite_sha256=suite.sha256,
        radii="each",
        seed=prepared.options.seed,
        data=DataInfo(name=suite.dataset, split=suite.split, sha256=suite.data_sha256),
        judges=tuple(judges(setting)),
        flags=flags.raised(suite, outcome.eligible, outcome.signs, outcome.counts),
        scores=scores(outcome, suite),
        attacks=collect.attack_costs(suite, outcome.counts),
        forwards=int(outcome.counts.forwards.sum()),
        backwards=int(outcome.counts.backwards.sum()),
        provenance=provenance(prepared.command, device_of(prepared), shards),
        times=Times(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            attack_seconds=round(sum(m.seconds for m in measured), 3),
        ),
    )
    record = places.settle(folder / "record.json", record)
    return Run(record, collect.examples(suite, outcome))


def execute_part(
    prepared: Prepared,
    shards: Sequence[ShardSpec],
    part: Part,
    folder: Path,
    on_progress: Progress = silent,
    here: str | None = None,
) -> None:
    """Run what is missing of a part of a run's shards; no record is written.

    Raises:
        GenrobustError: as :func:`execute`.
    """
    places.begin(folder, prepared, shards, here)
    run_missing(folder, prepared, part.of(shards), on_progress)


def shards_of(prepared: Prepared) -> list[ShardSpec]:
    """The shards that a run consists of."""
    seed, device = prepared.options.seed, device_of(prepared)
    return plan(prepared.suite, prepared.model.fingerprint, seed, device)


def device_of(prepared: Prepared) -> str:
    """What of the device a run's results depend on."""
    return device_kind(prepared.options.device, prepared.setting.scorer.model.max_batch)


def judges(setting: Setting) -> Iterator[JudgeInfo]:
    """The judges of a run, the attacker's first."""
    if setting.attacker is not None:
        yield JudgeInfo(name=setting.attacker.name, sha256=setting.attacker.sha256, role="attacker")
    for judge in setting.scorer.rule.judges:
        yield JudgeInfo(name=judge.name, sha256=judge.sha256, role="scorer")


def write_report(folder: Path, runs: Sequence[Run]) -> Path:
    """Write ``report.html`` on one run, or comparing several."""
    from genrobust.report.html import render

    path = folder / "report.html"
    files.write_text(path, render([(run.record, run.examples) for run in runs]))
    return path


def run_missing(
    folder: Path, prepared: Prepared, shards: Sequence[ShardSpec], on_progress: Progress
) -> list[Measured]:
    """The results of all shards: those that the folder has, and the others by the executor.

    Raises:
        GenrobustError: a shard failed, or the executor left one out.
    """
    store, name = Store(folder, prepared.identity), prepared.options.executor
    done = {spec.key: found for spec in shards if (found := store.read(spec)) is not None}
    missing = {spec.key: spec for spec in shards if spec.key not in done}
    on_progress(len(done), len(shards))
    tasks = [Task(spec, folder, prepared) for spec in missing.values()]
    executor = EXECUTORS.get(name)()
    with closing(executor.run(tasks, prepared.workers)) as finished:
        for key in finished:
            found = store.read(missing[key])
            if found is not None:
                done[key] = found
                on_progress(len(done), len(shards))
    absent = sum(key not in done for key in missing)
    if absent:
        raise GenrobustError(
            f"{absent} of {len(shards)} shards are not in '{folder}' though the executor '{name}' "
            "has ended; let its workers write to that folder, and type the command again"
        )
    return [done[spec.key] for spec in shards]

"""A run of a suite: its shards, and the record of what they found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from genrobust.errors import GenrobustError
from genrobust.outcomes import flags
from genrobust.outcomes.outcome import Outcome
from genrobust.outcomes.scores import scores
from genrobust.records.examples import Example
from genrobust.records.record import DataInfo, JudgeInfo, Record, Times
from genrobust.runner import collect, places
from genrobust.runner.execute import Progress
from genrobust.runner.executors.base import EXECUTORS
from genrobust.runner.plan import Part, ShardSpec, plan
from genrobust.runner.prepare import Prepared
from genrobust.runner.provenance import device_kind, provenance
from genrobust.runner.shard import Loaded, Measured
from genrobust.runner.store import Store
from genrobust.runner.task import Task


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


def execute(
    prepared: Prepared, folder: Path, on_progress: Progress = silent, here: str | None = None
) -> Run:
    """Run what is missing in ``folder``, and write ``plan.json`` and ``record.json`` there.

    ``here`` is the command with what lies where on this machine, for the plan alone: no record
    holds it.

    Raises:
        GenrobustError: the folder cannot be written, or a shard failed; what is done stays.
    """
    suite, loaded = prepared.suite, prepared.loaded
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
        judges=tuple(judges(loaded)),
        flags=flags.raised(
            *(suite, outcome.eligible, outcome.signs, outcome.counts),
            *(outcome.damaged, outcome.ignore.radius),
        ),
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
    return device_kind(prepared.options.device, prepared.loaded.scorer.model.max_batch)


def judges(loaded: Loaded) -> Iterator[JudgeInfo]:
    """The judges of a run, the attacker's first."""
    if loaded.attacker is not None:
        yield JudgeInfo(name=loaded.attacker.name, sha256=loaded.attacker.sha256, role="attacker")
    for judge in loaded.scorer.rule.judges:
        yield JudgeInfo(name=judge.name, sha256=judge.sha256, role="scorer")


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

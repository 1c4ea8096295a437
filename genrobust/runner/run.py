"""A run: its shards, computed where they are missing, and the record of what they found."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Generic

from torch import Tensor

from genrobust.records.at_hand import write_beside
from genrobust.records.examples import Example
from genrobust.records.record import DataInfo, JudgeInfo, Times
from genrobust.runner import collect, places
from genrobust.runner.execute import Progress, results, silent
from genrobust.runner.plan import Partition, ShardSpec
from genrobust.runner.prepare import Prepared
from genrobust.runner.provenance import device_of, libraries, provenance
from genrobust.runner.pulse import under_way
from genrobust.runner.purpose import AnyRecord
from genrobust.runner.shard import Loaded, Measured
from genrobust.runner.store import Store
from genrobust.runner.task import Task
from genrobust.suites.suite import Suite

#: How many samples share a file in a long run.
TOGETHER = 1000

#: Seconds by which the clocks of two machines may differ.
SKEW = 2.0


@dataclass(frozen=True, eq=False)
class Run(Generic[AnyRecord]):
    """A finished run: its record and the pictures for its page."""

    record: AnyRecord

    @property
    def examples(self) -> Sequence[Example]:
        return self.record.at_hand.examples or ()

    def called(self, name: str) -> Run[AnyRecord]:
        """The same under a name that tells it from others beside it."""
        model = self.record.model.model_copy(update={"name": name})
        return replace(self, record=self.record.model_copy(update={"model": model}))


def execute(
    prepared: Prepared[AnyRecord],
    folder: Path,
    on_progress: Progress = silent,
    here: str | None = None,
) -> Run[AnyRecord]:
    """Run what is missing in ``folder``, and write ``plan.json`` and the record there.

    ``here`` is the command with what lies where on this machine, for the plan alone: no record
    holds it.

    Raises:
        GenrobustError: the folder cannot be written, or a shard failed; what is done stays.
    """
    purpose, shards = prepared.purpose, shards_of(prepared)
    places.begin(folder, prepared, shards, here)
    tasks = [Task(spec, folder, prepared) for spec in shards]
    parts: dict[int, Mapping[str, Tensor]] = {}
    seconds, store, groups = 0.0, Store(folder, prepared.identity), Groups(prepared.suite, shards)
    for number, measured in _results(tasks, prepared, on_progress):
        parts[number] = purpose.condensed(measured.tensors)
        seconds += measured.seconds
        if full := groups.full(number):
            store.gather(full)
            _trim()
    found = [parts[number] for number in range(len(shards))]
    record = purpose.record(prepared, found, _common(prepared, shards, seconds))
    examples = list(_examples(prepared, tasks, found))
    at_hand = replace(record.at_hand, examples=examples, folder=folder)
    record = places.settle(folder / purpose.file, record).beside(at_hand)
    write_beside(folder, record)
    return Run(record)


def _trim() -> None:
    """Let the C library give back what is free: it keeps large blocks between small ones that stay,
    so that a long run's memory grew by 14 kB a sample though nothing held it."""
    with suppress(OSError, AttributeError):  # not every library has it
        ctypes.CDLL(None).malloc_trim(0)


class Groups:
    """Shards of about a thousand samples, in a run that has more than that."""

    def __init__(self, suite: Suite, shards: Sequence[ShardSpec]) -> None:
        self.size = -(-TOGETHER // suite.chunk_size)
        long = len(suite.sample_ids) > TOGETHER and self.size > 1
        self.shards = shards if long else ()
        self.missing = [self.size] * (len(self.shards) // self.size)
        self.missing += [rest] if (rest := len(self.shards) % self.size) else []

    def full(self, number: int) -> Sequence[ShardSpec]:
        """The shards of the group that this one, which is done now, was the last of; or none."""
        if not self.shards:
            return ()
        group = number // self.size
        self.missing[group] -= 1
        first = group * self.size
        return () if self.missing[group] else self.shards[first : first + self.size]


def execute_part(
    prepared: Prepared[Any],
    part: Partition,
    folder: Path,
    on_progress: Progress,
    here: str | None,
) -> None:
    """Run what is missing of a part of a run's shards; no record is written.

    Raises:
        GenrobustError: as :func:`execute`.
    """
    shards = shards_of(prepared)
    places.begin(folder, prepared, shards, here)
    tasks = [Task(spec, folder, prepared) for spec in part.of(shards)]
    for _ in _results(tasks, prepared, on_progress):
        pass


def tasks_of(prepared: Prepared[Any], folder: Path) -> list[Task]:
    """What a run computes, in the order of its sources."""
    return [Task(spec, folder, prepared) for spec in shards_of(prepared)]


def shards_of(prepared: Prepared[Any]) -> list[ShardSpec]:
    """The shards that a run consists of."""
    shards: list[ShardSpec] = prepared.purpose.shards(prepared)
    return shards


def _results(
    tasks: list[Task], prepared: Prepared[Any], on_progress: Progress
) -> Generator[tuple[int, Measured], None, None]:
    beats = under_way(tasks[0].folder, since=time.time() - SKEW) if tasks else dict
    how = (prepared.options.executor, prepared.workers, on_progress, beats)
    return results(tasks, *how)


def _common(prepared: Prepared[Any], shards: list[ShardSpec], seconds: float) -> dict[str, Any]:
    """What records say of every run."""
    suite = prepared.suite
    device = device_of(prepared.options, prepared.loaded.scorer.model)
    return {
        "deviations": prepared.deviations,
        "model": prepared.model,
        "fidelity": prepared.fidelity,
        "suite": suite,
        "suite_sha256": suite.sha256,
        "seed": prepared.options.seed,
        "data": DataInfo(name=suite.dataset, split=suite.split, sha256=suite.data_sha256),
        "judges": tuple(_judges(prepared.loaded)),
        "provenance": provenance(prepared.command, device, shards, libraries(suite)),
        "times": Times(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            attack_seconds=round(seconds, 3),
        ),
    }


def _judges(loaded: Loaded) -> Iterator[JudgeInfo]:
    """The judges of a run, the attacker's first."""
    if loaded.attacker is not None:
        yield JudgeInfo(name=loaded.attacker.name, sha256=loaded.attacker.sha256, role="attacker")
    for judge in loaded.scorer.rule.judges:
        yield JudgeInfo(name=judge.name, sha256=judge.sha256, role="scorer")


def _examples(
    prepared: Prepared[Any], tasks: list[Task], parts: list[Mapping[str, Tensor]]
) -> Iterator[Example]:
    """The sources to show, from the shards that hold their pictures."""
    suite, purpose = prepared.suite, prepared.purpose
    for i in collect.shown(suite, purpose.kind.joined(parts)):
        number, place = divmod(i, suite.chunk_size)
        measured = tasks[number].found()
        if measured is not None:
            found = purpose.kind.of(measured.tensors)
            yield purpose.example(prepared, found, place, suite.sample_ids[i])

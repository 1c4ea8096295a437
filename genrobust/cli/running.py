"""What the commands that run a suite have in common: what a run will take is said, then it runs."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrobust.cli.progress import counted, duration, progress
from genrobust.errors import GenrobustWarning
from genrobust.runner.outlook import Outlook, in_bytes, tried
from genrobust.runner.places import folder_of, require_run
from genrobust.runner.plan import Partition
from genrobust.runner.prepare import Prepared
from genrobust.runner.provenance import command_here
from genrobust.runner.purpose import AnyRecord
from genrobust.runner.run import Run, execute, execute_part, shards_of, tasks_of


@dataclass(frozen=True)
class Way:
    """How far a command goes, and where its results lie.

    Args:
        out: the folder of all.
        part: the shards to compute, without a record.
        dry_run: none, but say what it would take.
        collected: the folder of a run whose shards are there, and whose record is wanted.
    """

    out: Path
    part: Partition | None
    dry_run: bool
    collected: Path | None

    @classmethod
    def read(cls, out: Path, shard: str | None, dry_run: bool, collected: Path | None) -> Way:
        """From what was typed; absolute, since a model's file may change directory."""
        return cls(
            out.absolute(), None if shard is None else Partition.read(shard), dry_run, collected
        )

    def go(
        self, run: Prepared[AnyRecord], label: str, home: Path, suite: str, below: str = ""
    ) -> tuple[Path, Run[AnyRecord]] | None:
        """The run's folder and what it gave; None where no record was to be made."""
        shards = shards_of(run)
        if self.collected is None:
            folder = folder_of(home, run, shards, below=below, take=not self.dry_run)
            here = command_here(run, suite, self.out)
        else:
            folder, here = require_run(self.collected, run, shards), None
        if self.dry_run:
            print(_estimated(run, folder, self.part))
            return None
        print(f"{label}: {_foretold(run, folder, self.part)}", file=sys.stderr)
        with progress(label) as advance:
            if self.part is None:
                return folder, execute(run, folder, advance, here)
            execute_part(run, self.part, folder, advance, here)
            print(folder, file=sys.stderr)
        return None


def in_part(part: Partition | None) -> str:
    """What is before numbers that are of a part alone.

    >>> in_part(Partition(1, 4)), in_part(None)
    ('part 1/4: ', '')
    """
    return "" if part is None else f"part {part.number}/{part.count}: "


def _foretold(prepared: Prepared[Any], folder: Path, part: Partition | None) -> str:
    """What is known before a run, or a part of one; warned where its disk is too small."""
    found = _outlook(prepared, folder, part)
    wrong = found.require_disk(folder)
    if wrong is not None:
        warnings.warn(wrong, GenrobustWarning, stacklevel=2)
    shards = f"{counted(found.shards, 'shard')} of {counted(found.samples, 'source')}"
    return (
        f"{in_part(part)}{shards}, {found.missing} to compute, {found.workers} at a time "
        f"({prepared.options.executor}); about {in_bytes(found.disk)} on disk"
    )


def _estimated(prepared: Prepared[Any], folder: Path, part: Partition | None) -> str:
    """The same with time and memory, from a short trial; nothing is written."""
    words = _foretold(prepared, folder, part)
    found, trial = _outlook(prepared, folder, part), tried(prepared)
    lines = [
        f"{prepared.model.name} on {prepared.suite.name}: {words}, in {folder}",
        f"  time: at most about {duration(found.seconds(trial))} for "
        f"{found.images(trial):,} images through the model and back, if no source falls "
        f"({1000 * trial.image:.2g} ms each by {trial.attack}, tried just now; a worker a core)",
    ]
    if trial.memory is not None:
        each = "each worker" if prepared.spec is not None else "this process"
        lines.append(f"  memory: {each} took {in_bytes(trial.memory)} in that trial")
    return "\n".join(lines)


def _outlook(prepared: Prepared[Any], folder: Path, part: Partition | None) -> Outlook:
    tasks = tasks_of(prepared, folder)
    return Outlook.of(prepared, tasks if part is None else part.of(tasks))

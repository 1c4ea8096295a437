"""What a run will take, for the terminal."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from genrobust.cli.progress import duration
from genrobust.errors import GenrobustWarning
from genrobust.runner.outlook import Outlook, in_bytes, tried
from genrobust.runner.plan import Part
from genrobust.runner.prepare import Prepared
from genrobust.runner.run import tasks_of


def in_part(part: Part | None) -> str:
    """What is before numbers that are of a part alone.

    >>> in_part(Part(1, 4)), in_part(None)
    ('part 1/4: ', '')
    """
    return "" if part is None else f"part {part.number}/{part.count}: "


def foretold(prepared: Prepared[Any], folder: Path, part: Part | None) -> str:
    """What is known before a run, or a part of one; warned where its disk is too small."""
    found = _outlook(prepared, folder, part)
    wrong = found.require_disk(folder)
    if wrong is not None:
        warnings.warn(wrong, GenrobustWarning, stacklevel=2)
    return (
        f"{in_part(part)}{found.shards} shards of {found.samples} sources, {found.missing} to "
        f"compute, {found.workers} at a time ({prepared.options.executor}); about "
        f"{in_bytes(found.disk)} on disk"
    )


def estimated(prepared: Prepared[Any], folder: Path, part: Part | None) -> str:
    """The same with time and memory, from a short trial; nothing is written."""
    words = foretold(prepared, folder, part)
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


def _outlook(prepared: Prepared[Any], folder: Path, part: Part | None) -> Outlook:
    tasks = tasks_of(prepared, folder)
    return Outlook.of(prepared, tasks if part is None else part.of(tasks))

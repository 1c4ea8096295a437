"""The work of ``genrobust status``."""

from __future__ import annotations

import time
from pathlib import Path

from genrobust.cli.progress import counted
from genrobust.errors import GenrobustError
from genrobust.runner.status import Status, runs_in, status_of

#: Seconds after which a shard of which nothing is heard may have been stopped, where no one knows.
SILENCE = 60


def print_status(folder: Path) -> None:
    """A few lines for each run at or below a folder."""
    runs = [*runs_in(folder)]
    for run in runs:
        try:
            print("\n".join(lines_of(run, status_of(run), time.time())))
        except GenrobustError as problem:
            if len(runs) == 1:
                raise
            print(f"{run}: {problem}")


def lines_of(run: Path, found: Status, now: float) -> list[str]:
    """What is said of one."""
    shards = len(found.plan.shards)
    heard = [b for b in found.under_way if now - b.time < SILENCE and not b.has_ended]
    state = f"{found.done} of {counted(shards, 'shard')} done"
    if found.finished:
        state += ", finished"
    elif found.done == shards:
        state += ", no record yet"
    else:
        state += f", {len(heard)} under way"
    lines = [f"{run}: {state}"]
    lines += [f"  {beat.share:.0%} of a shard: {beat.note}" for beat in heard]
    silent = len(found.under_way) - len(heard)
    if silent:
        lines.append(f"  {counted(silent, 'shard')} begun, of which nothing is heard now")
    if found.scores:
        lines.append(f"  robust accuracy so far, of {counted(found.sources, 'source')}, in %:")
        lines += [
            f"    {name}: {100 * e.value:.1f} [{100 * e.low:.0f}, {100 * e.high:.0f}]"
            for name, e in found.scores
        ]
    on = found.plan.onward(run)
    if on.command:
        lines.append(f"  {'came of' if found.finished else 'goes on with'}: {on.command}")
    elif not found.finished:
        lines.append(f"  to go on, {on.words}")
    return lines

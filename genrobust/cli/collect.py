"""The work of ``genrobust collect``."""

from __future__ import annotations

import shlex
from pathlib import Path

from genrobust.errors import GenrobustError
from genrobust.runner.status import Planned
from genrobust.runner.store import Store


def words_of(folder: Path) -> list[str]:
    """What to type, without ``genrobust``, to make the record of a run whose shards are all there.

    Raises:
        GenrobustError: the folder has no plan, or shards are missing.
    """
    plan = Planned.read(folder)
    store, shards = Store(folder), plan.shards
    absent = [n for n, spec in enumerate(shards, 1) if not store.has(spec)]
    if absent:
        raise GenrobustError(
            f"{len(absent)} of {len(shards)} shards are missing: {', '.join(map(str, absent))}; "
            f"compute them, the first with --shard {absent[0]}/{len(shards)}: "
            f"{plan.command} --shard {absent[0]}/{len(shards)}"
        )
    return shlex.split(plan.command)[1:]

"""The work of ``genrobust collect``."""

from __future__ import annotations

import shlex
from pathlib import Path

from genrobust._version import __version__
from genrobust.errors import GenrobustError
from genrobust.runner.status import Planned
from genrobust.runner.store import Store


def words_of(folder: Path) -> list[str]:
    """What to type, without ``genrobust``, to make the record of a run whose shards are all there.

    Raises:
        GenrobustError: the folder has no plan, or another version's, or shards are missing.
    """
    plan = Planned.read(folder)
    on = plan.onward(folder)
    if plan.genrobust != __version__:
        raise GenrobustError(f"'{folder}' is a run of genrobust {plan.genrobust}; {on.words}")
    store, shards = Store(folder, plan.identity), plan.shards
    absent = [n for n, spec in enumerate(shards, 1) if store.read(spec) is None]
    if absent:
        part = f"--shard {absent[0]}/{len(shards)}"
        advice = f"compute them, the first with {part}: {on.command} {part}"
        raise GenrobustError(
            f"{len(absent)} of {len(shards)} shards are missing: {', '.join(map(str, absent))}; "
            f"{advice if on.command else on.words}"
        )
    return shlex.split(on.command or plan.command)[1:]

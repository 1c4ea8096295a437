"""The work of ``genrobust collect``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from genrobust.errors import GenrobustError
from genrobust.runner.places import PLAN
from genrobust.runner.plan import ShardSpec
from genrobust.runner.smallest import NearestSpec
from genrobust.runner.store import Store


def words_of(folder: Path) -> list[str]:
    """What to type, without ``genrobust``, to make the record of a run whose shards are all there.

    Raises:
        GenrobustError: the folder has no plan, or shards are missing.
    """
    try:
        plan = json.loads((folder / PLAN).read_bytes())
        shards = TypeAdapter(list[NearestSpec | ShardSpec]).validate_python(plan["shards"])
        words = shlex.split(plan["command"])[1:]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as problem:
        raise GenrobustError(
            f"'{folder}' has no {PLAN} of this version of genrobust; give the folder of a run, "
            "which genrobust bench --shard has printed"
        ) from problem
    store = Store(folder)
    absent = [n for n, spec in enumerate(shards, 1) if not store.has(spec)]
    if absent:
        raise GenrobustError(
            f"{len(absent)} of {len(shards)} shards are missing: {', '.join(map(str, absent))}; "
            f"compute them, the first with --shard {absent[0]}/{len(shards)}: "
            f"{plan['command']} --shard {absent[0]}/{len(shards)}"
        )
    return words

"""What is known of a run from its folder alone, while it is under way or after it was stopped."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from genrobust._version import __version__
from genrobust.errors import GenrobustError
from genrobust.records.again import PLAN, Onward, begun_in, onward
from genrobust.records.record import Estimate
from genrobust.runner.curve import SmallestChanges
from genrobust.runner.plan import ShardSpec
from genrobust.runner.pulse import Beat, under_way
from genrobust.runner.purpose import Purpose, RobustAccuracy
from genrobust.runner.smallest import MinimumNormSpec
from genrobust.runner.store import Store
from genrobust.suites.suite import Suite, spelled_out

_SPECS: TypeAdapter[list[ShardSpec]] = TypeAdapter(list[MinimumNormSpec | ShardSpec])
_PURPOSES = {kind.command: kind for kind in (RobustAccuracy, SmallestChanges)}


@dataclass(frozen=True)
class Planned:
    """What ``plan.json`` says.

    Args:
        command: what was typed.
        identity: of the model.
        purpose: of the run.
        suite: as it is run.
        shards: of which it consists.
        begun: where its folder lay then.
    """

    command: str
    identity: str
    purpose: Purpose[Any, Any]
    suite: Suite
    shards: list[ShardSpec]
    begun: Path | None

    @classmethod
    def read(cls, folder: Path) -> Planned:
        """Raises GenrobustError if the folder has no plan."""
        try:
            plan = json.loads((folder / PLAN).read_bytes())
            suite = Suite.model_validate(plan["suite"])
            return cls(
                command=shlex.join(shlex.split(spelled_out(str(plan["command"]), suite))),
                identity=str(plan["identity"]),
                purpose=_PURPOSES[plan["purpose"]](),
                suite=suite,
                shards=_SPECS.validate_python(plan["shards"]),
                begun=begun_in(plan),
            )
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as problem:
            raise GenrobustError(
                f"'{folder}' has no {PLAN} of this version of genrobust; give the folder of a run, "
                "such as genrobust-runs/digits-v2/vae"
            ) from problem

    def onward(self, folder: Path) -> Onward:
        """How the run goes on, in the folder where it lies now."""
        return onward(folder, self.command, self.begun, self.genrobust)

    @property
    def genrobust(self) -> str:
        """The version that began it."""
        return next((shard.genrobust for shard in self.shards), __version__)


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Args:
        plan: of the run.
        done: how many shards are.
        under_way: what others say of themselves.
        finished: whether the record is written.
        sources: how many the done shards have.
        scores: the accuracies of these, by name.
    """

    plan: Planned
    done: int
    under_way: tuple[Beat, ...]
    finished: bool
    sources: int
    scores: tuple[tuple[str, Estimate], ...]


def status_of(folder: Path) -> Status:
    """Read a run's folder; nothing is written.

    Raises:
        GenrobustError: it has no plan.
    """
    plan = Planned.read(folder)
    store = Store(folder, plan.identity)
    parts, done, missing = [], [], set()
    for spec in plan.shards:
        measured = store.read(spec)
        if measured is None:
            missing.add(spec.key)
        else:
            done.append(spec)
            parts.append(plan.purpose.condensed(measured.tensors))
    beats = tuple(beat for key, beat in under_way(folder)().items() if key in missing)
    suite = plan.suite.model_copy(
        update={
            "sample_ids": tuple(i for spec in done for i in spec.sample_ids),
            "target_ids": tuple(i for spec in done for i in spec.target_ids),
        }
    )
    return Status(
        plan=plan,
        done=len(done),
        under_way=beats,
        finished=(folder / plan.purpose.file).is_file() and not missing,
        sources=len(suite.sample_ids),
        scores=tuple(plan.purpose.accuracies(suite, parts)) if parts else (),
    )


def runs_in(folder: Path) -> Iterator[Path]:
    """The folders of runs at or below a folder.

    Raises:
        GenrobustError: there is none.
    """
    found = sorted(path.parent for path in folder.rglob(PLAN))
    if not found:
        raise GenrobustError(
            f"'{folder}' holds no run; give the folder of one, or --out of genrobust bench, such "
            "as genrobust-runs"
        )
    yield from found

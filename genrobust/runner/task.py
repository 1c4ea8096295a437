"""One shard's work: on live objects in this process, or as text that any process can do."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from genrobust._version import __version__
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.model import GenerativeModel
from genrobust.runner.execute import Work
from genrobust.runner.executors.pool import enough_memory
from genrobust.runner.memory import in_memory, keep_freed_memory
from genrobust.runner.plan import ShardSpec
from genrobust.runner.prepare import Prepared, prepare
from genrobust.runner.provenance import device_of
from genrobust.runner.shard import Measured, run_shard
from genrobust.runner.smallest import MinimumNormSpec
from genrobust.runner.spec import RunSpec
from genrobust.runner.store import Store
from genrobust.suites.suite import Frozen


class _Text(Frozen):
    """What travels."""

    spec: RunSpec
    folder: str
    shard: MinimumNormSpec | ShardSpec


@dataclass(frozen=True, eq=False)
class Task(Work[Measured]):
    """A shard to be computed, and the run's folder, where its result goes."""

    shard: ShardSpec
    folder: Path
    prepared: Prepared[Any]

    @property
    def key(self) -> str:
        """The shard's name."""
        return self.shard.key

    def compute(self, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Compute the shard on one thread, and store its result.

        What is under way is kept too, now and then: a killed run goes on inside its shards.

        Returns:
            Whether it was done: not if ``cancelled`` said so between two attacks.

        Raises:
            GenrobustError: the model gave NaN, an attack left the threat model, the folder cannot
                be written, memory ran out.
        """
        store = Store(self.folder, self.prepared.identity)
        torch.set_num_threads(1)  # anew, as what ran before may have set another
        keep_freed_memory()
        with enough_memory():
            measured = self._measured(store, cancelled)
        if measured is None:
            return False
        store.write(self.shard, measured)
        store.checkpoint(self.shard).remove()
        return True

    def _measured(self, store: Store, cancelled: Callable[[], bool]) -> Measured | None:
        """What the shard found."""
        loaded = self.prepared.loaded

        def run(model: GenerativeModel) -> Measured | None:
            checkpoint = store.checkpoint(self.shard, cancelled)
            return run_shard(self.shard, loaded.watched(checkpoint.pulse, model), checkpoint)

        return in_memory(run, loaded.scorer.model, len(self.shard.sample_ids))

    def found(self) -> Measured | None:
        """The result, where the run's folder has it, whole and of this model."""
        return Store(self.folder, self.prepared.identity).read(self.shard)

    @property
    def device(self) -> str:  # type: ignore[override]
        """Where to compute."""
        return self.prepared.options.device

    @property
    def home(self) -> Path:  # type: ignore[override]
        """The run's folder."""
        return self.folder

    def text(self) -> str:
        """The task as JSON, from which :func:`read_task` makes it in another process."""
        spec = self.prepared.spec
        assert spec is not None, "a live model is refused where the run is prepared"
        folder = str(self.folder.absolute())
        return _Text(spec=spec, folder=folder, shard=self.shard).model_dump_json()


def read_task(text: str) -> Task:
    """The task; model, data and judges are loaded once and kept for the tasks of the same run.

    Raises:
        GenrobustError: they cannot be loaded here, or are not those that the task is about.
    """
    version = json.loads(text)["shard"]["genrobust"]
    if version != __version__:
        raise GenrobustError(
            f"the run is of genrobust {version}, and its worker has {__version__}; install the "
            "same version everywhere"
        )
    found = _Text.model_validate_json(text)
    prepared = _prepared(found.spec.model_dump_json())
    here = device_of(prepared.options, prepared.loaded.scorer.model)
    if prepared.identity != found.spec.identity or found.shard.device != here:
        raise GenrobustError(
            f"the model '{found.spec.model}' or its device ({here}) is not the one that the run "
            "began with; leave its file and weights alone while it runs, compute on machines of "
            "one kind, and type the command again; or, if it keeps what is another in each "
            "process, such as the time, a hash or a folder's random name, give --executor threads"
        )
    return Task(found.shard, Path(found.folder), prepared)


@lru_cache(maxsize=1)
def _prepared(spec: str) -> Prepared[Any]:
    """What the process that began the run has prepared too, and warned about."""
    given = RunSpec.model_validate_json(spec)
    options = replace(given.options, workers=1, executor="serial")
    with suppress(OSError):  # on another machine; what is missing there is said below
        os.chdir(given.home)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GenrobustWarning)
            return prepare(given.model, given.suite, options)
    except GenrobustError as problem:
        raise GenrobustError(
            f"a worker cannot prepare the run in its own process ({problem}); let what it needs be "
            "installed, or lie where the worker sees it, or give --executor threads"
        ) from problem

"""Threads of this process, which share one model: torch's kernels release Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

from genrobust.runner.execute import Work
from genrobust.runner.executors.base import Executor
from genrobust.runner.executors.pool import run_all


class Threads(Executor):
    """Threads of this process: quick to start.

    The run's preparation sees to it that the model can be shared.
    """

    elsewhere = False

    def run(self, tasks: Sequence[Work[Any]], workers: int) -> Generator[str, None, None]:
        def work(task: Work[Any], cancelled: Callable[[], bool]) -> str | None:
            return task.key if task.compute(cancelled) else None

        with closing(run_all(tasks, work, workers)) as done:
            for _, key in done:
                yield key

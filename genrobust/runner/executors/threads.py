"""Threads of this process, which share one model: torch's kernels release Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from genrobust.runner.execute import run_all
from genrobust.runner.executors.base import Executor
from genrobust.runner.task import Task


class Threads(Executor):
    """Threads of this process: quick to start.

    The run's preparation sees to it that the model can be shared.
    """

    elsewhere = False

    def run(self, tasks: Sequence[Task], workers: int) -> Generator[str, None, None]:
        def work(task: Task, cancelled: Callable[[], bool]) -> str | None:
            return task.key if task.compute(cancelled) else None

        with closing(run_all(tasks, work, workers)) as done:
            for _, key in done:
                yield key

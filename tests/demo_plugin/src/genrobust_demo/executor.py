"""An executor: the last shard first, each in a process that does nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Sequence
from typing import Any

from genrobust.runner.execute import Work
from genrobust.runner.executors import Executor
from genrobust.runner.executors.worker import finished

WORKER = [sys.executable, "-m", "genrobust.runner.executors.worker"]


class LastFirst(Executor):
    """What a cluster's submit command would be, is a process here."""

    most_workers = 1

    def run(self, tasks: Sequence[Work[Any]], workers: int) -> Generator[str, None, None]:
        said: set[str] = set()
        for task in reversed(tasks):
            ended = subprocess.run(WORKER, input=task.text(), stdout=subprocess.PIPE, text=True)
            yield finished(ended.stdout, said)

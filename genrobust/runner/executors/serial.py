"""One shard after the other, in the thread that asks: what a debugger wants."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch

from genrobust.runner.execute import Work
from genrobust.runner.executors.base import Executor


class Serial(Executor):
    """No worker but the caller."""

    elsewhere = False
    most_workers = 1

    def run(self, tasks: Sequence[Work[Any]], workers: int) -> Generator[str, None, None]:
        threads = torch.get_num_threads()
        try:
            for task in tasks:
                task.compute()
                yield task.key
        finally:
            torch.set_num_threads(threads)

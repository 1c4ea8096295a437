"""Jobs of Slurm, by submitit; where there is no Slurm, processes of this machine."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from genrobust.errors import GenrobustError
from genrobust.runner.execute import Work
from genrobust.runner.executors.base import Executor
from genrobust.runner.executors.worker import answer, finished

#: How often a shard is submitted whose job ends without an answer.
TRIES = 3
#: Minutes that a job may take; a shard that takes longer goes on in the next.
MINUTES = 240
#: Seconds between two looks at what has ended.
LOOK = 1.0


class Slurm(Executor):
    """A job a shard: one CPU each, and one GPU if the run is on GPUs.

    Partition, account and time limit are Slurm's own to say: ``SBATCH_PARTITION``,
    ``SBATCH_ACCOUNT``, ``SBATCH_TIMELIMIT``. What jobs say lies in the run's folder, under
    ``slurm``, until they have all ended well.
    """

    def run(self, tasks: Sequence[Work[Any]], workers: int) -> Generator[str, None, None]:
        try:
            import submitit
        except ImportError as problem:
            raise GenrobustError(
                f"the executor 'slurm' needs submitit, which cannot be imported ({problem}); type "
                "pip install 'genrobust[slurm]', or give --executor processes"
            ) from problem
        waiting = deque((task, 1) for task in tasks)
        running: list[tuple[Any, Work[Any], int]] = []
        said: set[str] = set()
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    task, turn = waiting.popleft()
                    executor = submitit.AutoExecutor(task.home / "slurm")
                    gpus = {"gpus_per_node": 1} if task.device.startswith("cuda") else {}
                    executor.update_parameters(
                        name="genrobust", timeout_min=MINUTES, cpus_per_task=1, **gpus
                    )
                    running.append((executor.submit(answer, task.text()), task, turn))
                ended = [one for one in running if one[0].done()]
                if not ended:
                    time.sleep(LOOK)
                for one in ended:
                    running.remove(one)
                    job, task, turn = one
                    failure = job.exception()
                    if failure is None:
                        yield finished(job.result(), said)
                    elif turn < TRIES:
                        waiting.append((task, turn + 1))
                    else:
                        raise GenrobustError(
                            f"a job of Slurm ended {TRIES} times within one shard without an "
                            f"answer; see what it said in '{job.paths.stderr}'"
                        ) from failure
            for folder in {task.home for task in tasks}:
                shutil.rmtree(folder / "slurm", ignore_errors=True)
        finally:
            for job, *_ in running:
                job.cancel()

"""Ray's workers, on this machine or on a cluster that shares the run's folder with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from genrobust.errors import GenrobustError, telling
from genrobust.runner.execute import Work
from genrobust.runner.executors.base import Executor
from genrobust.runner.executors.worker import answer, finished


class Ray(Executor):
    """Tasks of ray: one CPU each, and one GPU if the run is on GPUs.

    Uses the ray that the process has started, or that RAY_ADDRESS names, else one of its own.
    """

    def run(self, tasks: Sequence[Work[Any]], workers: int) -> Generator[str, None, None]:
        try:
            import ray
        except ImportError as problem:
            raise GenrobustError(
                f"the executor 'ray' needs ray, which cannot be imported ({problem}); type pip "
                "install 'genrobust[ray]', or give --executor processes"
            ) from problem
        own = not ray.is_initialized()
        if own:
            ray.init(include_dashboard=False, log_to_driver=True, logging_level="warning")
        waiting, said = deque(tasks), set[str]()
        running: list[Any] = []
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    task = waiting.popleft()
                    gpus = int(task.device.startswith("cuda"))
                    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=3)(answer)
                    running.append(remote.remote(task.text()))
                (done, *_), running = ray.wait(running)
                yield finished(ray.get(done), said)
        except ray.exceptions.RayError as problem:
            raise GenrobustError(
                f"ray cannot compute a shard ({telling(str(problem))}); see ray's "
                "own log, and whether genrobust and the run's folder are there on every machine"
            ) from problem
        finally:
            for one in running:
                ray.cancel(one, force=True)
            if own:
                ray.shutdown()

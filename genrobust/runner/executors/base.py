"""What an executor is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from genrobust.registry import Registry

if TYPE_CHECKING:
    from genrobust.runner.execute import Work


class Executor(ABC):
    """Has the shards of a run computed, in any order and any number of times.

    A shard is done when its result lies in the run's folder: an executor has nothing to bring back
    but its key. In its own process it calls :meth:`~genrobust.runner.execute.Work.compute`; to
    others it sends :meth:`~genrobust.runner.execute.Work.text`, has them call
    :func:`~genrobust.runner.executors.worker.answer` with it, and gives what they answer to
    :func:`~genrobust.runner.executors.worker.finished`.

    Attributes:
        elsewhere: whether it computes in other processes. A model is then built anew in each, and
            so must have been given by name or place; in this process workers share it.
        most_workers: how many it can use; None for any number.

    Example:
        >>> EXECUTORS.get("threads").elsewhere, EXECUTORS.get("processes").elsewhere
        (False, True)
    """

    elsewhere: ClassVar[bool] = True
    most_workers: ClassVar[int | None] = None

    @abstractmethod
    def run(self, tasks: Sequence[Work[Any]], workers: int) -> Generator[str, None, None]:
        """Yield the key of each task once it is done.

        When it is closed before its end (an error, Ctrl-C), what is under way is stopped.

        Raises:
            GenrobustError: a task failed.
        """


EXECUTORS: Registry[type[Executor]] = Registry(
    "executor",
    {
        "serial": "genrobust.runner.executors.serial:Serial",
        "threads": "genrobust.runner.executors.threads:Threads",
        "processes": "genrobust.runner.executors.processes:Processes",
        "ray": "genrobust.runner.executors.ray:Ray",
        "slurm": "genrobust.runner.executors.slurm:Slurm",
    },
    base=Executor,
)

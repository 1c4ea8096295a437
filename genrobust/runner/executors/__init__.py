"""Who computes a run's shards: this process, others, other machines."""

from genrobust.runner.executors.base import EXECUTORS, Executor

__all__ = ["EXECUTORS", "Executor"]

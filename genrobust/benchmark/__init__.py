"""The runner: plan, run shards, collect a record."""

from genrobust.benchmark.record import Record
from genrobust.benchmark.run import bench

__all__ = ["Record", "bench"]

"""The runner: plan, run shards, collect a record."""

from genrobust.bench.record import Record
from genrobust.bench.run import bench

__all__ = ["Record", "bench"]

"""The runner: plan, run shards, collect a record; and the curve of smallest changes."""

from genrobust.benchmark.curve import minimum_norm
from genrobust.benchmark.curve_record import MinimumNormRecord
from genrobust.benchmark.record import Record
from genrobust.benchmark.run import bench

__all__ = ["MinimumNormRecord", "Record", "bench", "minimum_norm"]

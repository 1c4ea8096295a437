"""The runner: plan, run shards, collect a record; and the curve of smallest changes."""

from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.record import Record
from genrobust.runner.curve import minimum_norm
from genrobust.runner.run import bench

__all__ = ["MinimumNormRecord", "Record", "bench", "minimum_norm"]

"""Judges: classifiers that say what a reconstruction shows."""

from genrobust.judges.judge import Judge, Panel, load_judge

__all__ = ["Judge", "Panel", "load_judge"]

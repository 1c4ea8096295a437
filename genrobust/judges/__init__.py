"""Judges: classifiers that say what a reconstruction shows."""

from genrobust.judges.judge import Judge, Panel
from genrobust.judges.load import JUDGES, Roles, load_judge, roles

__all__ = ["JUDGES", "Judge", "Panel", "Roles", "load_judge", "roles"]

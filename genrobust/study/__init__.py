"""Studies: many recipes and seeds on one suite, and what tells their robustness apart."""

from genrobust.study.score import Row
from genrobust.study.spec import RecipeEntry, Spec, read_spec
from genrobust.study.statistics import Interval
from genrobust.study.study import Study, load

__all__ = ["Interval", "RecipeEntry", "Row", "Spec", "Study", "load", "read_spec"]

"""How to search: each optimizer minimises a Problem inside a threat model."""

from genrobust.optimizers.adam import adam
from genrobust.optimizers.apgd import apgd
from genrobust.optimizers.problem import Minimum, Problem

__all__ = ["Minimum", "Problem", "adam", "apgd"]

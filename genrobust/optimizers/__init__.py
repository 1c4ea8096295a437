"""How to search: each optimizer minimises a Problem inside a threat model."""

from genrobust.optimizers.adam import adam
from genrobust.optimizers.apgd import apgd
from genrobust.optimizers.falling import falling
from genrobust.optimizers.fmn import fmn
from genrobust.optimizers.lbfgsb import lbfgsb
from genrobust.optimizers.pgd import pgd
from genrobust.optimizers.problem import Minimum, Penalty, Problem
from genrobust.optimizers.sgd import sgd

__all__ = [
    "Minimum",
    "Penalty",
    "Problem",
    "adam",
    "apgd",
    "falling",
    "fmn",
    "lbfgsb",
    "pgd",
    "sgd",
]

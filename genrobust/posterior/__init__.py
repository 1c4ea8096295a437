"""What an encoder says about an image: a product of parts, each of which answers for itself."""

from genrobust.posterior.base import FREE, PARTS, SHARED, Discrete, Part
from genrobust.posterior.categorical import Categorical
from genrobust.posterior.codebook import Codebook, Grid
from genrobust.posterior.gaussian import Gaussian
from genrobust.posterior.point import Point
from genrobust.posterior.posterior import Posterior
from genrobust.posterior.precision import LARGEST_EXPONENT, LARGEST_GRADIENT, exponential, wide

__all__ = [
    "FREE",
    "LARGEST_EXPONENT",
    "LARGEST_GRADIENT",
    "PARTS",
    "SHARED",
    "Categorical",
    "Codebook",
    "Discrete",
    "Gaussian",
    "Grid",
    "Part",
    "Point",
    "Posterior",
    "exponential",
    "wide",
]

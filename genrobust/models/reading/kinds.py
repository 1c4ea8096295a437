"""Of what kind the numbers are by which an encoder says how wide its code's Gaussian is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Spread(NamedTuple):
    """A kind of numbers that say how wide a Gaussian is.

    Args:
        name: for sentences.
        std: the standard deviation of such numbers.
        logvar: how to write the log-variance of numbers ``{}``.
    """

    name: str
    std: Callable[[Tensor], Tensor]
    logvar: str


LOGVAR = Spread("the log-variance", lambda s: (0.5 * s).exp(), "{}")
LOG_STD = Spread("the logarithm of a standard deviation", lambda s: s.exp(), "2 * {}")
STD = Spread("a standard deviation", lambda s: s.where(s > 0, torch.nan), "2 * {}.log()")
SPREADS = (
    LOGVAR,
    STD,
    # Of a layer whose numbers nothing makes positive, or of what was meant for its logarithm.
    Spread("a standard deviation of either sign", lambda s: s, "2 * {}.abs().log()"),
    Spread("a variance", lambda s: s.sqrt(), "{}.log()"),
    LOG_STD,
    Spread("the logarithm of a precision", lambda s: (-0.5 * s).exp(), "-{}"),
    Spread(
        "a standard deviation before softplus",
        lambda s: F.softplus(s),
        "2 * torch.nn.functional.softplus({}).log()",
    ),
    Spread(
        "a variance before softplus",
        lambda s: F.softplus(s).sqrt(),
        "torch.nn.functional.softplus({}).log()",
    ),
)

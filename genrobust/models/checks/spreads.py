"""How an encoder's output holds a mean and a spread, and what to type where that is misread."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from genrobust.models.checks.batches import tolerance_of
from genrobust.models.checks.halves import encoded, held_in
from genrobust.models.model import GenerativeModel
from genrobust.models.reading.kinds import LOGVAR, SPREADS, Spread
from genrobust.posterior import Gaussian


@dataclass(frozen=True)
class Reading:
    """What a Gaussian's log-variance was read from.

    Args:
        numbers: those of the spread, as the encoder gives them.
        kind: what they are read as.
        places: how to write what is taken of the output for the mean and for the spread; None
            where the encoder is a function of the user's, or its output does not show it.
        is_pair: these two are all that it gives, one after the other.
    """

    numbers: Tensor
    kind: Spread = LOGVAR
    places: tuple[str, str] | None = None
    is_pair: bool = False

    def typed(self, kind: Spread) -> str:
        """What to type where the numbers are of that kind."""
        if self.places is None:
            return (
                f"pass encode=, a function that returns (mean, {kind.logvar.format('s')}), where s "
                f"is what is read as {self.kind.name}"
            )
        if self.is_pair:
            pair = f"(lambda m, s: (m, {kind.logvar.format('s')}))(*module.encode(x))"
        else:
            mean, spread = (f"o{place}" for place in self.places)
            pair = f"(lambda o: ({mean}, {kind.logvar.format(spread)}))(module.encode(x))"
        return f"pass encode=lambda x: {pair}"

    def alone(self) -> str:
        """What to type where the mean is a code, and what is read as its spread says none."""
        if self.places is None:
            return "pass encode=, a function that returns the code alone, if it has no log-variance"
        return f"pass encode=lambda x: module.encode(x){self.places[0]} if that is the code"

    def turned(self) -> str:
        """What to type where the spread is the mean, or the code."""
        if self.places is None:
            return "pass encode=, a function that returns (mean, logvar) in this order, or the code"
        mean, spread = self.places
        pair = f"(lambda o: (o{spread}, o{mean}))(module.encode(x))"
        return (
            f"pass encode=lambda x: {'module.encode(x)[::-1]' if self.is_pair else pair} if they "
            f"are (logvar, mean), or encode=lambda x: module.encode(x){spread} if that is the code"
        )


def reading_of(model: GenerativeModel, x: Tensor, gaussian: Gaussian) -> Reading:
    """How the module's own encoder gives a Gaussian: by which of its numbers.

    Args:
        model: the model.
        x: images (B, C, H, W) in [0, 1].
        gaussian: what it reads of them.
    """
    with suppress(Exception):  # other people's code
        outputs = encoded(model, x)
        found = _found(held_in(outputs), gaussian, tolerance_of(model))
        if found is not None:
            pair = isinstance(outputs[0], (tuple, list)) and len(outputs[0]) == 2
            return replace(found, is_pair=pair and found.places == ("[0]", "[1]"))
    return Reading(gaussian.logvar)


def _found(held: Mapping[str, Tensor], gaussian: Gaussian, tolerance: float) -> Reading | None:
    """The first two in an output that are the Gaussian's mean and, of some kind, its spread."""

    def are(ours: Tensor, wanted: Tensor) -> bool:
        same = ours.shape == wanted.shape
        return same and torch.allclose(ours, wanted.double(), rtol=tolerance, atol=tolerance)

    mean = next((place for place, t in held.items() if are(t, gaussian.mean)), None)
    for kind, (place, numbers) in product(SPREADS, held.items()):
        read = 2 * kind.std(numbers).log()
        if mean is not None and place != mean and are(read, gaussian.logvar):
            return Reading(numbers.to(gaussian.logvar), kind, (mean, place))
    return None

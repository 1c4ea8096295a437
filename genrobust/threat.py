"""ThreatModel: how far an adversarial image may be from its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genrobust.arguments import real
from genrobust.errors import GenrobustError
from genrobust.seeding import per_sample

Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = ("linf", "l2")

#: Float32 rounding that ``check`` forgives.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class ThreatModel:
    """A ball around the source, cut with the box [0, 1].

    Args:
        norm: ``"linf"`` (largest change of a pixel) or ``"l2"`` (Euclidean length of the change).
        eps: the radius, in pixel units where white is 1; ``inf`` leaves only the box, as attacks
            with a penalty on the distance are published.

    Raises:
        GenrobustError: an unknown norm; a negative radius.

    Example:
        >>> threat = ThreatModel("linf", 0.1)
        >>> threat.project(torch.tensor([[[[0.9]]]]), torch.tensor([[[[0.2]]]])).round(decimals=2)
        tensor([[[[0.3000]]]])
    """

    norm: Norm = "linf"
    eps: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", real("eps", self.eps))
        if self.norm not in NORMS:
            raise GenrobustError(f"unknown norm '{self.norm}'; allowed are {', '.join(NORMS)}")
        if not self.eps >= 0:
            raise GenrobustError(f"eps is {self.eps}; it must be a number from 0 up, such as 0.1")

    def project(self, x_adv: Tensor, x: Tensor, radius: Tensor | None = None) -> Tensor:
        """The images moved into the ball around ``x`` and the box.

        Under L2 the ball comes first and the box second. As x is in the box, clipping moves each
        pixel towards x, so the result is in both (though not always the nearest such point).

        Args:
            x_adv: images, (B, C, H, W).
            x: their sources.
            radius: one for each sample in place of ``eps``, (B,).
        """
        eps = self.eps if radius is None else radius.view(-1, *[1] * (x.ndim - 1))
        if self.norm == "linf":
            low, high = (x - eps).clamp_min(0), (x + eps).clamp_max(1)
            return torch.minimum(torch.maximum(x_adv, low), high)
        change = x_adv - x
        return (x + change * self._shrink(change, eps)).clamp(0, 1)

    def random_start(
        self, x: Tensor, sample_ids: Sequence[int], seed: int, restart: int = 0
    ) -> Tensor:
        """A point in the ball for each image, keyed by (seed, sample id, restart).

        Without a ball it is a point within 1 of the source, cut to the box.
        """
        shape = x.shape[1:]
        if self.norm == "linf":

            def draw(generator: torch.Generator) -> Tensor:
                return 2 * torch.rand(shape, generator=generator) - 1
        else:

            def draw(generator: torch.Generator) -> Tensor:
                direction = torch.randn(shape, generator=generator)
                return direction / direction.norm().clamp_min(1e-12)

        noise = per_sample(draw, sample_ids, "start", self.norm, seed, restart).to(x)
        return self.project(x + min(self.eps, 1.0) * noise, x)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The norm of each change, (B,)."""
        order = float("inf") if self.norm == "linf" else 2
        return torch.linalg.vector_norm((x_adv - x).flatten(1), order, dim=1)

    def check(self, x_adv: Tensor, x: Tensor, who: str) -> None:
        """Assert that every image is finite, in the box and in the ball.

        Raises:
            GenrobustError: one is not; ``who`` is named.
        """
        if not x_adv.isfinite().all():
            raise GenrobustError(f"{who} gave NaN or infinite pixels; check model and settings")
        low, high = float(x_adv.min()), float(x_adv.max())
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            raise GenrobustError(
                f"{who} gave pixels from {low:.4f} to {high:.4f} where [0, 1] is allowed; end its "
                "search with threat.project(x_adv, x)"
            )
        farthest = float(self.distance(x_adv, x).max())
        if farthest > self.eps * (1 + TOLERANCE) + TOLERANCE * 0.1:
            raise GenrobustError(
                f"{who} moved an image by {farthest:.6f} in {self.norm} where eps {self.eps} is "
                "allowed; end its search with threat.project(x_adv, x)"
            )

    def _shrink(self, change: Tensor, eps: float | Tensor) -> Tensor:
        length = torch.linalg.vector_norm(change.flatten(1), dim=1).clamp_min(1e-12)
        return (eps / length.view(-1, *[1] * (change.ndim - 1))).clamp_max(1)

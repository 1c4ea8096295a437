"""ThreatModel: how far an adversarial image may be from its source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from genrobust.arguments import real
from genrobust.errors import GenrobustError
from genrobust.norms import TOLERANCE, Norm, allowed, load_norm, sound
from genrobust.seeding import per_sample

__all__ = ["TOLERANCE", "ThreatModel", "allowed"]


@dataclass(frozen=True, init=False)
class ThreatModel:
    """A ball around the source, cut with the box [0, 1].

    Args:
        norm: a norm or its name, such as ``"linf"`` (largest change of a pixel) or ``"l2"``
            (Euclidean length of the change).
        eps: the radius, in pixel units where white is 1; ``inf`` leaves only the box, as attacks
            with a penalty on the distance are published.

    Raises:
        GenrobustError: an unknown norm, or one from outside that is none; a negative radius.

    Example:
        >>> import torch
        >>> threat = ThreatModel("linf", 0.1)
        >>> threat.project(torch.tensor([[[[0.9]]]]), torch.tensor([[[[0.2]]]])).round(decimals=2)
        tensor([[[[0.3000]]]])
    """

    norm: Norm
    eps: float

    def __init__(self, norm: str | Norm = "linf", eps: float = 0.1) -> None:
        radius = real("eps", eps)
        if not radius >= 0:
            raise GenrobustError(f"eps is {eps}; it must be a number from 0 up, such as 0.1")
        found = sound(type(norm)) if isinstance(norm, Norm) else load_norm(str(norm))
        object.__setattr__(self, "norm", found)
        object.__setattr__(self, "eps", radius)

    def project(self, x_adv: Tensor, x: Tensor, radius: Tensor | None = None) -> Tensor:
        """The images moved into the ball around ``x`` and the box.

        Args:
            x_adv: images, (B, C, H, W).
            x: their sources.
            radius: one for each sample in place of ``eps``, (B,).
        """
        eps = self.eps if radius is None else radius.view(-1, *[1] * (x.ndim - 1))
        return self.norm.project(x_adv, x, eps)

    def projector(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """:meth:`project` around these sources, for searches that do so in each step.

        What depends on the sources alone is computed once.

        Args:
            x: the sources, (B, C, H, W) in the box.

        Example:
            >>> import torch
            >>> into = ThreatModel("linf", 0.1).projector(torch.tensor([[[[0.2]]]]))
            >>> into(torch.tensor([[[[0.9]]]])).round(decimals=2)
            tensor([[[[0.3000]]]])
        """
        if not self.norm.is_box:
            return lambda x_adv: self.project(x_adv, x)
        low, high = self.project(torch.zeros_like(x), x), self.project(torch.ones_like(x), x)
        return lambda x_adv: x_adv.clamp(low, high)

    def steepest(self, gradient: Tensor, x: Tensor) -> Tensor:
        """The direction of length 1 along which the loss rises fastest, for a step against it.

        Pixels that the step would push out of the box have no part in it, so that no length is
        spent on them; a ball that is a box keeps every pixel by itself from leaving.

        Args:
            gradient: of the loss, (B, C, H, W).
            x: where it was taken.
        """
        if self.norm.is_box:
            return self.norm.steepest(gradient, x)
        stuck = ((x <= 0) & (gradient > 0)) | ((x >= 1) & (gradient < 0))
        return self.norm.steepest(gradient.masked_fill(stuck, 0), x)

    def random_start(
        self, x: Tensor, sample_ids: Sequence[int], seed: int, restart: int = 0
    ) -> Tensor:
        """A point in the ball and the box for each image, keyed by (seed, sample id, restart)."""
        draw = partial(self.norm.draw, x.shape[1:])
        noise = per_sample(draw, sample_ids, "start", self.norm.name, seed, restart).to(x)
        farthest = self.norm.start_radius(x.shape[1:].numel())
        return self.project(x + min(self.eps, farthest) * noise, x)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The norm of each change, (B,)."""
        return self.norm.length(x_adv - x)

    def halved(self, x: Tensor) -> ThreatModel:
        """The ball of half the radius; of a wider one than the box, of half of what that allows."""
        return ThreatModel(self.norm, min(self.eps, self.norm.reach(x[0].numel())) / 2)

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
        if not farthest <= allowed(self.eps):  # NaN is outside too
            raise GenrobustError(
                f"{who} moved an image by {farthest:.6f} in {self.norm.name} where eps {self.eps} "
                "is allowed; end its search with threat.project(x_adv, x)"
            )

"""Pixels at the very edge of [0, 1], where a model that clips its images gives no gradient."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genrobust.models.model import GenerativeModel
from genrobust.seeding import generator, seeded

#: How far inside pixels are looked at, from near to far; a clip beyond the last is a model's own.
MARGINS = (2e-6, 2e-5, 2e-4, 2e-3, 2e-2, 0.1)

#: By how much the share of pixels without a gradient is larger at an edge than among grey ones, of
#: those of a channel that have one inside,
STUCK = 0.25

#: and how many of the pixels at that edge have one inside, at least.
ALIVE = 0.05

#: How many images are looked at.
IMAGES = 2


def with_edges(model: GenerativeModel) -> GenerativeModel:
    """The model, which takes gradients inside the box where it gives none at the box's edge.

    ``x.clamp(1e-6, 1 - 1e-6)``, ``relu6`` or the ``eps`` of a logit change no picture that can be
    seen, and autograd gives 0 for each pixel that is black or white. Such a pixel would stay where
    it is, and so would each that an attack moves as far as the edge.

    Example:
        >>> import genrobust
        >>> from torch.nn import functional as F
        >>> vae = genrobust.load_model("vae")
        >>> encode = lambda x: vae.module.encode(F.relu6(x))
        >>> genrobust.wrap(vae.module, encode=encode, input_shape=(1, 32, 32)).edge
        2e-06
        >>> vae.edge
        0.0
    """
    bare = replace(model, edge=0.0)
    if not model.differentiable:
        return bare
    x = _black_grey_white(model).to(model.device)
    dead = _gradient(bare, x) == 0
    channels = [Channel(x[:, c], dead[:, c]) for c in range(x.shape[1])]
    if not any(channel.may_be_stuck for channel in channels):
        return bare
    for margin in MARGINS:
        alive = _gradient(bare, x.clamp(margin, 1 - margin)) != 0
        if any(channel.is_stuck(alive[:, c]) for c, channel in enumerate(channels)):
            return replace(model, edge=margin)
    return bare


@dataclass(frozen=True)
class Channel:
    """The pixels of one channel, and which of them have no gradient."""

    x: Tensor
    dead: Tensor

    @property
    def may_be_stuck(self) -> bool:
        everywhere = torch.ones_like(self.dead)
        return any(self._excess(end, everywhere) >= STUCK * ALIVE for end in (0, 1))

    def is_stuck(self, alive: Tensor) -> bool:
        """Whether pixels that are alive inside are dead at an edge, and there alone."""
        return any(
            float(alive[self.x == end].float().mean()) >= ALIVE
            and self._excess(end, alive) >= STUCK
            for end in (0, 1)
        )

    def _excess(self, end: int, among: Tensor) -> float:
        """How much larger the share of dead pixels is at that end than between the two."""
        at_end, between = self.x == end, (self.x > 0) & (self.x < 1)
        return _share(self.dead[at_end & among]) - _share(self.dead[between & among])


def _share(pixels: Tensor) -> float:
    return float(pixels.float().mean()) if len(pixels) else 0.0


def _black_grey_white(model: GenerativeModel) -> Tensor:
    """Noise of which about a third each is black, grey and white."""
    draw = torch.rand(IMAGES, *model.input_shape, generator=generator("edges"))
    return (3 * draw - 1).clamp(0, 1)


def _gradient(model: GenerativeModel, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    with torch.enable_grad(), nullcontext() if model.draws == 1 else seeded(model.device, "edges"):
        shown = model.surrogate(x, "softmax")
        (gradient,) = torch.autograd.grad(shown.square().sum(), x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient

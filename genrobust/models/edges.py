"""Pixels at the very edge of [0, 1], where a model that clips its images gives no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from genrobust.models.model import UNEVEN, GenerativeModel, inside
from genrobust.seeding import generator, seeded

#: How far inside pixels are looked at, from near to far. Beyond the last no change that is measured
#: leads a pixel out of a clip.
MARGINS = tuple(2e-6 * 1.5**k for k in range(29))

#: By how much more of the pixels at an end of a channel must be without a gradient than of grey
#: ones, of those that have one at some margin.
STUCK = 0.25

#: How many of the pixels at an end must wake up at a margin, more than of grey ones, to go so far.
WAKE = 0.05

#: What is flat up to a margin changes by less than this part of what it does beyond,
FLAT = 0.5

#: where this much further is beyond, or as much as the margin itself.
BEYOND = 0.01

#: How far inside a gradient is taken that is infinite at an end or nearly so, as of ``sqrt`` at 0,
STEEP = 0.0025

#: which is where it is so many times as large right beside the end: it promises there what no
#: change that is measured gives.
STEEPER = 10.0

#: How many images are looked at.
IMAGES = 2


def with_edges(model: GenerativeModel) -> GenerativeModel:
    """The model, which takes gradients inside the box where it gives none at the box's edge.

    ``x.clamp(1e-6, 1 - 1e-6)``, ``relu6`` or the ``eps`` of a logit change no picture that can be
    seen, and autograd gives 0 for each pixel that is black or white. Such a pixel would stay where
    it is, and so would each that an attack moves as far as the edge.

    So it is where the gradient of black or white pixels alone is infinite or nearly so, as of a
    gamma, ``sqrt(x + 1e-8)``, ``log`` or ``atanh``: attacks would move nothing else.

    Each end of each channel has a margin of its own. What jumps at the end of its clip, as a
    threshold does, is let be: its gradient inside would be that of another picture.

    Example:
        >>> import genrobust
        >>> vae = genrobust.load_model("vae")
        >>> encode = lambda x: vae.module.encode(x.clamp(2e-5, 2))
        >>> model = genrobust.wrap(vae.module, encode=encode, input_shape=(1, 32, 32))
        >>> [(round(black, 6), white) for black, white in model.edge]
        [(2.5e-05, 0.0)]
        >>> vae.edge
        ()
    """
    bare = replace(model, edge=())
    x = _black_grey_white(model).to(model.device)
    margins = torch.zeros(x.shape[1], 2).to(x)
    gradients = (_gradient(bare, inside(x, margins + depth)) for depth in (0, MARGINS[0], STEEP))
    gradient, beside, further = gradients
    steep = ~gradient.isfinite()
    steep |= (beside.abs() > STEEPER * further.abs()) & (further != 0)
    asleep = dead = steep | (gradient == 0)
    if not any(_excess(x[:, c], dead[:, c], end) > WAKE for c, end in _ends(x)):
        return bare
    for margin in MARGINS:
        gradient = _gradient(bare, inside(x, margins.new_full(margins.shape, margin)))
        alive = gradient.isfinite() & (gradient != 0) & ~(steep & (margin < STEEP))
        for c, end in _ends(x):
            # The least deep of its pixels is as deep then as any was that woke up here.
            deeper = torch.zeros_like(margins)
            deeper[c, end] = margin * (1 + UNEVEN)
            wakes = _excess(x[:, c], (asleep & alive)[:, c], end) >= WAKE
            if wakes and (_excess(x[:, c], steep[:, c], end) > WAKE or _is_flat(bare, x, deeper)):
                margins[c, end] = deeper[c, end]
        asleep = asleep & ~alive
    for c, end in _ends(x):
        woken = ~asleep[:, c]
        if _excess(x[:, c][woken], dead[:, c][woken], end) < STUCK:
            margins[c, end] = 0
    edge = tuple((low, high) for low, high in margins.tolist())
    return replace(model, edge=edge) if margins.any() else bare


def _ends(x: Tensor) -> Iterator[tuple[int, int]]:
    return product(range(x.shape[1]), (0, 1))


def _black_grey_white(model: GenerativeModel) -> Tensor:
    """Noise of which about a third each is black, grey and white."""
    draw = torch.rand(IMAGES, *model.input_shape, generator=generator("edges"))
    return (3 * draw - 1).clamp(0, 1)


def _excess(x: Tensor, some: Tensor, end: int) -> float:
    """By how much more of a channel's pixels at that end are among some than of its grey ones."""
    return _share(some[x == end]) - _share(some[(x > 0) & (x < 1)])


def _share(pixels: Tensor) -> float:
    return float(pixels.float().mean()) if len(pixels) else 0.0


def _is_flat(model: GenerativeModel, x: Tensor, margins: Tensor) -> bool:
    """Whether the model sees the same until the margins, and something else beyond."""
    further = torch.where(margins > 0, margins + margins.clamp_min(BEYOND), 0)
    with torch.no_grad():
        at_edge, near, far = (
            _shown(model, one) for one in (x, inside(x, margins), inside(x, further))
        )
    return float((near - at_edge).abs().max()) < FLAT * float((far - near).abs().max())


def _shown(model: GenerativeModel, x: Tensor) -> Tensor:
    with nullcontext() if model.draws == 1 else seeded(model.device, "edges"):
        return model.surrogate(x, "softmax")


def _gradient(model: GenerativeModel, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(_shown(model, x).square().sum(), x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient

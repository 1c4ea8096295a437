"""Pixels at the very edge of [0, 1], where a model that clips its images gives no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from genrobust.models.model import UNEVEN, GenerativeModel, inside
from genrobust.seeding import generator

#: How far inside pixels are looked at, from near to far. Beyond the last no change that is measured
#: leads a pixel out of a clip. Near each other, as what lies far beyond is not flat.
MARGINS = tuple(2e-6 * 1.25**k for k in range(52))

#: By how much more of the pixels at an end of a channel must be without a gradient than of grey
#: ones, of those that have one at some margin, in some image.
STUCK = 0.25

#: How many of the pixels at an end, of those that the model reads, must wake up at a margin, more
#: than of grey ones, to go so far.
WAKE = 0.05

#: What is flat up to a margin changes by less than this part of what it does beyond,
FLAT = 0.5

#: where this much further is beyond, or as much as the margin itself.
BEYOND = 0.02

#: How far inside a gradient is taken that is infinite at an end or nearly so, as of ``sqrt`` at 0,
STEEP = 0.0025

#: which is where it is so many times as large right beside the end: it promises there what no
#: change that is measured gives.
STEEPER = 10.0

#: A gradient at an end is as good as none where it is less than this part of that so far inside, as
#: of a clip with soft corners: changes that are measured do far more than it promises,
FAINT = 0.1
FULL = 0.05

#: and a pixel wakes up where it is this part.
AWAKE = 0.25

#: How many areas of one colour an image has across, and down: what blurs it, or sees it smaller,
#: leaves them black and white.
AREAS = 4


def with_edges(model: GenerativeModel) -> GenerativeModel:
    """The model, which takes gradients inside the box where it gives none at the box's edge.

    ``x.clamp(1e-6, 1 - 1e-6)``, ``relu6`` or the ``eps`` of a logit change no picture that can be
    seen, and autograd gives 0 for each pixel that is black or white. Such a pixel would stay where
    it is, and so would each that an attack moves as far as the edge.

    So it is behind a soft clip, such as ``softplus(x - 0.03, beta=200) + 0.03``, that leaves them a
    gradient hundreds of times too small; and where that of black or white pixels alone is infinite
    or nearly so, as of a gamma, ``sqrt(x + 1e-8)``, ``log`` or ``atanh``: attacks would move
    nothing else.

    Each end of each channel has a margin of its own. What jumps at the end of its clip, as a
    threshold does, is let be: its gradient inside would be that of another picture.

    Example:
        >>> import genrobust
        >>> vae = genrobust.load_model("vae")
        >>> encode = lambda x: vae.module.encode(x.clamp(2e-5, 2))
        >>> model = genrobust.wrap(vae.module, encode=encode, input_shape=(1, 32, 32))
        >>> [(round(black, 6), white) for black, white in model.edge]
        [(2.6e-05, 0.0)]
        >>> vae.edge
        ()
    """
    bare = replace(model, edge=())
    x = _black_grey_white(model).to(model.device)
    margins = torch.zeros(x.shape[1], 2).to(x)
    depths = (0, MARGINS[0], STEEP, FULL, MARGINS[-1])
    gradients = [_gradient(bare, inside(x, margins + depth)) for depth in depths]
    gradient, beside, further, full, _ = gradients
    full = full.abs().nan_to_num(posinf=0)
    steep = ~gradient.isfinite()
    steep |= (beside.abs() > STEEPER * further.abs()) & (further != 0)
    asleep = dead = steep | (gradient == 0) | (gradient.abs() < FAINT * full)
    read = torch.stack([_is_one(gradient) for gradient in gradients]).any(0)

    def excess(some: Tensor, c: int, end: int, counted: Tensor) -> float:
        return _excess(x[:, c], some[:, c], end, counted[:, c])

    if not any(excess(dead, c, end, read) > WAKE for c, end in _ends(x)):
        return bare
    for margin in MARGINS:
        gradient = _gradient(bare, inside(x, margins.new_full(margins.shape, margin)))
        alive = _is_one(gradient) & (gradient.abs() >= AWAKE * full)
        alive &= ~(steep & (margin < STEEP))
        for c, end in _ends(x):
            # The least deep of its pixels is as deep then as any was that woke up here.
            deeper = torch.zeros_like(margins)
            deeper[c, end] = margin * (1 + UNEVEN)
            wakes = excess(asleep & alive, c, end, read) >= WAKE
            if wakes and (excess(steep, c, end, read) > WAKE or _is_flat(bare, x, deeper)):
                margins[c, end] = deeper[c, end]
        asleep = asleep & ~alive
    for c, end in _ends(x):
        if excess(dead, c, end, ~asleep) < STUCK:
            margins[c, end] = 0
    edge = tuple((low, high) for low, high in margins.tolist())
    return replace(model, edge=edge) if margins.any() else bare


def _ends(x: Tensor) -> Iterator[tuple[int, int]]:
    return product(range(x.shape[1]), (0, 1))


def _black_grey_white(model: GenerativeModel) -> Tensor:
    """Noise, and areas, of which about a third each are black, grey and white."""
    noise = torch.rand(1, *model.input_shape, generator=generator("edges"))
    areas = torch.rand(1, 1, AREAS, AREAS, generator=generator("edges", "areas"))
    areas = F.interpolate(areas, model.input_shape[1:])
    return (3 * torch.cat([noise, areas.expand_as(noise)]) - 1).clamp(0, 1)


def _is_one(gradient: Tensor) -> Tensor:
    return gradient.isfinite() & (gradient != 0)


def _excess(x: Tensor, some: Tensor, end: int, counted: Tensor) -> float:
    """By how much more of a channel's pixels (B, H, W) at that end are among some than of its grey
    ones, in the image where that is the most, of those that are counted."""

    def share(pixels: Tensor) -> Tensor:
        pixels = pixels & counted
        return (some & pixels).sum((1, 2)) / pixels.sum((1, 2)).clamp_min(1)

    return float((share(x == end) - share((x > 0) & (x < 1))).max())


def _is_flat(model: GenerativeModel, x: Tensor, margins: Tensor) -> bool:
    """Whether the model sees nearly the same until the margins, and more beyond."""
    further = torch.where(margins > 0, margins + margins.clamp_min(BEYOND), 0)
    with torch.no_grad():
        at_edge, near, far = (
            _shown(model, one) for one in (x, inside(x, margins), inside(x, further))
        )
    return bool((near - at_edge).norm() < FLAT * (far - near).norm())


def _shown(model: GenerativeModel, x: Tensor) -> Tensor:
    with model.keyed("edges"):
        return model.surrogate(x, "softmax")


def _gradient(model: GenerativeModel, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(_shown(model, x).square().sum(), x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient

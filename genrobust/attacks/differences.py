"""Finite differences: what a model really does, beside what autograd says of it.

Directions are rows of a Hadamard matrix, so that differences along all of them give a gradient
without cross-talk, and each moves every pixel by as much, so that what is rounded somewhere on the
way still averages out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.batch import Batch, Context
from genrobust.models.model import GenerativeModel
from genrobust.objectives.classifier import judge_margin
from genrobust.seeding import generator, noise_like

#: Directions, each of 1 and -1 at every pixel.
DIRECTIONS = 16
#: Half the length of a difference, per pixel: above what rounding hides, below where models bend.
STEP = 3e-3
#: The same where attacks differentiate through what stands for a deployment, which may round.
DECLARED_STEP = 2e-2
#: How many latents are looked at, those that move most, and the part of the largest move below
#: which one does not count.
LATENTS, ACTIVE = 8, 0.1
#: The passes of a look, forward and backward, a source.
LOOK = (2 * DIRECTIONS + 1, 1 + LATENTS)
#: The most blocks of pixels that are told apart.
MOST = 1024
#: Noise, per pixel, without which a maximum of equal pixels has a kink.
GRAIN = 0.05


def centre(x: Tensor, step: float) -> Tensor:
    """The nearest images around which a step fits in the box."""
    return x.clamp(step, 1 - step)


def textured(batch: Batch, step: float) -> Tensor:
    """Likewise, with noise."""
    noise = noise_like(batch.x, batch.sample_ids, "texture", batch.seed)
    return batch.x.clamp(step, 1 - step - GRAIN) + GRAIN * noise


def differences(
    function: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor, step: float
) -> Tensor:
    """Central differences of a function of images along directions (K, C, H, W), per unit.

    Args:
        function: images to (B, ...).
        x: the centre, (B, C, H, W).

    Returns:
        (K, B, ...).
    """
    with torch.no_grad():
        moved = [function(x + step * d) - function(x - step * d) for d in directions]
    return torch.stack(moved) / (2 * step)


def directions(shape: torch.Size, most: int = MOST) -> Tensor:
    """Directions of 1 and -1 that tell so many blocks of pixels apart, (K, C, H, W).

    K is the power of 2 that is not smaller than the number of blocks.
    """
    channels, height, width = shape
    side = block_side(shape, most)
    rows, columns = -(-height // side), -(-width // side)
    patterns = _hadamard(channels * rows * columns)
    coarse = patterns.view(len(patterns), channels, rows, columns)
    return F.interpolate(coarse, scale_factor=float(side))[..., :height, :width].contiguous()


def fine_directions(shape: torch.Size, count: int) -> Tensor:
    """So many directions of 1 and -1 that tell all pixels apart, (count, C, H, W).

    Where blocks move together what is right on average over each block looks right altogether.
    These are drawn for each pixel by itself, as no matrix of so many rows is needed.
    """
    if block_side(shape, MOST) == 1:
        return directions(shape)[:count]
    drawn = torch.randint(2, (count, *shape), generator=generator("fine directions"))
    return 2.0 * drawn - 1


def block_side(shape: torch.Size, most: int = MOST) -> int:
    """The side of the blocks of pixels that move together: 1 where images are small."""
    channels, height, width = shape
    side = 1
    while channels * -(-height // side) * -(-width // side) > max(most, channels):
        side += 1
    return side


@cache
def _hadamard(columns: int) -> Tensor:
    """Rows in a random order whose first columns are orthogonal, (N, columns)."""
    rows = torch.ones(1, 1)
    while len(rows) < columns:
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    source = generator("directions")
    signs = 2.0 * torch.randint(2, (len(rows),), generator=source) - 1
    order = torch.randperm(len(rows), generator=source)
    return (rows[order] * signs)[:, torch.randperm(len(rows), generator=source)][:, :columns]


def jacobian(
    function: Callable[[Tensor], Tensor], x: Tensor, step: float, most: int = MOST
) -> tuple[Tensor, int]:
    """Of a function of images with values (B, F), from differences alone: (B, F, C, H, W).

    Also gives how often the function was called. Where blocks of pixels move together, each pixel
    has an equal part of its block's slope.
    """
    along = directions(x.shape[1:], most).to(x)
    measured = differences(function, centre(x, step), along, step)
    pixels = block_side(x.shape[1:], most) ** 2
    slopes = torch.einsum("kbf,kchw->bfchw", measured, along) / (len(along) * pixels)
    return slopes, 2 * len(along)


def cosine(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Of vectors along a dimension, whatever their scale; 1 of two that are 0, and 0 of one.

    >>> cosine(torch.tensor([1e-30, 0.0]), torch.tensor([3.0, 4.0]), 0)
    tensor(0.6000)
    """
    one, other = one.double(), other.double()
    a, b = (v / v.abs().amax(dim, keepdim=True).clamp_min(1e-300) for v in (one, other))
    lengths = a.norm(dim=dim) * b.norm(dim=dim)
    both_zero = (a == 0).all(dim) & (b == 0).all(dim)
    found = (a * b).sum(dim) / lengths.clamp_min(1e-300)
    return torch.where(both_zero, torch.ones_like(found), found).float()


def one_draw(context: Context, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function with one draw of a random model."""

    def drawn(x: Tensor) -> Tensor:
        with context.model.keyed("differences", context.batch.seed, context.batch.sample_ids):
            return function(x)

    return drawn


def step_for(model: GenerativeModel) -> float:
    """Half the length of a difference, per pixel."""
    return STEP if model.deploy is None else DECLARED_STEP


def agreement(context: Context, step: float | None = None) -> tuple[Tensor, Tensor]:
    """Cosines of what a model does along directions with what its gradients say, (B,) each.

    Args:
        context: an untargeted or targeted batch with a judge.
        step: half the length of a difference, per pixel; default as the model is declared.

    Returns:
        That of the judge's margin on the surrogate reconstruction, and the least among the latents
        that move most.
    """
    model = context.model

    def margin_and_code(x: Tensor) -> Tensor:
        code = model.encode(x).relaxed()
        margin = judge_margin(model.decode(code), context)
        return torch.cat([margin[:, None], code.flatten(1).to(margin)], 1)

    look = one_draw(context, margin_and_code)
    step = step or step_for(model)
    x = textured(context.batch, step)
    along = directions(x.shape[1:])[:DIRECTIONS].to(x)
    measured = differences(look, x, along, step)
    moves = measured[..., 1:].norm(dim=0)
    most = moves.topk(min(LATENTS, moves.shape[1]), 1)
    chosen = torch.cat([torch.zeros_like(most.indices[:, :1]), 1 + most.indices], 1)
    with torch.enable_grad():
        image = x.detach().requires_grad_()
        values = look(image).gather(1, chosen)
        promised = torch.stack([_promised(image, column, along) for column in values.unbind(1)], 2)
    agree = cosine(measured.gather(2, chosen.expand(len(along), -1, -1)), promised, 0)
    active = most.values > ACTIVE * most.values[:, :1]
    return agree[:, 0].clone(), torch.where(active, agree[:, 1:], 1).amin(1)


def _promised(image: Tensor, values: Tensor, along: Tensor) -> Tensor:
    """What the gradient says of each value along directions, (K, B)."""
    gradient: Tensor | None = None
    if values.requires_grad:
        (gradient,) = torch.autograd.grad(values.sum(), image, retain_graph=True, allow_unused=True)
    if gradient is None:
        gradient = torch.zeros_like(image)
    scale = gradient.flatten(1).abs().amax(1).clamp_min(1e-38).view(-1, 1, 1, 1)
    return torch.einsum("bchw,kchw->kb", gradient / scale, along)

"""Whether autograd says what the model does: against finite differences, and along short ways.

It takes some hundred forward passes and ten backward a source, and no attack. A random model is
looked at with one draw, the same for all images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genrobust.attacks.differences import (
    DECLARED_STEP,
    agreement,
    cosine,
    directions,
    fine_directions,
    one_draw,
    step_for,
    textured,
)
from genrobust.batch import Batch, Context
from genrobust.models.model import GenerativeModel
from genrobust.objectives.classifier import judge_margin
from genrobust.outcomes.outcome import Directional
from genrobust.posterior import Discrete
from genrobust.runner.unreached import unreached

#: How long the ways are, per pixel, along which reconstructions may jump.
WAY = 0.1
#: Parts of such a way, and how often the one with the largest change is halved.
PARTS, HALVINGS = 4, 7
#: A change of less than that part of the reconstruction is none.
MOVED = 0.02
#: Groups of pixels by the size of their gradient, and directions in each.
GROUPS, EACH = 4, 4
#: The part of what all groups together do to the margin below which one does not count, and the
#: cosine of its differences ahead with those behind, likewise: below it they tell of rounding, or
#: of maxima that change, and not of a slope.
COUNTS, SMOOTH = 0.1, 0.8
#: Cosines below which longer differences are looked at too.
DOUBTFUL = 0.9


def directional(model: GenerativeModel, batch: Batch, gradient: Tensor) -> Directional:
    """For an untargeted batch with labels and a judge, and the margin's gradient at its sources."""
    context = Context(model, batch)
    # What a random model draws here must not move what it draws later.
    with model.keyed("directional", batch.seed):
        along, along_latent = agreement(context)
        either, latent_either = with_long(context, along, along_latent)
        along_pixels = _by_size(context)
        jump, response = _ways(context, gradient)
        lead = _lead(context)
        hidden = unreached(context)
    return Directional(
        along=along,
        along_latent=along_latent,
        along_either=either,
        along_latent_either=latent_either,
        along_pixels=along_pixels,
        jump=jump,
        response=response,
        lead=lead,
        unreached=hidden,
    )


def with_long(context: Context, *short: Tensor) -> tuple[Tensor, ...]:
    """The cosines of ``agreement``, or of long differences where those are above.

    What computes in few digits, such as bfloat16, hides a short difference.
    """
    found = tuple(cosines.clone() for cosines in short)
    doubtful = ~(torch.stack(found).amin(0) >= DOUBTFUL)
    positions = doubtful.nonzero()[:, 0]
    if len(positions) and step_for(context.model) < DECLARED_STEP:
        longer = agreement(context[positions], DECLARED_STEP)
        for cosines, long in zip(found, longer, strict=True):
            cosines[positions] = torch.fmax(cosines[positions], long)
    return found


def _by_size(context: Context) -> Tensor:
    """The least cosine of what the margin does with what its gradient says among groups of pixels.

    A few pixels have most of a gradient's length, and all move as far in a box: where it is wrong
    or none on the many, its cosine over all pixels is still near 1.
    """
    model = context.model

    def margin(x: Tensor) -> Tensor:
        return judge_margin(model.decode(model.encode(x).relaxed()), context)

    look, step = one_draw(context, margin), step_for(model)
    x = textured(context.batch, step)
    here, gradient = _value_and_gradient(look, x)
    pixels = x[0].numel()
    rank = gradient.flatten(1).abs().argsort(1).argsort(1)
    group = (rank * GROUPS // pixels).view_as(x)
    signs = fine_directions(x.shape[1:], EACH)[:, None].to(x)
    cosines, moves, smooth = [], [], []
    for number in range(GROUPS):
        along = signs * (group == number)  # (K, B, C, H, W)
        with torch.no_grad():
            ahead = torch.stack([look(x + step * d) - here for d in along])
            behind = torch.stack([here - look(x - step * d) for d in along])
        cosines.append(cosine(ahead + behind, (along * gradient).flatten(2).sum(2), 0))
        moves.append((ahead + behind).norm(dim=0))
        smooth.append(cosine(ahead, behind, 0) > SMOOTH)
    moved = torch.stack(moves)
    counts = torch.stack(smooth) & (moved > COUNTS * moved.sum(0))
    return torch.where(counts, torch.stack(cosines), 1).amin(0)


def _value_and_gradient(look: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """(B,), and in units of each image's largest entry, 0 where there is none, (B, C, H, W)."""
    with torch.enable_grad():
        image = x.detach().requires_grad_()
        values = look(image)
        gradient: Tensor | None = None
        if values.requires_grad:
            (gradient,) = torch.autograd.grad(values.sum(), image, allow_unused=True)
    gradient = torch.zeros_like(x) if gradient is None else gradient.nan_to_num()
    largest = gradient.flatten(1).abs().amax(1).clamp_min(1e-38)
    return values.detach(), gradient / largest.view(-1, 1, 1, 1)


@torch.no_grad()
def _ways(context: Context, gradient: Tensor) -> tuple[Tensor, Tensor]:
    model, x = context.model, context.batch.x
    discrete = context.source_posterior.is_discrete

    def look(image: Tensor) -> Tensor:
        # A code that is one of a list jumps by its nature, and its relaxation does not.
        relaxed = discrete and model.deploy is None
        return (model.surrogate(image, "softmax") if relaxed else model.reconstruct(image)).flatten(
            1
        )

    drawn = one_draw(context, look)
    noise = directions(x.shape[1:])[0].to(x)
    ways = [(x + WAY * step).clamp(0, 1) - x for step in (noise, -gradient.nan_to_num().sign())]
    start, ends = drawn(x), [drawn(x + way) for way in ways]
    moved = [(end - start).norm(dim=1) for end in ends]
    response = moved[0] / ways[0].flatten(1).norm(dim=1).clamp_min(1e-12)
    if discrete and model.deploy is not None:
        return torch.zeros_like(response), response
    least = MOVED * start.norm(dim=1).clamp_min(1e-12)
    jumps = [_jump(drawn, x, w) / torch.maximum(m, least) for w, m in zip(ways, moved, strict=True)]
    return torch.stack(jumps).amax(0), response


def _jump(look: Callable[[Tensor], Tensor], x: Tensor, way: Tensor) -> Tensor:
    """How far apart the ends of the smallest part are, halving where they are farthest apart."""
    shown = torch.stack([look(x + part / PARTS * way) for part in range(PARTS + 1)])
    low = (shown[1:] - shown[:-1]).norm(dim=2).argmax(0)
    each = torch.arange(len(x), device=x.device)
    first, last = shown[low, each], shown[low + 1, each]
    place, width = low.to(x) / PARTS, 1 / PARTS
    for _ in range(HALVINGS):
        width /= 2
        middle = look(x + (place + width).view(-1, 1, 1, 1) * way)
        upper = (last - middle).norm(dim=1) > (middle - first).norm(dim=1)
        place = torch.where(upper, place + width, place)
        first = torch.where(upper[:, None], middle, first)
        last = torch.where(upper[:, None], last, middle)
    return (last - first).norm(dim=1)


def _lead(context: Context) -> Tensor:
    leads = []
    for part in context.source_posterior.parts:
        if isinstance(part, Discrete) and part.scores_are_logits:
            best = part.scores().topk(2, -1).values
            leads.append((best[..., 0] - best[..., 1]).amin(1))
    return torch.stack(leads).amin(0) if leads else context.batch.x.new_zeros(len(context.batch))

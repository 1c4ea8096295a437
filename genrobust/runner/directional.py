"""Whether autograd says what the model does: against finite differences, and along short ways.

It takes some seventy forward passes and ten backward a source, and no attack. A random model is
looked at with one draw, the same for all images.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from genrobust.attacks.differences import agreement, directions, one_draw
from genrobust.batch import Batch, Context
from genrobust.models.model import GenerativeModel
from genrobust.outcomes.outcome import Directional
from genrobust.posterior import Categorical
from genrobust.seeding import seeded

#: How long the ways are, per pixel, along which reconstructions may jump.
WAY = 0.1
#: Parts of such a way, and how often the one with the largest change is halved.
PARTS, HALVINGS = 4, 7
#: A change of less than that part of the reconstruction is none.
MOVED = 0.02


def directional(model: GenerativeModel, batch: Batch, gradient: Tensor) -> Directional:
    """For an untargeted batch with labels and a judge, and the margin's gradient at its sources."""
    context = Context(model, batch)
    # What a random model draws here must not move what it draws later.
    alone = nullcontext() if model.draws == 1 else seeded(batch.x.device, "directional", batch.seed)
    with alone:
        along, along_latent = agreement(context)
        jump, response = _ways(context, gradient)
        lead = _lead(context)
    return Directional(
        along=along, along_latent=along_latent, jump=jump, response=response, lead=lead
    )


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
        if isinstance(part, Categorical):
            best = part.scores().topk(2, -1).values
            leads.append((best[..., 0] - best[..., 1]).amin(1))
    return torch.stack(leads).amin(0) if leads else context.batch.x.new_zeros(len(context.batch))

"""Whether autograd says what the model does: against finite differences, and along short ways.

It takes some seventy forward passes and ten backward a source, and no attack. A random model is
looked at with one draw, the same for all images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genrobust.attacks.differences import cosine, differences, directions, textured
from genrobust.batch import Batch, Context
from genrobust.models.model import GenerativeModel
from genrobust.objectives.classifier import judge_margin
from genrobust.outcomes.outcome import Directional
from genrobust.posterior import Categorical
from genrobust.seeding import seeded

#: Directions, each of 1 and -1 at every pixel.
DIRECTIONS = 16
#: Half the length of a difference, per pixel: above what rounding hides, below where models bend.
STEP = 5e-3
#: The same where attacks differentiate through what stands for a deployment, which may round.
DECLARED_STEP = 2e-2
#: How many latents are looked at, those that move most, and the part of the largest move below
#: which one does not count.
LATENTS, ACTIVE = 8, 0.1
#: How long the ways are, per pixel, along which reconstructions may jump.
WAY = 0.1
#: Parts of such a way, and how often the one with the largest change is halved.
PARTS, HALVINGS = 4, 7
#: A change of less than that part of the reconstruction is none.
MOVED = 0.02


def directional(model: GenerativeModel, batch: Batch, gradient: Tensor) -> Directional:
    """For an untargeted batch with labels and a judge, and the margin's gradient at its sources."""
    context = Context(model, batch)
    along, along_latent = _along(context)
    jump, response = _ways(context, gradient)
    return Directional(
        along=along,
        along_latent=along_latent,
        jump=jump,
        response=response,
        lead=_lead(context),
    )


def _alone(context: Context, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function with one draw of a random model."""
    if context.model.draws == 1:
        return function

    def drawn(x: Tensor) -> Tensor:
        with seeded(x.device, "directional", context.batch.seed, context.batch.sample_ids):
            return function(x)

    return drawn


def _along(context: Context) -> tuple[Tensor, Tensor]:
    model = context.model

    def margin_and_code(x: Tensor) -> Tensor:
        code = model.encode(x).relaxed()
        margin = judge_margin(model.decode(code), context)
        return torch.cat([margin[:, None], code.flatten(1).to(margin)], 1)

    look = _alone(context, margin_and_code)
    step = STEP if model.deploy is None else DECLARED_STEP
    x = textured(context.batch, step)
    along = directions(x.shape[1:], DIRECTIONS).to(x)
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
    return agree[:, 0], torch.where(active, agree[:, 1:], 1).amin(1)


def _promised(image: Tensor, values: Tensor, along: Tensor) -> Tensor:
    """What the gradient says of each value along directions, (K, B)."""
    gradient = None
    if values.requires_grad:
        options = {"retain_graph": True, "allow_unused": True}
        (gradient,) = torch.autograd.grad(values.sum(), image, **options)
    if gradient is None:
        gradient = torch.zeros_like(image)
    scale = gradient.flatten(1).abs().amax(1).clamp_min(1e-38).view(-1, 1, 1, 1)
    return torch.einsum("bchw,kchw->kb", gradient / scale, along)


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

    drawn = _alone(context, look)
    noise = directions(x.shape[1:], 1).to(x)[0]
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

"""Whether a part of the code moves with the image, and no gradient says so.

A label by argmax, also one that is given as a category, or a code that is rounded, has no gradient
at all, and short differences of it are 0 as well: the two agree, and attacks never learn that the
decoder follows it. So images that are far apart are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.attacks.differences import one_draw
from genrobust.batch import Context
from genrobust.models.model import GenerativeModel
from genrobust.posterior import Discrete
from genrobust.seeding import generator, noise_like

#: A number of the code is not reached where its gradient, in the whole box, moves it by less than
#: that part of how far it moves between the images, or of that of the best reached.
REACHED = 0.01

#: Directions along which the code's gradient is taken.
EACH = 2

#: The most numbers of a part of the code of which each gets a pass backward by itself, where
#: autograd follows none.
NUMBERS = 128


def unreached(context: Context) -> Tensor:
    """How much of what the decoder does hangs on code that no gradient reaches, (B,).

    That of a source is exchanged with that of its negative, of itself upside down and cut in
    quarters, of noise and of blots: the most that this moves the reconstruction, in parts of what
    the whole code of that image does. What is not reached at any of them counts. 0 of models
    without gradients, or whose gradients have none, and of discrete parts that gradients reach,
    which attacks switch.
    """
    model, x = context.model, context.batch.x
    none = x.new_zeros(len(x))
    if not model.differentiable:
        return none
    looks = [_codes_and_reach(model, image) for image in (x, *_others(context))]
    known = [look for look in looks if look is not None]
    if len(known) < len(looks):
        return none
    codes, reach = (torch.stack(each) for each in zip(*known, strict=True))  # (K, B, L)
    share = reach / (codes.amax(0) - codes.amin(0)).clamp_min(1e-38)
    # Of the best reached, where all are little: gradients of any scale can be followed.
    still = (share <= REACHED * share.amax((0, 2), keepdim=True).clamp_max(1)).all(0)
    if not still.any():
        return none
    shape = context.source_posterior.relaxed().shape
    decode = one_draw(context, lambda code: model.decode(code.view(shape)).flatten(1))
    with torch.no_grad():
        here = decode(codes[0])

        def moved(code: Tensor) -> Tensor:
            return (decode(code) - here).norm(dim=1)

        shares = [
            moved(torch.where(still, other, codes[0])) / moved(other).clamp_min(1e-12)
            for other in codes[1:]
        ]
    return torch.stack(shares).nan_to_num().amax(0)


def _others(context: Context) -> Iterator[Tensor]:
    x = context.batch.x
    height, width = x.shape[2:]
    twice = x[:, None].expand(-1, 2, -1, -1, -1)
    noise = noise_like(twice, context.batch.sample_ids, "far", context.batch.seed)
    yield 1 - x
    yield x.flip((2, 3))
    yield x.roll((height // 2, width // 2), (2, 3))
    yield noise[:, 0]
    yield F.interpolate(F.adaptive_avg_pool2d(noise[:, 1], (3, 3)).round(), (height, width))


def _codes_and_reach(model: GenerativeModel, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """The relaxed code, and how far its gradient moves each number in the box at most, (B, L) each.

    Where a discrete part is reached, it moves as far as attacks switch it; where it is not, as a
    label whose logits are a choice already, its code is the deployed one. None of a long code whose
    gradient has no gradient itself, so that this is not known.
    """
    signs = [
        2.0 * torch.randint(2, x.shape[1:], generator=generator("reach", k)) - 1
        for k in range(EACH)
    ]
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        codes, moves = [], []
        for part in model.encode(x).parts:
            code = part.relaxed(1.0).flatten(1)
            if isinstance(part, Discrete):
                reached = _is_reached(part, x)[:, None]
                codes.append(torch.where(reached, code, part.mode().flatten(1)).detach())
                moves.append(torch.where(reached, math.inf, torch.zeros_like(code)))
                continue
            codes.append(code.detach())
            along = _along(code, x, signs)
            if along is None:
                return None
            moves.append(along * math.sqrt(x[0].numel()))
    return torch.cat(codes, 1), torch.cat(moves, 1)


def _is_reached(part: Discrete, x: Tensor) -> Tensor:
    """Whether any of its scores has a gradient, of whatever size, (B,) bool."""
    scores = part.scores().flatten(1)
    if not scores.requires_grad:
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)
    # Weighted, as scores may have a sum that never moves.
    weights = torch.rand(scores.shape[1:], generator=generator("scores")).to(scores)
    (slope,) = torch.autograd.grad(
        (scores * weights).sum(), x, retain_graph=True, materialize_grads=True
    )
    return slope.flatten(1).any(1)


def _along(code: Tensor, x: Tensor, directions: list[Tensor]) -> Tensor | None:
    """The largest slope of each number along the directions, (B, L); None: too long to look."""
    if not code.requires_grad:
        return torch.zeros_like(code)
    found = _of_all_at_once(code, x, directions)
    if found is None and code.shape[1] <= NUMBERS:
        return _one_by_one(code, x, directions)
    return found


def _one_by_one(code: Tensor, x: Tensor, directions: list[Tensor]) -> Tensor:
    """The largest slope of each number, (B, L), by a pass backward of each."""
    found = torch.zeros_like(code)
    for number, of_it in zip(code.unbind(1), found.unbind(1), strict=True):
        (slope,) = torch.autograd.grad(
            number.sum(), x, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        along = [(slope * direction).flatten(1).sum(1).abs() for direction in directions]
        of_it.copy_(torch.stack(along).amax(0))
    return found


def _of_all_at_once(code: Tensor, x: Tensor, directions: list[Tensor]) -> Tensor | None:
    """The largest slope of each number, (B, L), by the gradient of a gradient, if it has one."""
    found = torch.zeros_like(code)
    weights = torch.ones_like(code).requires_grad_()

    def slope_of(numbers: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(
            numbers.sum(), x, create_graph=True, allow_unused=True, materialize_grads=True
        )
        return slope

    try:
        slope = slope_of(code * weights)
        for direction in directions if slope.requires_grad else ():
            (along,) = torch.autograd.grad(
                (slope * direction).sum(), weights, retain_graph=True, materialize_grads=True
            )
            found = torch.maximum(found, along.abs())
        # Some passes backward are not followed by autograd, and some fail where they are.
        return None if slope_of(code[found == 0]).any() else found
    except RuntimeError:
        return None

"""Masks inside a sound model: each a function from the model to one that hides its gradients.

What it gives for an image is nearly what the model gave; what autograd says of it is not. Some
look for the one place where a check of gradients does not look: a few latents, some pixels, the
pass backward alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust.data.base import load_images
from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import wrap
from genrobust.posterior import Categorical, Gaussian, Point, Posterior
from genrobust.seeding import generator

#: How many latents are hidden.
LATENTS = 6
#: What latents are rounded to.
GRAIN = 0.05
#: The median pixel's difference from its neighbours' mean above which an image is no digit.
ROUGH = 0.016
#: How many images are no crowd.
CROWD = 4
#: The distance of a code from its nearest class, in parts of that from the next, that is a border.
MOAT = 0.85
#: How many training images a detector or a purifier knows.
KNOWN = 1000


def inside(
    model: GenerativeModel,
    name: str,
    encode: Callable[[Tensor], Any] | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    *,
    clamp: bool = False,
) -> GenerativeModel:
    """The model with another encoder or decoder, and without a ``forward`` that tells of it."""
    holder = nn.Module()
    holder.masked = model.module
    return wrap(
        holder,
        encode=encode or model.encode,
        decode=decode or model.decode,
        input_shape=model.input_shape,
        clamp=clamp,
        draws=model.draws,
        name=f"{model.name}, {name}",
    )


def on_pixels(name: str, see: Callable[[Tensor], Tensor]) -> Callable[..., GenerativeModel]:
    """A mask on what the encoder is given."""

    def hide(model: GenerativeModel) -> GenerativeModel:
        return inside(model, name, encode=lambda x: model.encode(see(x)))

    return hide


def on_latents(
    name: str, change: Callable[[Tensor, Tensor], Tensor]
) -> Callable[..., GenerativeModel]:
    """A mask on Gaussian means (B, L), given also which latents the decoder listens to most."""

    def hide(model: GenerativeModel) -> GenerativeModel:
        chosen = _most_active(model)

        def encode(x: Tensor) -> Posterior:
            parts = list(model.encode(x).parts)
            for p, part in enumerate(parts):
                if isinstance(part, Gaussian):
                    parts[p] = replace(part, mean=change(part.mean, chosen))
            return Posterior(tuple(parts))

        return inside(model, name, encode=encode)

    return hide


def backward_as(sound: Tensor, lie: Tensor) -> Tensor:
    """The first forward, and the gradient of the second."""
    return sound.detach() + lie - lie.detach()


# On pixels


def _some(share: float, image: Tensor) -> Tensor:
    """1 on so many of the pixels, at random places that are always the same."""
    draw = torch.rand(image.shape[1:], generator=generator("some pixels", share))
    return (draw < share).to(image)


def _partial(share: float) -> Callable[[Tensor], Tensor]:
    return lambda x: backward_as(x, _some(share, x) * x)


def _wrong_on_a_part(x: Tensor) -> Tensor:
    return backward_as(x, (2 * _some(0.5, x) - 1) * x)


def _lower_half(x: Tensor) -> Tensor:
    rows = torch.arange(x.shape[-2], device=x.device)[:, None] >= x.shape[-2] // 2
    return backward_as(x, x * rows)


def _blurred(x: Tensor) -> Tensor:
    return backward_as(x, F.avg_pool2d(x, 9, 1, 4, count_include_pad=False))


def _displaced(x: Tensor) -> Tensor:
    return backward_as(x, x.roll((3, 3), (-2, -1)))


class _Unchanged(torch.autograd.Function):
    """The image as it is; what is derived from this says what its gradient becomes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)


class _Noisy(_Unchanged):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        noise = torch.randn(grad.shape[1:], generator=generator("noisy gradient")).to(grad)
        rms = grad.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1)
        return grad + 3 * rms * noise


class _Largest(_Unchanged):
    """The many pixels that matter less have none: most of the gradient's length stays."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        least = grad.abs().flatten(1).quantile(0.7, 1).view(-1, 1, 1, 1)
        return grad * (grad.abs() > least)


class _OffTheData(torch.autograd.Function):
    """Another gradient where the image is rougher than data, as attacked ones are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,), (x,) = grads, ctx.saved_tensors
        fine = (x - F.avg_pool2d(x, 3, 1, 1)).abs().flatten(1).median(1).values
        return torch.where((fine > ROUGH).view(-1, 1, 1, 1), -grad.flip(-1), grad)


class _InACrowd(_OffTheData):
    """Likewise, of more images at once than a check of single ones asks."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] if len(grads[0]) <= CROWD else _OffTheData.backward(ctx, *grads)


class _Scaled(_Unchanged):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 1e-30 * grads[0]


def _only_without_gradients(x: Tensor) -> Tensor:
    """Another function where somebody differentiates."""
    return x.flip(-1) if x.requires_grad and torch.is_grad_enabled() else x


# Training images in place of the image


@cache
def _known() -> Tensor:
    return load_images("digits", "train").take(range(KNOWN))


def _nearest(x: Tensor) -> Tensor:
    known = _known().to(x)
    return known[torch.cdist(x.flatten(1), known.flatten(1)).argmin(1)]


def _roughness(x: Tensor) -> Tensor:
    return (x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)).flatten(1).abs().mean(1)


def _detector(x: Tensor) -> Tensor:
    rough = _roughness(x) > 1.05 * _roughness(_known().to(x)).max()
    return torch.where(rough.view(-1, 1, 1, 1), _nearest(x), x)


def _gate(x: Tensor) -> Tensor:
    """The detector without a step, and with true gradients: where it is shut there are none."""
    limit = _roughness(_known().to(x)).max()
    shut = ((_roughness(x) - 1.08 * limit) / (0.02 * limit)).sigmoid().view(-1, 1, 1, 1)
    return x + shut * (_nearest(x).detach() - x)


def _coarse_ripple(x: Tensor) -> Tensor:
    """As wide as the radius, with true gradients: differences of a step or two agree with them."""
    return x + 0.01 * torch.sin(2 * torch.pi * x / 0.03)


def _purified(x: Tensor) -> Tensor:
    """Most of the way to the nearest training image, that seems the image itself backward."""
    return backward_as(0.3 * x + 0.7 * _nearest(x), x)


def _softly_purified(x: Tensor) -> Tensor:
    """A mean of training images whose weights leave one, so that its true gradient is none."""
    known = _known().to(x)
    weights = (-20 * torch.cdist(x.flatten(1), known.flatten(1)).square()).softmax(1)
    return (weights @ known.flatten(1)).view_as(x)


# On latents


@torch.no_grad()
def _most_active(model: GenerativeModel) -> Tensor:
    """Where the means are whose change by 1 the decoder shows most, as a mask (L,)."""
    posterior = model.encode(torch.full((1, *model.input_shape), 0.1, device=model.device))
    code, latents = posterior.mode(), posterior.means().shape[1]
    moved = code + torch.eye(code.shape[1], device=code.device)[:latents]
    effect = (model.decode(moved) - model.decode(code)).flatten(1).norm(dim=1)
    chosen = torch.zeros(latents, device=code.device)
    chosen[effect.topk(min(LATENTS, latents)).indices] = 1
    return chosen


def _detached(mean: Tensor, chosen: Tensor) -> Tensor:
    return backward_as(mean, (1 - chosen) * mean)


def _rounded(mean: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen > 0, (mean / GRAIN).round() * GRAIN, mean)


def _negated(mean: Tensor, chosen: Tensor) -> Tensor:
    return backward_as(mean, (1 - 2 * chosen) * mean)


def _rippled(mean: Tensor, chosen: Tensor) -> Tensor:
    return mean + 0.03 * (200 * mean).sin()


def _first_of_batch(x: Tensor) -> Tensor:
    """Only the first image of a batch has a gradient."""
    return torch.cat([x[:1], x[1:].detach()])


@torch.no_grad()
def _centres(model: GenerativeModel) -> Tensor:
    """The mean code of each class, (classes, L)."""
    images = load_images("digits", "train")
    ids = range(KNOWN)
    codes, labels = model.encode(images.take(ids)).mode(), images.labels_of(ids)
    return torch.stack([codes[labels == one].mean(0) for one in labels.unique()])


class _Moat(torch.autograd.Function):
    """Codes that are nearly as near to a second class as to the first have the gradient negated."""

    @staticmethod
    def forward(ctx: Any, code: Tensor, centres: Tensor) -> Tensor:
        first, second = torch.cdist(code, centres).topk(2, largest=False).values.unbind(1)
        ctx.save_for_backward(first > MOAT * second)
        return code.view_as(code)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,), (inside_it,) = grads, ctx.saved_tensors
        return torch.where(inside_it[:, None], -grad, grad), None


def moat(model: GenerativeModel) -> GenerativeModel:
    """The gradient is right within each class and leads back from the borders between them."""
    centres = _centres(model)

    def encode(x: Tensor) -> Posterior:
        parts = list(model.encode(x).parts)
        for p, part in enumerate(parts):
            if isinstance(part, Gaussian):
                parts[p] = replace(part, mean=_Moat.apply(part.mean, centres.to(part.mean)))
        return Posterior(tuple(parts))

    return inside(model, "moat", encode=encode)


def hard_label(model: GenerativeModel) -> GenerativeModel:
    """The code is its nearest class, by a hard choice, and a quarter of what is left of it."""
    centres = _centres(model)

    def encode(x: Tensor) -> Posterior:
        code = model.encode(x).mode()
        nearest = torch.cdist(code, centres.to(code)).argmin(1)
        label = F.one_hot(nearest, len(centres)).to(code)
        return Posterior((Point(0.25 * (code - label @ centres.to(code))), Point(label)))

    def decode(code: Tensor) -> Tensor:
        rest, label = code.split([centres.shape[1], len(centres)], 1)
        return model.decode(rest + label @ centres.to(code))

    return inside(model, "hard label", encode=encode, decode=decode)


# On categories


def too_sure(model: GenerativeModel) -> GenerativeModel:
    """Probabilities at ten times their logits, as an encoder gives them that is too sure."""

    def encode(x: Tensor) -> Posterior:
        parts = list(model.encode(x).parts)
        for p, part in enumerate(parts):
            if isinstance(part, Categorical):
                sure = (10 * part.logits).softmax(-1)
                parts[p] = replace(part, logits=sure.clamp_min(1e-37).log())
        return Posterior(tuple(parts))

    return inside(model, "too sure", encode=encode)


latents_detached = on_latents("latents detached", _detached)
latents_rounded = on_latents("latents rounded", _rounded)
latents_negated = on_latents("latents negated backward", _negated)
latents_rippled = on_latents("latents rippled", _rippled)
pixels_30 = on_pixels("gradient on 30% of the pixels", _partial(0.3))
pixels_50 = on_pixels("gradient on 50% of the pixels", _partial(0.5))
wrong_on_a_part = on_pixels("gradient wrong on a part", _wrong_on_a_part)
lower_half = on_pixels("gradient on the lower half", _lower_half)
blurred = on_pixels("blurred gradient", _blurred)
displaced = on_pixels("displaced gradient", _displaced)
noisy_gradient = on_pixels("noisy gradient", _Noisy.apply)
largest_kept = on_pixels("gradient on the 30% where it is largest", _Largest.apply)
off_the_data = on_pixels("another gradient off the data", _OffTheData.apply)
in_a_crowd = on_pixels("another gradient off the data, of many at once", _InACrowd.apply)
scaled_gradient = on_pixels("gradient scaled by 1e-30", _Scaled.apply)
two_faced = on_pixels("another function for gradients", _only_without_gradients)
first_of_batch = on_pixels("gradient for one of the batch", _first_of_batch)
detector = on_pixels("detector", _detector)
gate = on_pixels("gate", _gate)
coarse_ripple = on_pixels("coarse ripple", _coarse_ripple)
purified = on_pixels("purifier", _purified)
softly_purified = on_pixels("soft purifier", _softly_purified)

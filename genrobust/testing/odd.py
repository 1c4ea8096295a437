"""Honest models that look odd: what no flag may be raised on.

Each is a function from a sound model to one that computes what it says, with the gradients of what
it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.models.model import GenerativeModel
from genrobust.posterior import Categorical, Codebook, Gaussian, Point, Posterior
from genrobust.registry import Registry
from genrobust.seeding import generator
from genrobust.testing.hidden import inside

#: From a sound model to an odd one.
Odd = Callable[[GenerativeModel], GenerativeModel]


def _scaled(scale: float) -> Odd:
    """Codes in other units."""

    def make(model: GenerativeModel) -> GenerativeModel:
        def encode(x: Tensor) -> Posterior:
            return model.encode(x).map(lambda tensor: scale * tensor)

        return inside(
            model, f"codes times {scale:g}", encode, lambda code: model.decode(code / scale)
        )

    return make


huge_codes, tiny_codes = _scaled(1e6), _scaled(1e-6)


def dead_units(model: GenerativeModel) -> GenerativeModel:
    """Fifty latents that never move, and that the decoder does not read."""

    def encode(x: Tensor) -> Posterior:
        mean = model.encode(x).mode()
        mean = torch.cat([(0 * x.flatten(1)[:, :1]).expand(-1, 50), mean], 1)
        return Posterior((Gaussian(mean, torch.zeros_like(mean)),))

    return inside(model, "dead units", encode, lambda code: model.decode(code[:, 50:]))


def unbounded(model: GenerativeModel) -> GenerativeModel:
    """A decoder whose pixels leave [0, 1], and a deployment that clips them."""
    return inside(
        model, "unbounded", decode=lambda code: 1.6 * model.decode(code) - 0.3, clamp=True
    )


def saturated(model: GenerativeModel) -> GenerativeModel:
    """A decoder with steep sigmoids."""
    return inside(
        model,
        "saturated",
        decode=lambda code: (6 * model.decode(code).clamp(1e-4, 1 - 1e-4).logit()).sigmoid(),
    )


def pooled(model: GenerativeModel) -> GenerativeModel:
    """An encoder that sees the mean of each four pixels."""

    def encode(x: Tensor) -> Posterior:
        return model.encode(F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0))

    return inside(model, "pooled", encode)


def largest_of_four(model: GenerativeModel) -> GenerativeModel:
    """An encoder that sees the largest of each four pixels."""

    def encode(x: Tensor) -> Posterior:
        return model.encode(F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0))

    return inside(model, "largest of four", encode)


def autoencoder(model: GenerativeModel) -> GenerativeModel:
    """Points in place of a posterior."""
    return inside(model, "points", lambda x: Posterior((Point(model.encode(x).mode()),)))


def cropped(model: GenerativeModel) -> GenerativeModel:
    """An encoder that does not look at the border."""

    def encode(x: Tensor) -> Posterior:
        return model.encode(F.pad(x[..., 3:-3, 3:-3], (3, 3, 3, 3)))

    return inside(model, "cropped", encode)


def quantised(model: GenerativeModel) -> GenerativeModel:
    """A vector quantiser: each latent from a list of 32 values, as a codebook's entry."""

    def encode(x: Tensor) -> Posterior:
        return Posterior((Codebook(model.encode(x).mode()[..., None], _grid(32)),))

    return inside(model, "quantised codes", encode, lambda code: model.decode(code[..., 0]))


def coarsely_quantised(model: GenerativeModel) -> GenerativeModel:
    """Likewise from a list of 8."""

    def encode(x: Tensor) -> Posterior:
        return Posterior((Codebook(model.encode(x).mode()[..., None], _grid(8)),))

    return inside(model, "coarse codes", encode, lambda code: model.decode(code[..., 0]))


def _grid(count: int) -> Tensor:
    return torch.linspace(-3, 3, count)[:, None]


def sure(model: GenerativeModel) -> GenerativeModel:
    """Categories at twice their logits, which keep their gradients."""

    def encode(x: Tensor) -> Posterior:
        return Posterior(
            tuple(
                replace(part, logits=2 * part.logits) if isinstance(part, Categorical) else part
                for part in model.encode(x).parts
            )
        )

    return inside(model, "sure", encode)


def in_double(model: GenerativeModel) -> GenerativeModel:
    """Code that computes in float64."""

    def encode(x: Tensor) -> Posterior:
        return model.encode((1.0 * x.double()).float())

    return inside(model, "in double", encode)


def in_half(model: GenerativeModel) -> GenerativeModel:
    """Codes in float16 on their way to the decoder."""
    return inside(model, "in half", decode=lambda code: model.decode(code.half().float()))


def rectified(model: GenerativeModel) -> GenerativeModel:
    """Positive and negative parts of codes side by side, of which half is 0."""

    def encode(x: Tensor) -> Posterior:
        mean = model.encode(x).mode()
        return Posterior((Point(torch.cat([mean.relu(), (-mean).relu()], 1)),))

    def decode(code: Tensor) -> Tensor:
        high, low = code.chunk(2, 1)
        return model.decode(high - low)

    return inside(model, "rectified", encode, decode)


def rotated(model: GenerativeModel) -> GenerativeModel:
    """Codes in a basis where each latent holds something of all."""

    def basis(code: Tensor) -> Tensor:
        size = code.shape[1]
        draw = torch.randn(size, size, generator=generator("rotated"), dtype=torch.float64)
        return torch.linalg.qr(draw)[0].to(code)

    def encode(x: Tensor) -> Posterior:
        mean = model.encode(x).mode()
        return Posterior((Point(mean @ basis(mean)),))

    return inside(model, "rotated", encode, lambda code: model.decode(code @ basis(code).T))


def contracted(model: GenerativeModel) -> GenerativeModel:
    """Codes through a tanh."""

    def encode(x: Tensor) -> Posterior:
        return Posterior((Point((model.encode(x).mode() / 3).tanh()),))

    def decode(code: Tensor) -> Tensor:
        return model.decode(3 * code.clamp(-0.999, 0.999).atanh())

    return inside(model, "contracted", encode, decode)


_HERE = (
    *("huge_codes", "tiny_codes", "dead_units", "unbounded", "saturated", "pooled"),
    *("largest_of_four", "autoencoder", "cropped", "quantised", "coarsely_quantised"),
    *("sure", "in_double", "in_half", "rectified", "rotated", "contracted"),
)
_UNUSUAL = (
    *("leaky", "grouped", "tied", "six", "max_pooled", "dropped", "wide_code"),
    *("softplus", "recurrent", "attentive", "coarse_weights", "half_weights"),
    *("bfloat16_weights", "double_weights", "uneven_units"),
)

#: Honest oddities by name. Add one with ``ODD.register``.
ODD: Registry[Odd] = Registry(
    "odd model",
    {
        name.replace("_", "-"): f"genrobust.testing.{module}:{name}"
        for module, names in (("odd", _HERE), ("unusual", _UNUSUAL))
        for name in names
    },
)

#: Those of another author, of which most are trained for some seconds.
UNUSUAL = tuple(name.replace("_", "-") for name in _UNUSUAL)

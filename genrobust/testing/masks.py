"""Models that hide their gradients on purpose: what an attack, and the flags, are tried on.

A mask changes what a model computes as little as it can, and what an attack sees of it as much as
it can (Athalye, Carlini & Wagner 2018, "Obfuscated gradients give a false sense of security").
Whoever masks a sound model makes it no more robust; an attack that finds less on the masked one
was fooled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import wrap
from genrobust.posterior import Posterior
from genrobust.registry import Registry
from genrobust.seeding import generator

#: From a sound model to one that gives nearly the same images, and hides its gradients.
Hide = Callable[[GenerativeModel], GenerativeModel]


def _as_it_is(image: Tensor) -> Tensor:
    return image


@dataclass(frozen=True)
class Mask:
    """One way to hide a gradient, by what it does to images and codes.

    Args:
        name: for tables.
        see: from an image in [0, 1] to what the encoder is given.
        code: from the posterior to the code that is decoded.
        show: from a reconstruction to what is given out.
        draws: how often its result is drawn, for a random one.
        differentiable: whether gradients pass it, sound or not.
    """

    name: str
    see: Callable[[Tensor], Tensor] = _as_it_is
    code: Callable[[Posterior], Tensor] = Posterior.mode
    show: Callable[[Tensor], Tensor] = _as_it_is
    draws: int = 1
    differentiable: bool = True

    def declared(self, model: GenerativeModel) -> GenerativeModel:
        """The model with the mask on its deployed path, and a sound path to differentiate.

        That sees what the mask lets the encoder see, with the gradient of none (BPDA), and knows
        nothing of what the mask does to codes and outputs.
        """

        def deploy(x: Tensor) -> Tensor:
            return self.show(model.decode(self.code(model.encode(self.see(x)))))

        def passed(x: Tensor) -> Tensor:
            return x + (self.see(x) - x).detach()

        return wrap(
            model.module,
            encode=lambda x: model.encode(passed(x)),
            decode=model.decode,
            deploy=deploy,
            draws=self.draws,
            input_shape=model.input_shape,
            name=f"{model.name}, {self.name}, declared",
        )

    def hidden(self, model: GenerativeModel) -> GenerativeModel:
        """The model with the mask inside its encoder and decoder, and no other path."""

        def encode(x: Tensor) -> object:
            posterior = model.encode(self.see(x))
            return posterior if self.code is Posterior.mode else self.code(posterior)

        return wrap(
            _without_forward(model.module),
            encode=encode,
            decode=lambda code: self.show(model.decode(code)),
            draws=self.draws,
            differentiable=self.differentiable,
            input_shape=model.input_shape,
            name=f"{model.name}, {self.name}, hidden",
        )


def _without_forward(module: nn.Module) -> nn.Module:
    """A module of the same weights without a ``forward``, which would show what the mask hides."""
    holder = nn.Module()
    holder.masked = module
    return holder


def rounded(levels: int) -> Callable[[Tensor], Tensor]:
    """Rounds pixels in [0, 1] to so many levels.

    >>> rounded(3)(torch.tensor([0.2, 0.3, 0.9])).tolist()
    [0.0, 0.5, 1.0]
    """
    return lambda image: ((levels - 1) * image).round() / (levels - 1)


def _saturate(image: Tensor) -> Tensor:
    return (50 * image.logit(1e-6)).sigmoid()


def _disturb(image: Tensor) -> Tensor:
    return image + 0.05 * torch.randn_like(image)


def _draw(posterior: Posterior) -> Tensor:
    return posterior.sample([torch.randn_like(part.mode()) for part in posterior.parts])


def _through_numpy(image: Tensor) -> Tensor:
    return torch.from_numpy(image.detach().cpu().numpy().copy()).to(image.device)


def _shatter(image: Tensor) -> Tensor:
    return image + 1e-3 * (1e5 * image).sin()


def _ripple(image: Tensor) -> Tensor:
    """Too slow to turn a gradient within a thousandth of the pixel range, and steep."""
    return image + 0.01 * (1e3 * image).sin()


def _stairs(image: Tensor) -> Tensor:
    """Steps of a thousandth, each with a slope of its own that is steep and of random sign."""
    slopes = 10 * (torch.rand(2003, generator=generator("stairs")) < 0.5).to(image) - 5
    step = (1000 * image).floor()
    centre = (step.detach() + 0.5) / 1000
    return centre + slopes[step.long().clamp(-1, 2001) + 1] * (image - centre)


def _mislead(image: Tensor) -> Tensor:
    """The image itself, with the gradient of another function."""
    signs = 2.0 * (torch.rand(image.shape[1:], generator=generator("mislead")) < 0.5) - 1
    other = signs.to(image) * image
    return image.detach() + other - other.detach()


#: The ways of Athalye, Carlini & Wagner: shattered, stochastic and vanishing gradients; and a
#: gradient of something else.
CLASSIC = (
    Mask("quantised input", see=rounded(64), differentiable=False),
    Mask("quantised output", show=rounded(8), differentiable=False),
    Mask("saturated output", show=_saturate),
    Mask("noisy input", see=_disturb, draws=5),
    Mask("drawn code", code=_draw, draws=5),
    Mask("through numpy", see=_through_numpy, differentiable=False),
    Mask("shattered gradient", see=_shatter),
    Mask("rippled gradient", see=_ripple),
    Mask("stairs of random slopes", see=_stairs),
    Mask("another gradient", see=_mislead),
)

_HIDDEN = (
    *("latents_detached", "latents_rounded", "pixels_30", "pixels_50", "wrong_on_a_part"),
    *("too_sure", "detector", "lower_half", "blurred", "displaced", "noisy_gradient"),
    *("scaled_gradient", "latents_negated", "latents_rippled", "two_faced"),
    *("first_of_batch", "purified", "softly_purified", "largest_kept", "off_the_data", "gate"),
    *("coarse_ripple", "hard_label", "moat", "in_a_crowd"),
)
_OUTSIDE = (
    *("shuffled", "strongest_reversed", "modest", "averaged", "noisy", "delayed", "tires"),
    *("honest_on_paper", "honest_in_the_middle", "by_batch_size", "below_float16"),
    *("of_a_stranger", "camera", "stale", "high_frequencies", "thermometer", "wrong_latents"),
    *("few_latents", "sawtooth", "ripple", "rippled_code", "steep", "decoys", "coin"),
    *("both_ends", "posterised", "shifted", "remembers", "false_deputy"),
)

#: Masks that nobody declares, by name. Add one with ``MASKS.register``: a function from a sound
#: model to a masked one.
MASKS: Registry[Hide] = Registry(
    "mask",
    {
        name.replace("_", "-"): f"genrobust.testing.{module}:{name}"
        for module, names in (("hidden", _HIDDEN), ("outside", _OUTSIDE))
        for name in names
    },
)

#: Those that flags and attacks were made with.
TUNED = (
    *("latents-detached", "latents-rounded", "pixels-30", "pixels-50", "wrong-on-a-part"),
    *("too-sure", "detector", "largest-kept", "off-the-data", "gate"),
    *("coarse-ripple", "hard-label", "moat", "in-a-crowd"),
)

#: Those that were written down before the flags and looked at after them (26 November 2026).
#: "scaled-gradient" is harmless.
HELD_OUT = (
    *("lower-half", "blurred", "displaced", "noisy-gradient", "scaled-gradient"),
    *("latents-negated", "latents-rippled", "two-faced", "first-of-batch"),
    *("purified", "softly-purified"),
)

#: Those that another author wrote down before reading the flags (26 November 2026).
OUTSIDE = tuple(name.replace("_", "-") for name in _OUTSIDE)

"""What an encoder says about an image: a product of Gaussian, categorical and point parts.

A *code* is what the decoder takes: the part's own tensor where there is one part (so that spatial
latents keep their shape), else the parts flattened and concatenated along dimension 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.errors import GenrobustError

P = TypeVar("P", bound="Part")

#: Log-variances are cut to this on both sides where they are exponentiated: a variance of exp(690),
#: or 1e299, still has a sum over a hundred million latents in float64, and none is 0, which could
#: not be divided by.
LARGEST_EXPONENT = 690.0
#: Gradients are cut to this: its square, which optimizers take, is finite in float32.
LARGEST_GRADIENT = 1e18


class Part(ABC):
    """One factor of a posterior; every tensor is batch first."""

    @abstractmethod
    def mode(self) -> Tensor:
        """The deployed code: a Gaussian's mean, a categorical's argmax as one-hot."""

    @abstractmethod
    def vector(self) -> Tensor:
        """The parameters a latent attack matches, (B, n): means, centred logits, values."""

    @abstractmethod
    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        """A reparameterised draw from standard noise shaped like ``mode()``."""

    def sample(self, noise: Tensor) -> Tensor:
        """An exact draw from the same noise: as ``rsample``, but categoricals are one-hot."""
        return self.rsample(noise, 1.0)

    @abstractmethod
    def draw_noise(self, generator: torch.Generator) -> Tensor:
        """The standard noise that ``rsample`` takes, from the generator's stream."""

    @abstractmethod
    def kl(self, other: Part) -> Tensor:
        """KL(self || other) in nats, (B,) float64."""

    @abstractmethod
    def squared_wasserstein2(self, other: Part) -> Tensor:
        """The squared 2-Wasserstein distance to ``other``, (B,) float64."""

    @abstractmethod
    def kl_to_prior(self) -> Tensor:
        """KL to the standard prior per latent, in nats: (B, n) float64."""

    def relaxed(self, temperature: float) -> Tensor:
        """A differentiable stand-in for ``mode()``; the mode itself where that has gradients."""
        return self.mode()

    def straight_through(self) -> Tensor:
        """``mode()`` forward, the gradient of ``relaxed(1)`` backward."""
        return self.mode()

    def map(self: P, transform: Callable[[Tensor], Tensor]) -> P:
        """The same part with each of its tensors transformed (indexed, detached, moved)."""
        values = {f.name: transform(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**values)


@dataclass(frozen=True, eq=False)
class Gaussian(Part):
    """A diagonal Gaussian: ``mean`` and ``logvar`` of one shape (B, ...)."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def vector(self) -> Tensor:
        return self.mean.flatten(1)

    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        drawn = wide(self.mean) + exponential(wide(self.logvar), 0.5) * noise
        largest = torch.finfo(self.mean.dtype).max
        return drawn.clamp(-largest, largest).to(self.mean)

    def draw_noise(self, generator: torch.Generator) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device)
        return noise.to(self.mean)

    def kl(self, other: Part) -> Tensor:
        that = _same_kind(self, other)
        return _gaussian_kl(self, wide(that.mean), wide(that.logvar)).flatten(1).sum(1)

    def squared_wasserstein2(self, other: Part) -> Tensor:
        that = _same_kind(self, other)
        std, other_std = (exponential(wide(part.logvar), 0.5) for part in (self, that))
        moved = wide(self.mean) - wide(that.mean)
        return (moved.square() + (std - other_std).square()).flatten(1).sum(1)

    def kl_to_prior(self) -> Tensor:
        zero = self.mean.new_zeros((), dtype=torch.float64)
        return _gaussian_kl(self, zero, zero).flatten(1)


def _gaussian_kl(part: Gaussian, mean: Tensor, logvar: Tensor) -> Tensor:
    """KL to N(mean, exp(logvar)) of each latent, in closed form: no variance is divided by."""
    own = wide(part.logvar)
    ratio = own - logvar
    moved = (wide(part.mean) - mean) * exponential(logvar, -0.5)
    return 0.5 * (exponential(ratio) - 1 - ratio + moved.square())


@dataclass(frozen=True, eq=False)
class Categorical(Part):
    """A one-hot code of K classes: unnormalised ``logits`` of shape (B, K)."""

    logits: Tensor

    def mode(self) -> Tensor:
        return F.one_hot(self.logits.argmax(-1), self.logits.shape[-1]).to(self.logits)

    def vector(self) -> Tensor:
        # Logits are defined up to a constant. Centred, they are the same whether an encoder gives
        # them or their softmax; and a distance of log-probabilities instead, in which every entry
        # moves with the largest one, makes latent attacks much weaker.
        return self.logits - self.logits.mean(-1, keepdim=True)

    def relaxed(self, temperature: float) -> Tensor:
        return (self.logits / temperature).softmax(-1)

    def straight_through(self) -> Tensor:
        soft = self.relaxed(1.0)
        return self.mode() + soft - soft.detach()

    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        # The Concrete distribution: Maddison et al. 2017, Jang et al. 2017.
        tiny = torch.finfo(noise.dtype).tiny
        gumbel = -(-noise.clamp_min(tiny).log()).clamp_min(tiny).log()
        return ((self.logits + gumbel) / temperature).softmax(-1)

    def sample(self, noise: Tensor) -> Tensor:
        # The Gumbel-max trick: the argmax of a Concrete sample is an exact draw.
        return Categorical(self.rsample(noise, 1.0)).mode()

    def draw_noise(self, generator: torch.Generator) -> Tensor:
        noise = torch.rand(self.logits.shape, generator=generator, device=generator.device)
        return noise.to(self.logits)

    def kl(self, other: Part) -> Tensor:
        # Not torch's, which is infinite where a probability of the other underflows to 0.
        log_p = wide(self.logits).log_softmax(-1)
        log_q = wide(_same_kind(self, other).logits).log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def squared_wasserstein2(self, other: Part) -> Tensor:
        # Between one-hot codes every move costs squared distance 2, so the optimal plan moves
        # the total variation: W2^2 = 2 * (1/2) * sum |p - q|.
        that = _same_kind(self, other)
        p, q = (wide(part.logits).softmax(-1) for part in (self, that))
        return (p - q).abs().flatten(1).sum(1)

    def kl_to_prior(self) -> Tensor:
        return self.kl(Categorical(torch.zeros_like(self.logits)))[:, None]


@dataclass(frozen=True, eq=False)
class Point(Part):
    """The code of a plain autoencoder: a ``value`` (B, ...) and no density."""

    value: Tensor

    def mode(self) -> Tensor:
        return self.value

    def vector(self) -> Tensor:
        return self.value.flatten(1)

    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        return self.value

    def draw_noise(self, generator: torch.Generator) -> Tensor:
        return torch.zeros_like(self.value)

    def kl(self, other: Part) -> Tensor:
        raise GenrobustError(
            "this model's encoder gives a point, and a KL divergence needs a density; "
            "use an attack on means such as 'latent'"
        )

    def squared_wasserstein2(self, other: Part) -> Tensor:
        moved = wide(self.value) - wide(_same_kind(self, other).value)
        return moved.square().flatten(1).sum(1)

    def kl_to_prior(self) -> Tensor:
        return self.value.new_zeros(self.value.shape[0], 0, dtype=torch.float64)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float64, where divergences neither over- nor underflow.

    The gradient that comes back through it is cut to :data:`LARGEST_GRADIENT`, so that one which
    its own precision does not hold is large rather than infinite.
    """
    found = tensor.double()
    if found.requires_grad:
        largest = min(LARGEST_GRADIENT, torch.finfo(tensor.dtype).max)
        found = found.view_as(found)  # not the caller's own tensor, where it is float64 already
        found.register_hook(lambda gradient: gradient.clamp(-largest, largest))
    return found


def exponential(x: Tensor, scale: float = 1.0) -> Tensor:
    """exp(scale * x), never 0 nor infinite: beyond :data:`LARGEST_EXPONENT` x counts as that.

    Example:
        >>> exponential(torch.tensor([-1e9, 0.0, 4.0], dtype=torch.float64), 0.5)
        tensor([1.4737e-150,  1.0000e+00,  7.3891e+00], dtype=torch.float64)
    """
    value: Tensor = _Exponential.apply(x, scale)
    return value


class _Exponential(torch.autograd.Function):
    """Its own derivative everywhere, where that of a clamp would be 0 beyond the ends."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        value = (scale * x.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)).exp()
        ctx.save_for_backward(value)
        ctx.scale = scale
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (value,) = ctx.saved_tensors
        return gradient * ctx.scale * value, None


def _same_kind(part: P, other: Part) -> P:
    if not isinstance(other, type(part)):
        raise TypeError(f"cannot compare a {type(part).__name__} with a {type(other).__name__}")
    return other


@dataclass(frozen=True, eq=False)
class Posterior:
    """q(code | x) for a batch: independent parts.

    Args:
        parts: the factors, each batch first and of one batch size.

    Example:
        >>> q = Posterior((Gaussian(torch.zeros(2, 3), torch.zeros(2, 3)),
        ...                Categorical(torch.tensor([[0., 2.], [1., 0.]]))))
        >>> q.mode()
        tensor([[0., 0., 0., 0., 1.],
                [0., 0., 0., 1., 0.]])
        >>> q.kl(q)
        tensor([0., 0.], dtype=torch.float64)
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a posterior has at least one part")

    def __len__(self) -> int:
        """The batch size."""
        return len(self.parts[0].vector())

    @property
    def size(self) -> int:
        """Numbers in one code."""
        return sum(part.mode()[0].numel() for part in self.parts)

    @property
    def is_discrete(self) -> bool:
        """Whether a part's mode has no gradient, so that attacks need a surrogate."""
        return any(isinstance(part, Categorical) for part in self.parts)

    def mode(self) -> Tensor:
        """The deployed code: means and one-hot argmaxes."""
        return self.join([part.mode() for part in self.parts])

    def rsample(self, noise: Sequence[Tensor], temperature: float = 0.67) -> Tensor:
        """A reparameterised code from standard noise, one tensor a part (see ``draw_noise``).

        Gaussian parts use mean + std * noise (Kingma & Welling 2014); categorical parts the
        Concrete sample with uniform noise at ``temperature`` (Maddison et al. 2017).
        """
        return self.join(
            [part.rsample(n, temperature) for part, n in zip(self.parts, noise, strict=True)]
        )

    def sample(self, noise: Sequence[Tensor]) -> Tensor:
        """An exact draw of a code from standard noise; categorical parts are one-hot."""
        return self.join([part.sample(n) for part, n in zip(self.parts, noise, strict=True)])

    def draw_noise(self, generator: torch.Generator) -> list[Tensor]:
        """Standard noise for ``rsample``: normal for Gaussians, uniform for categoricals."""
        return [part.draw_noise(generator) for part in self.parts]

    def relaxed(self, temperature: float = 1.0) -> Tensor:
        """Surrogate code: categorical parts as softmax(logits / temperature)."""
        return self.join([part.relaxed(temperature) for part in self.parts])

    def straight_through(self) -> Tensor:
        """Surrogate code: the deployed code forward, softmax gradients backward."""
        return self.join([part.straight_through() for part in self.parts])

    def vector(self) -> Tensor:
        """Means and centred logits side by side, (B, n): what latent attacks match."""
        return torch.cat([part.vector() for part in self.parts], 1)

    def kl(self, other: Posterior) -> Tensor:
        """KL(self || other) in nats, (B,) float64.

        This and the other divergences are computed in float64 from the log-variances themselves,
        whatever precision these have; see :data:`LARGEST_EXPONENT`.
        """
        return torch.stack([a.kl(b) for a, b in self._pairs(other)]).sum(0)

    def symmetric_kl(self, other: Posterior) -> Tensor:
        """(KL(self || other) + KL(other || self)) / 2 in nats, (B,) float64: Kuzina et al. 2022."""
        return 0.5 * (self.kl(other) + other.kl(self))

    def wasserstein2(self, other: Posterior) -> Tensor:
        """The 2-Wasserstein distance, (B,) float64; one-hot codes lie sqrt(2) apart.

        Its gradient is 0 instead of NaN where the two agree.
        """
        total = torch.stack([a.squared_wasserstein2(b) for a, b in self._pairs(other)]).sum(0)
        apart = total > 0
        return torch.where(apart, total, 1).sqrt() * apart

    def kl_to_prior(self) -> Tensor:
        """KL to N(0, I) and the uniform categorical, per latent, in nats: (B, n) float64.

        A Gaussian latent gives one column, a categorical part one, a point none.
        """
        return torch.cat([part.kl_to_prior() for part in self.parts], 1)

    def map(self, transform: Callable[[Tensor], Tensor]) -> Posterior:
        """The posterior with ``transform`` applied to every tensor in it."""
        return Posterior(tuple(part.map(transform) for part in self.parts))

    def __getitem__(self, index: Tensor) -> Posterior:
        """The posterior of the samples at ``index``, a batch again."""
        return self.map(lambda tensor: tensor[index])

    def detach(self) -> Posterior:
        return self.map(Tensor.detach)

    def _pairs(self, other: Posterior) -> zip[tuple[Part, Part]]:
        return zip(self.parts, other.parts, strict=True)

    def join(self, codes: Sequence[Tensor]) -> Tensor:
        """One code from the parts' codes."""
        return codes[0] if len(codes) == 1 else torch.cat([c.flatten(1) for c in codes], 1)

"""Categorical codes, alone or on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.posterior.base import FREE, Discrete, Part, same_kind
from genrobust.posterior.precision import wide


@dataclass(frozen=True, eq=False)
class Categorical(Discrete):
    """One-hot codes of K classes: unnormalised ``logits`` (B, K), or (B, ..., K) for a grid.

    A grid's code keeps its shape (B, ..., K).

    Example:
        >>> import torch
        >>> part = Categorical(torch.tensor([[0.0, 2.0, 1.0]]))
        >>> part.mode(), part.tokens()
        (tensor([[0., 1., 0.]]), tensor([[1]]))
    """

    name = "categorical"
    scores_are_logits = True

    logits: Tensor

    def mode(self) -> Tensor:
        return F.one_hot(self.logits.argmax(-1), self.logits.shape[-1]).to(self.logits)

    def vector(self) -> Tensor:
        # Logits are defined up to a constant. Centred, they are the same whether an encoder gives
        # them or their softmax; and a distance of log-probabilities instead, in which every entry
        # moves with the largest one, makes latent attacks much weaker.
        return (self.logits - self.logits.mean(-1, keepdim=True)).flatten(1)

    def relaxed(self, temperature: float) -> Tensor:
        return (self.logits / temperature).softmax(-1)

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
        log_q = wide(same_kind(self, other).logits).log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1).reshape(len(log_p), -1).sum(1)

    def squared_wasserstein2(self, other: Part) -> Tensor:
        # Between one-hot codes every move costs squared distance 2, so the optimal plan moves
        # the total variation: W2^2 = 2 * (1/2) * sum |p - q|.
        that = same_kind(self, other)
        p, q = (wide(part.logits).softmax(-1) for part in (self, that))
        return (p - q).abs().flatten(1).sum(1)

    def kl_to_prior(self) -> Tensor:
        log_p = wide(self.scores()).log_softmax(-1)
        log_q = torch.zeros_like(log_p).log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def scores(self) -> Tensor:
        return self.logits.reshape(len(self.logits), -1, self.logits.shape[-1])

    def pinned(self, wanted: Tensor) -> Tensor:
        places = wanted.view(self.logits.shape[:-1])
        fixed = F.one_hot(places.clamp_min(0), self.logits.shape[-1]).to(self.logits)
        free = (places == FREE)[..., None]
        return torch.where(free, self.straight_through(), fixed) if free.any() else fixed

    def means(self) -> Tensor:
        return self.vector()[:, :0]

    def traversal(self, latent: int, count: int, reach: float) -> Tensor:
        codes = self.scores()[:1].argmax(-1).repeat(count, 1)
        codes[:, latent] = torch.arange(count, device=codes.device) % self.logits.shape[-1]
        hot = F.one_hot(codes, self.logits.shape[-1]).to(self.logits)
        return hot.view(count, *self.logits.shape[1:])

    def describe(self) -> str:
        *grid, classes = self.logits.shape[1:]
        many = " x ".join(map(str, grid)) if grid else "one"
        return f"{many} {classes}-way categorical"

"""What an encoder says about an image: a product of independent parts.

A *code* is what the decoder takes: the part's own tensor where there is one part (so that spatial
latents keep their shape), else the parts flattened and concatenated along dimension 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from genrobust.plugins import blamed
from genrobust.posterior.base import Discrete, Part, titled

A = TypeVar("A")


@dataclass(frozen=True, eq=False)
class Posterior:
    """q(code | x) for a batch: independent parts.

    Args:
        parts: the factors, each batch first and of one batch size.

    Example:
        >>> from genrobust.posterior import Categorical, Gaussian
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
        return any(part.is_discrete for part in self.parts)

    @property
    def has_density(self) -> bool:
        """Whether every part has one, so that KL divergences are those of the model."""
        return all(part.has_density for part in self.parts)

    def discrete(self) -> list[tuple[int, Discrete]]:
        """The parts whose code can be switched, with their places among all parts."""
        return [(p, part) for p, part in enumerate(self.parts) if isinstance(part, Discrete)]

    def switched(self, part: int, wanted: Tensor) -> Tensor:
        """The code with one part's wanted entries fixed (see ``Discrete.pinned``), all other
        discrete ones straight through."""
        chosen = self.parts[part]
        assert isinstance(chosen, Discrete), "a switch is of a discrete part"
        codes = [p.straight_through() for p in self.parts]
        codes[part] = chosen.pinned(wanted)
        return self.join(codes)

    def tokens(self) -> Tensor:
        """All discrete choices, (B, T) int64; T is 0 for a continuous posterior."""
        return torch.cat(self._each(lambda part: part.tokens()), 1)

    def means(self) -> Tensor:
        """The latents that have a mean, (B, n)."""
        return torch.cat(self._each(lambda part: part.means()), 1)

    def describe(self) -> str:
        """What it consists of, in a few words."""
        return " + ".join(self._each(lambda part: part.describe()))

    def tensors(self) -> list[Tensor]:
        """All that the parts hold of each image, in order."""
        return [tensor for part in self.parts for tensor in part.tensors()]

    def mode(self) -> Tensor:
        """The deployed code: means and one-hot argmaxes."""
        return self.join(self._each(lambda part: part.mode()))

    def rsample(self, noise: Sequence[Tensor], temperature: float = 0.67) -> Tensor:
        """A reparameterised code from standard noise, one tensor a part (see ``draw_noise``).

        Gaussian parts use mean + std * noise (Kingma & Welling 2014); categorical parts the
        Concrete sample with uniform noise at ``temperature`` (Maddison et al. 2017).
        """
        return self.join(self._each(lambda part, n: part.rsample(n, temperature), noise))

    def sample(self, noise: Sequence[Tensor]) -> Tensor:
        """An exact draw of a code from standard noise; categorical parts are one-hot."""
        return self.join(self._each(lambda part, n: part.sample(n), noise))

    def draw_noise(self, generator: torch.Generator) -> list[Tensor]:
        """Standard noise for ``rsample``: normal for Gaussians, uniform for categoricals."""
        return self._each(lambda part: part.draw_noise(generator))

    def relaxed(self, temperature: float = 1.0) -> Tensor:
        """Surrogate code: categorical parts as softmax(logits / temperature)."""
        return self.join(self._each(lambda part: part.relaxed(temperature)))

    def straight_through(self) -> Tensor:
        """Surrogate code: the deployed code forward, softmax gradients backward."""
        return self.join(self._each(lambda part: part.straight_through()))

    def vector(self) -> Tensor:
        """Means and centred logits side by side, (B, n): what latent attacks match."""
        return torch.cat(self._each(lambda part: part.vector()), 1)

    def kl(self, other: Posterior) -> Tensor:
        """KL(self || other) in nats, (B,) float64.

        This and the other divergences are computed in float64 from the log-variances themselves,
        whatever precision these have; see :data:`LARGEST_EXPONENT`.
        """
        return torch.stack(self._each(lambda a, b: a.kl(b), other.parts)).sum(0)

    def symmetric_kl(self, other: Posterior) -> Tensor:
        """(KL(self || other) + KL(other || self)) / 2 in nats, (B,) float64: Kuzina et al. 2022."""
        return 0.5 * (self.kl(other) + other.kl(self))

    def wasserstein2(self, other: Posterior) -> Tensor:
        """The 2-Wasserstein distance, (B,) float64; one-hot codes lie sqrt(2) apart.

        Its gradient is 0 instead of NaN where the two agree.
        """
        squared = self._each(lambda a, b: a.squared_wasserstein2(b), other.parts)
        total = torch.stack(squared).sum(0)
        apart = total > 0
        return torch.where(apart, total, 1).sqrt() * apart

    def kl_to_prior(self) -> Tensor:
        """KL to N(0, I) and the uniform categorical, per latent, in nats: (B, n) float64.

        A Gaussian latent gives one column, a categorical part one, a point none.
        """
        return torch.cat(self._each(lambda part: part.kl_to_prior()), 1)

    def map(self, transform: Callable[[Tensor], Tensor]) -> Posterior:
        """The posterior with ``transform`` applied to every tensor in it."""
        return Posterior(tuple(part.map(transform) for part in self.parts))

    @staticmethod
    def joined(pieces: Sequence[Posterior]) -> Posterior:
        """The posterior of a batch from those of its pieces."""
        each = zip(*(posterior.parts for posterior in pieces), strict=True)
        return Posterior(tuple(same[0].joined(same) for same in each))

    def __getitem__(self, index: Tensor) -> Posterior:
        """The posterior of the samples at ``index``, a batch again."""
        return self.map(lambda tensor: tensor[index])

    def detach(self) -> Posterior:
        return self.map(Tensor.detach)

    def _each(self, ask: Callable[..., A], *beside: Sequence[Any]) -> list[A]:
        """What each part answers; the fault of one that comes from outside is told as its own.

        Args:
            ask: a part, and what is given for it.
            beside: of each part something.
        """
        answers = []
        for part, *given in zip(self.parts, *beside, strict=True):
            with blamed(titled(part), type(part)):
                answers.append(ask(part, *given))
        return answers

    def join(self, codes: Sequence[Tensor]) -> Tensor:
        """One code from the parts' codes."""
        return codes[0] if len(codes) == 1 else torch.cat([c.flatten(1) for c in codes], 1)

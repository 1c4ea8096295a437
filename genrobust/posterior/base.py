"""What a part of a posterior answers: all that the rest of the library asks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.registry import Registry

P = TypeVar("P", bound="Part")

#: ``field(metadata=SHARED)`` marks what a part has once, such as a codebook; other tensors are
#: batch first.
SHARED = {"shared": True}

#: A position of a wanted code that may be anything.
FREE = -1


class Part(ABC):
    """One factor of a posterior: a frozen dataclass of tensors, batch first.

    ``name`` is what a bundle calls its kind, and what tables say.

    Example:
        >>> from genrobust.posterior import Gaussian
        >>> part = Gaussian(torch.zeros(2, 3), torch.zeros(2, 3))
        >>> isinstance(part, Part), part.vector().shape, part.describe()
        (True, torch.Size([2, 3]), '3 Gaussian')
    """

    name: ClassVar[str]
    #: Whether its KL divergences are those of a density (or of probabilities).
    has_density: ClassVar[bool] = True
    #: Whether its mode is one of a list, and so without gradient; see :class:`Discrete`.
    is_discrete: ClassVar[bool] = False

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

    def draw_noise(self, generator: torch.Generator) -> Tensor:
        """The standard noise that ``rsample`` takes, from the generator's stream; default none."""
        return torch.zeros_like(self.mode())

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

    def tokens(self) -> Tensor:
        """Which of a list each position of the code is, (B, T) int64; T is 0 where none is."""
        return torch.zeros(len(self.mode()), 0, dtype=torch.int64, device=self.mode().device)

    def means(self) -> Tensor:
        """The latents that have a mean, (B, n), for statistics over images."""
        return self.vector()

    def traversal(self, latent: int, count: int, reach: float) -> Tensor | None:
        """Codes of the first image, alike but for one latent: (count, ...).

        Args:
            latent: which, as a column of ``kl_to_prior``.
            count: how many.
            reach: how many standard deviations of the prior to go to both sides.

        Returns:
            None for a part whose prior does not say where to go.
        """
        return None

    def describe(self) -> str:
        """In a few words, for tables."""
        return f"{self.mode()[0].numel()} {self.name}"

    def tensors(self) -> list[Tensor]:
        """All that it holds of each image, in the order of its fields."""
        return [getattr(self, name) for name in self._batched()]

    def map(self: P, transform: Callable[[Tensor], Tensor]) -> P:
        """The same part with each image's tensors transformed (indexed, detached, moved)."""
        return self._with([transform(tensor) for tensor in self.tensors()])

    @staticmethod
    def joined(parts: Sequence[P]) -> P:
        """The part of a batch from those of its pieces."""
        each = zip(*(part.tensors() for part in parts), strict=True)
        return parts[0]._with([torch.cat(pieces) for pieces in each])

    def _with(self: P, tensors: Sequence[Tensor]) -> P:
        held: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{**held, **dict(zip(self._batched(), tensors, strict=True))})

    def _batched(self) -> list[str]:
        if not hasattr(self, "__dataclass_fields__"):
            raise GenrobustError(
                f"{titled(self)} is no dataclass, so that what it holds is not known; write "
                "@dataclass(frozen=True, eq=False) above its class"
            )
        return [
            f.name
            for f in fields(self)  # type: ignore[arg-type]
            if not f.metadata.get("shared") and isinstance(getattr(self, f.name), Tensor)
        ]


class Discrete(Part):
    """A part whose code has T positions, each one of a list: what a switch of the code needs.

    A *wanted* code is (B, T) int64, with :data:`FREE` where it may be anything.

    Example:
        >>> from genrobust.posterior import Categorical
        >>> part = Categorical(torch.tensor([[0.0, 2.0, 1.0]]))
        >>> part.scores().shape, part.switches(2)  # to the class that lacks least, then the next
        (torch.Size([1, 1, 3]), tensor([[[2],
                 [0]]]))
    """

    is_discrete = True
    #: Whether scores are logits: where one leads by far, a softmax has no gradient for the others.
    scores_are_logits: ClassVar[bool] = False

    @abstractmethod
    def scores(self) -> Tensor:
        """How near each entry of the list is, (B, T, K): the deployed one is highest."""

    @abstractmethod
    def pinned(self, wanted: Tensor) -> Tensor:
        """The code with the wanted entries fixed, the others straight through."""

    def straight_through(self) -> Tensor:
        soft = self.relaxed(1.0)
        return self.mode() + soft - soft.detach()

    def tokens(self) -> Tensor:
        return self.scores().argmax(-1)

    def lead(self, wanted: Tensor) -> Tensor:
        """By how much the wanted entries lead all others, in scores: the least of them, (B,)."""
        return least_lead(self.scores(), wanted)

    def switches(self, count: int) -> Tensor:
        """Codes in which one position is switched, from the one that lacks least: (B, n, T).

        Args:
            count: how many at the most.
        """
        scores = self.scores().detach()
        own = scores.argmax(-1, keepdim=True)
        # Of one position the scores themselves give the order, without rounding.
        gaps = scores - scores.amax(-1, keepdim=True) if scores.shape[1] > 1 else scores
        order = gaps.scatter(-1, own, torch.inf).flatten(1).argsort(1, descending=True)
        chosen = order[:, scores.shape[1] :][:, :count]
        wanted = chosen.new_full((*chosen.shape, scores.shape[1]), FREE)
        place = chosen.div(scores.shape[2], rounding_mode="floor")[..., None]
        return wanted.scatter(-1, place, chosen[..., None] % scores.shape[2])

    def switches_towards(self, target: Discrete, count: int) -> Tensor:
        """Codes on the way to a target's: (B, n, T).

        Of one position, the target's entry, then those that are next to it. Of several, all of
        the target's, then the half, the quarter, ... that lack least.
        """
        if self.scores().shape[1] == 1:
            order = target.scores().detach()[:, 0].argsort(1, descending=True)
            return order[:, :count, None]
        scores, goal = self.scores().detach(), target.tokens()
        gap = scores.gather(-1, goal[..., None])[..., 0] - scores.amax(-1)
        # 0 for the one that lacks least; of the deployed ones there is nothing to switch.
        rank = gap.masked_fill(gap == 0, -torch.inf).argsort(1, descending=True).argsort(1)
        needed = (gap != 0).sum(1, keepdim=True)
        shares = [(needed / 2**halving).ceil() for halving in range(count)]
        return torch.stack([torch.where(rank < share, goal, FREE) for share in shares], 1)


def least_lead(scores: Tensor, wanted: Tensor) -> Tensor:
    """score_wanted - max of the others, the least over positions that are not free, (B,).

    Args:
        scores: (B, T, K).
        wanted: (B, T) int64.

    Example:
        >>> least_lead(torch.tensor([[[1.0, 3.0, 0.0], [5.0, 0.0, 0.0]]]), torch.tensor([[0, -1]]))
        tensor([-2.])
    """
    place = wanted.clamp_min(0)[..., None]
    others = scores.scatter(-1, place, -torch.inf).amax(-1)
    lead = scores.gather(-1, place)[..., 0] - others
    # Where nothing is wanted nothing lacks.
    return lead.masked_fill(wanted == FREE, torch.inf).amin(1)


#: Kinds of parts by the names under which bundles keep them.
PARTS: Registry[type[Part]] = Registry(
    "part",
    {
        "gaussian": "genrobust.posterior.gaussian:Gaussian",
        "categorical": "genrobust.posterior.categorical:Categorical",
        "point": "genrobust.posterior.point:Point",
        "codebook": "genrobust.posterior.codebook:Codebook",
        "grid": "genrobust.posterior.codebook:Grid",
    },
    base=Part,
)


def titled(part: Part) -> str:
    """What a part is called where something is wrong with it.

    >>> from genrobust.posterior import Point
    >>> titled(Point(torch.zeros(1, 1)))
    "the posterior part 'point'"
    """
    kind = type(part)
    return f"the posterior part '{getattr(kind, 'name', kind.__name__)}'"


def same_kind(part: P, other: Part) -> P:
    """The other part, if it is of the same kind.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(other, type(part)):
        raise TypeError(f"cannot compare a {type(part).__name__} with a {type(other).__name__}")
    return other

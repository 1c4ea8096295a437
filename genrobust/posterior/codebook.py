"""Codes from a list: vector quantisation, residual, and by fixed grids (FSQ, LFQ).

The posterior of such a model is deterministic. The pre-quantised features are what is smooth in it:
latent attacks match them, and W2 is their distance. KL divergences take for each position the
categorical softmax(scores), which says how near each entry is; the KL to the prior is that of the
deterministic choice to the uniform one, log K a position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.posterior.base import FREE, SHARED, Discrete, Part, least_lead, same_kind
from genrobust.posterior.precision import wide


class _Quantised(Discrete):
    """What codes from a list have in common; scores are negative squared distances."""

    has_density = False

    features: Tensor

    def vector(self) -> Tensor:
        return self.features.flatten(1)

    def straight_through(self) -> Tensor:
        return self.mode() + self.features - self.features.detach()

    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        return self.relaxed(temperature)

    def sample(self, noise: Tensor) -> Tensor:
        return self.mode()

    def kl(self, other: Part) -> Tensor:
        log_p = wide(self.scores()).log_softmax(-1)
        log_q = wide(same_kind(self, other).scores()).log_softmax(-1)
        # An entry that is on no list has a probability of 0, and adds nothing.
        each = torch.where(log_p.isinf(), 0, log_p.exp() * (log_p - log_q))
        return each.flatten(1).sum(1)

    def squared_wasserstein2(self, other: Part) -> Tensor:
        moved = wide(self.features) - wide(same_kind(self, other).features)
        return moved.square().flatten(1).sum(1)

    def kl_to_prior(self) -> Tensor:
        entries = self.scores().detach().isfinite().sum(-1)
        return entries.double().log()

    def _rows(self) -> Tensor:
        """Features with their channels last, (B, N, D)."""
        if self.features.ndim == 3:
            return self.features
        return self.features.reshape(*self.features.shape[:2], -1).transpose(1, 2)

    def _placed(self, rows: Tensor) -> Tensor:
        """Rows (B, N, D) in the features' shape."""
        return (rows if self.features.ndim == 3 else rows.transpose(1, 2)).reshape_as(self.features)


@dataclass(frozen=True, eq=False)
class Codebook(_Quantised):
    """The nearest entry of a codebook at each position (van den Oord et al. 2017).

    Args:
        features: before quantisation: (B, D, H, W) or (B, D) with D first, (B, N, D) with D last.
            The code has the same shape.
        codebook: (K, D); of a residual quantiser (Q, K, D): each takes what those before it left,
            and the code is the sum of all (Zeghidour et al. 2021).

    Scores are -||f - e||^2 in units of the codebook's own spacing, the mean squared distance from
    an entry to the next one, so that a temperature means the same for all. The relaxed code is
    softmax(scores / temperature) @ codebook, warmer by the distance to the nearest entry where that
    is above the spacing. A residual quantiser has Q tokens a position.

    Raises:
        GenrobustError: features and codebook do not fit.

    Example:
        >>> q = Codebook(torch.tensor([[0.9, 0.2]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        >>> q.mode(), q.tokens()
        (tensor([[1., 0.]]), tensor([[1]]))
        >>> q.lead(torch.tensor([[1]]))  # (0.9^2 - 0.1^2) / 1
        tensor([0.8000])
    """

    name = "codebook"

    features: Tensor
    codebook: Tensor = field(metadata=SHARED)

    def __post_init__(self) -> None:
        book, features = self.codebook, self.features
        channels = features.shape[-1 if features.ndim == 3 else 1] if features.ndim > 1 else 0
        if book.ndim not in (2, 3) or book.shape[-1] != channels or book.shape[-2] < 2:
            raise GenrobustError(
                f"features are {tuple(features.shape)} and the codebook {tuple(book.shape)}; give "
                "features (B, D, H, W), (B, N, D) or (B, D) and a codebook (K, D), or (Q, K, D) of "
                "a residual quantiser, with K of 2 or more"
            )

    def mode(self) -> Tensor:
        return self._placed(self._walk()[1])

    def scores(self) -> Tensor:
        return self._walk()[0]

    def relaxed(self, temperature: float) -> Tensor:
        # In float64, as entries may be small beside features.
        rest = wide(self._rows())
        total = torch.zeros_like(rest)
        for book, spacing in ((b.double(), s.double()) for b, s in self._levels()):
            near = _near(rest, book, spacing)
            # Far from all entries, the scores of two that are next to each other differ by twice
            # the distance: warmer by it, the softmax keeps a gradient there.
            far = near.detach().amax(-1, keepdim=True).clamp_max(-1).neg().sqrt()
            soft = (near / (temperature * far)).softmax(-1) @ book
            rest, total = rest - soft, total + soft
        return self._placed(total.to(self.features))

    def pinned(self, wanted: Tensor) -> Tensor:
        code = self._placed(self._walk(wanted)[1])
        rows = (wanted.view(len(wanted), -1, self._count) == FREE).all(-1, keepdim=True)
        free = self._placed(rows.to(code).expand_as(self._rows()))
        return code + free * (self.features - self.features.detach())

    def lead(self, wanted: Tensor) -> Tensor:
        return least_lead(self._walk(wanted)[0], wanted)

    def describe(self) -> str:
        rows, entries = self._rows().shape[1], self.codebook.shape[-2]
        residual = f" residual x {self._count}" if self._count > 1 else ""
        return f"{rows} positions of a {entries}-entry{residual} codebook"

    @property
    def _count(self) -> int:
        """How many quantisers there are."""
        return len(self.codebook) if self.codebook.ndim == 3 else 1

    def _levels(self) -> list[tuple[Tensor, Tensor]]:
        books = self.codebook.to(self.features).view(-1, *self.codebook.shape[-2:])
        return [(book, _spacing(book)) for book in books]

    def _walk(self, wanted: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores (B, T, K) and the code (B, N, D), through all quantisers in turn."""
        rest = self._rows()
        code, scores = torch.zeros_like(rest), []
        asked = None if wanted is None else wanted.view(*rest.shape[:2], self._count)
        for level, (book, spacing) in enumerate(self._levels()):
            near = _near(rest, book, spacing)
            chosen = near.argmax(-1)
            if asked is not None:
                chosen = torch.where(asked[..., level] == FREE, chosen, asked[..., level])
            entry = book[chosen]
            rest, code = rest - entry, code + entry
            scores.append(near)
        return torch.stack(scores, 2).flatten(1, 2), code.detach()


@dataclass(frozen=True, eq=False)
class Grid(_Quantised):
    """The nearest value of a fixed list at each channel of each position: FSQ and LFQ.

    Args:
        features: before rounding, but within the grid's bounds: (B, D, H, W) or (B, D) with D
            first, (B, N, D) with D last. The code has the same shape.
        values: (D, L), the values of each channel; NaN where a channel has fewer than L.

    Each channel of each position is a token of its own here.

    Raises:
        GenrobustError: features and values do not fit.

    Example:
        >>> q = Grid(torch.tensor([[0.4, -0.3]]), Grid.levels([3, 2]))
        >>> q.mode(), q.tokens()
        (tensor([[ 0., -1.]]), tensor([[1, 0]]))
    """

    name = "grid"

    features: Tensor
    values: Tensor = field(metadata=SHARED)

    def __post_init__(self) -> None:
        values, features = self.values, self.features
        channels = features.shape[-1 if features.ndim == 3 else 1] if features.ndim > 1 else 0
        if values.ndim != 2 or len(values) != channels or values.shape[1] < 2:
            raise GenrobustError(
                f"features are {tuple(features.shape)} and the grid's values "
                f"{tuple(values.shape)}; give features (B, D, H, W), (B, N, D) or (B, D) and "
                "values (D, L) with L of 2 or more, such as Grid.levels([8, 5, 5])"
            )

    @staticmethod
    def levels(counts: Sequence[int]) -> Tensor:
        """Values (D, L) of evenly spaced grids from -1 to 1; LFQ has two levels a channel.

        FSQ's grid of an even number of levels goes from -1 to 1 - 2 / L (Mentzer et al. 2024);
        give the values themselves for it.
        """
        table = torch.full((len(counts), max(counts)), math.nan)
        for row, count in zip(table, counts, strict=True):
            row[:count] = torch.linspace(-1, 1, count)
        return table

    def mode(self) -> Tensor:
        return self._placed(self._chosen(self.tokens()))

    def scores(self) -> Tensor:
        # (B, T, L), positions first and channels last among T.
        values = self._table()
        spread = values.nan_to_num(-torch.inf).amax(1) - values.nan_to_num(torch.inf).amin(1)
        spacing = (spread / (values.isfinite().sum(1) - 1)).square()
        apart = (self._rows()[..., None] - values.nan_to_num(0)).square() / spacing[:, None]
        return -apart.masked_fill(values.isnan(), torch.inf).flatten(1, 2)

    def relaxed(self, temperature: float) -> Tensor:
        soft = (self.scores() / temperature).softmax(-1).view(*self._rows().shape, -1)
        return self._placed((soft * self._table().nan_to_num(0)).sum(-1))

    def pinned(self, wanted: Tensor) -> Tensor:
        code = self._placed(self._chosen(torch.where(wanted == FREE, self.tokens(), wanted)))
        free = self._placed((wanted == FREE).to(code).view(self._rows().shape))
        return code + free * (self.features - self.features.detach())

    def describe(self) -> str:
        rows, channels = self._rows().shape[1:]
        return f"{rows} positions of a {channels}-channel grid"

    def _table(self) -> Tensor:
        return self.values.to(self.features)

    def _chosen(self, tokens: Tensor) -> Tensor:
        rows = self._rows()
        table = self._table().expand(*rows.shape, -1)
        return table.gather(-1, tokens.view(*rows.shape, 1))[..., 0]


def _near(rows: Tensor, book: Tensor, spacing: Tensor) -> Tensor:
    """-||row - entry||^2 / spacing, (B, N, K)."""
    lengths = rows.square().sum(-1, keepdim=True) + book.square().sum(-1)
    return -(lengths - 2 * rows @ book.T) / spacing


def _spacing(book: Tensor) -> Tensor:
    """The mean squared distance from an entry to the next one that is another."""
    apart = torch.cdist(book, book).square()
    return apart.masked_fill(apart <= 1e-12, torch.inf).amin(1).mean()

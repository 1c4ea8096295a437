"""Whether the sources that bear a sign stand more often than the others.

What hides the gradient of a part of the sources lifts the score by what stands of these, and no
limit on how many bear a sign sees it. Where the sign is no matter, as many of those that stand bear
it as chance would have: so it is with honest models, whether up to a third of the sources bear it
(codes from a coarse list) or next to none. A limit is that number, with what chance adds to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

#: How often chance may go beyond any of the limits of a run.
CHANCE = 0.01
#: What share of the sources more than by chance must bear a sign and stand: what it may lift.
LIFT = 0.05


@dataclass(frozen=True)
class ContingencyTable:
    """The sources by whether they bear a sign and whether they stand at a radius.

    Args:
        name: of the sign.
        radius: its position in the grid.
        sources, bearing, standing, both: how many there are, bear the sign, stand, and do both.
    """

    name: str
    radius: int
    sources: int
    bearing: int
    standing: int
    both: int

    @property
    def lifted(self) -> float:
        """How many may do both before it is a lift."""
        return self.bearing * self.standing / self.sources + LIFT * self.sources

    @property
    def can_tell(self) -> bool:
        """Whether more could, as far as is known before it is seen who does both."""
        return min(self.bearing, self.standing) > self.lifted

    def limit(self, chance: float) -> float:
        """How many may, where chance goes beyond it that often at most (Fisher's exact test)."""
        from scipy.stats import hypergeom  # here: it takes a second, and few runs need it

        by_chance = hypergeom.isf(chance, self.sources, self.bearing, self.standing)
        return max(self.lifted, float(by_chance))


def stand_more_often(
    borne: Mapping[str, Tensor], radius: Tensor, radii: int
) -> list[tuple[ContingencyTable, float]]:
    """Of each sign whose sources do, the table of the smallest radius that tells it, and its limit.

    Args:
        borne: by name, which sources bear a sign, (B,) bool.
        radius: the position of the first radius that broke each, (B,).
        radii: how many there are.
    """
    if not len(radius):
        return []
    all_tables = (
        _table(name, mask, radius, e) for name, mask in borne.items() for e in range(radii)
    )
    tables = [table for table in all_tables if table.can_tell]
    told: dict[str, tuple[ContingencyTable, float]] = {}
    for table in tables:
        limit = table.limit(CHANCE / len(tables))
        if table.both > limit:
            told.setdefault(table.name, (table, limit))
    return [*told.values()]


def _table(name: str, mask: Tensor, radius: Tensor, e: int) -> ContingencyTable:
    stands = radius > e
    both = int((mask & stands).sum())
    return ContingencyTable(name, e, len(mask), int(mask.sum()), int(stands.sum()), both)

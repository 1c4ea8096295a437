"""Entries that are seeds of one recipe: what can be said of a method, and not of one model.

A model of one training says little of how it was trained: another seed gives another one. Entries
whose submitters say that they are of one recipe, by another seed each, are shown together, with
their mean and an interval over both sources of chance: which seeds were trained, and which images
were attacked (:mod:`genrobust.study.statistics`). Each of them keeps its own rank.

A recipe is its submitter's word, and so is which seeds were submitted. Its entries name the same
authors, so that others' do not change it, and have the same latents and number of parameters, which
a replay has shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from genrobust.board.board import Board, BoardRow
from genrobust.evidence.entry import Submission
from genrobust.records.statistics import interval
from genrobust.seeding import seed_of
from genrobust.study.statistics import Interval, over_seeds


@dataclass(frozen=True, eq=False)
class RankedRecipe:
    """A recipe of which at least two seeds are ranked.

    Args:
        id: unique on its board.
        name: what its submitter calls it.
        rows: all that are said to be of it, in the order of the board.
        counted: those that its numbers are of: of each seed the ranked one of the lowest area.
        area: the mean of their robust areas, in [0, 1], and its 95% interval over seeds and
            sources.
    """

    id: str
    name: str
    rows: tuple[BoardRow, ...]
    counted: tuple[BoardRow, ...]
    area: Interval

    def mean(self, of: Callable[[BoardRow], float | None]) -> float | None:
        """The mean over the counted seeds; None where one of them has no such number."""
        values = [value for row in self.counted if (value := of(row)) is not None]
        return sum(values) / len(values) if len(values) == len(self.counted) else None


class TableLine(NamedTuple):
    """A line of a board's table: a model's, which may be a seed of a recipe, or a recipe's own."""

    row: BoardRow | None
    recipe: RankedRecipe | None


def recipes(board: Board) -> tuple[RankedRecipe, ...]:
    """The recipes of a board, the one with the largest mean area first."""
    said = sorted((key, n) for n, row in enumerate(board.rows) if (key := _key(row)))
    found: list[RankedRecipe] = []
    for (name, *_), group in groupby(said, key=lambda one: one[0]):
        rows = tuple(board.rows[n] for _, n in group)
        lowest: dict[int, BoardRow] = {}
        for row in rows:  # from the largest area down
            if row.rank is not None:
                lowest[_seed(row)] = row
        counted = tuple(lowest.values())
        if len(counted) >= 2:
            found.append(
                RankedRecipe(f"recipe-{len(found)}", name, rows, counted, _area(board, counted))
            )
    return tuple(sorted(found, key=lambda one: (-(one.area.value or 0), one.id)))


def lines(rows: Sequence[BoardRow], found: Sequence[RankedRecipe]) -> list[TableLine]:
    """The lines of a table of these rows: each recipe where its mean area is, then its seeds."""
    recipe_of = {row.contender.id: one for one in found for row in one.rows}
    shown = {row.contender.id for row in rows}
    here = [one for one in found if any(row.contender.id in shown for row in one.rows)]
    made: list[TableLine] = []

    def put(recipe: RankedRecipe) -> None:
        made.append(TableLine(None, recipe))
        made.extend(
            TableLine(row, recipe) for row in rows if recipe_of.get(row.contender.id) is recipe
        )

    for row in rows:
        if row.contender.id in recipe_of:
            continue
        while here and (row.standing != "ranked" or row.area < (here[0].area.value or 0)):
            put(here.pop(0))
        made.append(TableLine(row, None))
    for recipe in here:
        put(recipe)
    return made


def _said(row: BoardRow) -> Submission | None:
    return None if row.contender.entry is None else row.contender.entry.entry.submission


def _key(row: BoardRow) -> tuple[str, ...] | None:
    """What entries of one recipe have in common; None where none is named."""
    said, model = _said(row), row.contender.record.model
    if said is None or said.recipe is None:
        return None
    authors = "; ".join(author.name for author in said.authors)
    return said.recipe, authors, model.latents, str(model.parameters)


def _seed(row: BoardRow) -> int:
    said = _said(row)
    assert said is not None
    assert said.training_seed is not None
    return said.training_seed


def _area(board: Board, counted: Sequence[BoardRow]) -> Interval:
    """By the board's own resamples of the sources, and of each the seeds that it draws."""
    paired, suite = board.paired, board.suite
    places = [paired.ids.index(row.contender.id) for row in counted]
    random = np.random.default_rng(seed_of("recipe", suite.name, suite.version))
    size = (paired.means.shape[1], len(places))
    chosen = np.asarray(places)[random.integers(len(places), size=size)]
    low, high = interval(over_seeds(paired.means.T, places, chosen), suite)
    return Interval(float(paired.areas[places].mean()), float(low), float(high))

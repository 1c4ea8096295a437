"""A study's results: a row a model, means and correlations with intervals, and its page."""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from genrobust import drawing, files
from genrobust.errors import GenrobustError, did_you_mean, in_a_line, unknown_name
from genrobust.records.display import table
from genrobust.study.score import COLUMNS, Row
from genrobust.study.spec import Spec
from genrobust.study.statistics import (
    Array,
    Interval,
    Resamples,
    interval,
    share_between,
    spearman,
)
from genrobust.suites.suite import Frozen, Suite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

#: The file of a study's results.
FILE = "study.json"

#: What other columns are compared with, and what is held fixed.
OUTCOME, FIXED = "robust_area", "squared_error"

#: Why a model is missing that nobody has tried yet.
WAITING = "not done yet"

#: The fewest recipes that a rank correlation is taken over.
FEWEST = 4

MAX_BYTES = 10**8


class Study(Frozen):
    """What a study found; made by ``genrobust study``, read by :func:`genrobust.study.load`.

    ``rows`` are the models that are done, ``missing`` says of the others why.

    Example:
        >>> from genrobust.study import Row, Spec, Study
        >>> from genrobust.suites import load_suite
        >>> spec = Spec(name="two", recipes={"vae": {}, "betavae": {}}, seeds=1)
        >>> def row(name, area):
        ...     return Row(recipe=name, family=name, seed=0, areas=(area,) * 3,
        ...                metrics={"robust_area": area}, weights_sha256="")
        >>> rows = (row("vae", 0.25), row("betavae", 0.5))
        >>> study = Study(spec=spec, suite=load_suite("digits"), rows=rows, genrobust="0.2")
        >>> study
        two: 2 of 2 models, 2 recipes, on digits v2 (3 sources)
        robust area: betavae 0.5 (0.5 to 0.5), vae 0.25 (0.25 to 0.25)
    """

    schema_version: Literal[1] = 1
    spec: Spec
    suite: Annotated[Suite, Field(description="as it was run, with limit and attacks")]
    rows: tuple[Row, ...]
    factors: Annotated[tuple[str, ...], Field(description="that disentanglement is of")] = ()
    missing: Annotated[dict[str, str], Field(default_factory=dict)]
    genrobust: str
    torch: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        if unknown := {row.recipe for row in self.rows} - self.spec.recipes.keys():
            raise ValueError(f"no recipe of the study is called {min(unknown)!r}")
        if len({len(row.areas) for row in self.rows}) > 1:
            raise ValueError("the rows are not of the same sources")
        return self

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes with a model, in the spec's order."""
        there = {row.recipe for row in self.rows}
        return tuple(name for name in self.spec.recipes if name in there)

    def of(self, recipe: str) -> tuple[Row, ...]:
        """A recipe's models."""
        return tuple(row for row in self.rows if row.recipe == recipe)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns in which a model has a number."""
        return tuple(
            name for name in COLUMNS if any(row.metrics.get(name) is not None for row in self.rows)
        )

    def marked(self, recipe: str) -> str:
        """A recipe's name, and how many of its models have flags: their scores may be too high."""
        flagged = sum(bool(row.flags) for row in self.of(recipe))
        return f"{recipe} ({flagged} flagged)" if flagged else recipe

    def means(self, column: str) -> dict[str, Interval]:
        """Of each recipe, the mean over its models, with the interval over seeds and sources.

        Sources are drawn anew for ``robust_area`` alone; the other columns are taken as they were
        measured. With one seed the interval of ``robust_area`` is over sources alone, and the other
        columns have none.

        Args:
            column: one of ``columns``.

        Raises:
            GenrobustError: there is no such column.
        """
        at, values = self._at(column)
        return {
            name: interval(values[i], at[:, i])
            if column == OUTCOME or len(self.of(name)) > 1
            else _bare(values[i])
            for i, name in enumerate(self.recipes)
        }

    def difference(self, recipe: str, other: str, column: str = OUTCOME) -> Interval:
        """The mean of a recipe minus that of another, each source paired with itself.

        Without an interval where either has one seed: it would be one of two models.

        Args:
            recipe: one of ``recipes``.
            other: likewise.
            column: one of ``columns``.

        Raises:
            GenrobustError: there is no such recipe or column.
        """
        for name in (recipe, other):
            if name not in self.recipes:
                raise unknown_name("recipe", name, self.recipes)
        drawn, values = self._at(column)
        i, j = self.recipes.index(recipe), self.recipes.index(other)
        value = values[i] - values[j]
        if min(len(self.of(recipe)), len(self.of(other))) == 1:
            return _bare(value)
        return interval(value, drawn[:, i] - drawn[:, j])

    def correlation(self, column: str, given: str | None = None) -> Interval:
        """Spearman's correlation of a column with robust area over the recipes' means.

        Over the recipes that have the column, at least four, or five with one held fixed. The
        interval is over seeds and sources: it does not say what other recipes would have shown.
        There is none where a recipe has one seed.

        Args:
            column: one of ``columns``.
            given: a column that is held fixed (partial rank correlation).

        Raises:
            GenrobustError: there is no such column.
        """
        named = [column, OUTCOME, *([] if given is None else [given])]
        drawn, values = zip(*(self._at(name) for name in named), strict=True)
        kept = np.isfinite(np.stack(values)).all(0)
        if kept.sum() < FEWEST + (given is not None) or column == OUTCOME:
            return Interval(None)
        value = float(spearman(*(one[kept] for one in values)))
        if min(len(self.of(name)) for name, k in zip(self.recipes, kept, strict=True) if k) == 1:
            return _bare(value)
        return interval(value, spearman(*(one[:, kept] for one in drawn)))

    def seed_share(self) -> float | None:
        """Of the outcome's variance between models, the share that the recipe does not explain.

        None where no recipe has two seeds, or nothing varies.
        """
        share = share_between(self._column(OUTCOME), self._groups)
        return None if share is None else 1 - share

    def to_pandas(self) -> DataFrame:
        """A row a model, a column a number.

        Raises:
            GenrobustError: pandas is not installed.
        """
        return table(self._table())

    def to_csv(self) -> str:
        """The same table as text."""
        text = io.StringIO()
        table = self._table()
        writer = csv.DictWriter(text, list(table[0]) if table else ["recipe"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        return text.getvalue()

    def plot(self, column: str = FIXED, ax: Axes | None = None) -> Axes:
        """Robust area over a column: small marks are models, large ones the recipes' means.

        The legend counts the models with flags.

        Args:
            column: one of ``columns``.
            ax: matplotlib's axes to draw on; default new ones.

        Returns:
            The axes.

        Raises:
            GenrobustError: there is no such column.
        """
        across, areas = self.means(column), self.means(OUTCOME)
        ax = drawing.axes(ax)
        for number, recipe in enumerate(self.recipes):
            look: dict[str, Any] = drawing.style(number)
            look = {"color": look["color"], "marker": drawing.MARKS[number // 6 % 5], "ls": ""}
            pairs = [(row.metrics.get(column), row.metrics[OUTCOME]) for row in self.of(recipe)]
            known = [(x, y) for x, y in pairs if x is not None]
            x, y = across[recipe], areas[recipe]
            if not known or x.value is None or y.value is None:
                continue
            ax.plot(*zip(*known, strict=True), **look, ms=3, alpha=0.5)
            bars: dict[str, Any] = {
                f"{axis}err": [[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]]
                for axis, one in (("x", x), ("y", y))
                if one.value is not None and one.low is not None and one.high is not None
            }
            ax.errorbar(x.value, y.value, **bars, **look, ms=8, lw=0.8, label=self.marked(recipe))
        ax.set(xlabel=column.replace("_", " "), ylabel="robust area")
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
        return ax

    def __repr__(self) -> str:
        count = len(self.spec.recipes) * len(self.spec.seeds)
        head = (
            f"{self.spec.name}: {len(self.rows)} of {count} models, {len(self.recipes)} recipes, "
            f"on {self.suite.name} v{self.suite.version} ({self._sources} sources)"
        )
        if not self.rows:
            return head
        areas = sorted(self.means(OUTCOME).items(), key=lambda pair: -(pair[1].value or 0.0))
        told = ", ".join(f"{self.marked(name)} {area}" for name, area in areas)
        return f"{head}\nrobust area: {told}"

    __str__ = __repr__

    def save(self, folder: Path) -> None:
        """Write ``study.json`` and ``table.csv``."""
        files.write_text(folder / FILE, self.model_dump_json(indent=1) + "\n")
        files.write_text(folder / "table.csv", self.to_csv())

    @property
    def _sources(self) -> int:
        return len(self.rows[0].areas) if self.rows else len(self.suite.sample_ids)

    @property
    def _groups(self) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(i for i, row in enumerate(self.rows) if row.recipe == name)
            for name in self.recipes
        )

    def _column(self, column: str) -> Array:
        if column not in self.columns:
            raise GenrobustError(
                f"the study '{self.spec.name}' has no column '{column}';"
                f"{did_you_mean(column, self.columns)} choose one of {', '.join(self.columns)}"
            )
        return np.array(
            [np.nan if (v := row.metrics.get(column)) is None else v for row in self.rows]
        )

    def _at(self, column: str) -> tuple[Array, Array]:
        """Resampled means (R, n) and means (n,) of the recipes; NaN where a model has none."""
        values, draws = self._column(column), _draws(self._groups, self._sources)
        if column == OUTCOME:
            per_model, drawn = draws.by_picture(np.array([row.areas for row in self.rows]))
        else:
            per_model, drawn = draws.by_model(values)
        return drawn, draws.means(per_model)

    def _table(self) -> list[dict[str, Any]]:
        return [
            {
                "recipe": row.recipe,
                "family": row.family,
                "seed": row.seed,
                **{name: row.metrics.get(name) for name in self.columns},
                "flags": "; ".join(row.flags),
                "weights_sha256": row.weights_sha256,
            }
            for row in self.rows
        ]


def _bare(value: float) -> Interval:
    return Interval(float(value) if np.isfinite(value) else None)


@lru_cache(maxsize=2)
def _draws(groups: tuple[tuple[int, ...], ...], sources: int) -> Resamples:
    return Resamples.draw(groups, sources)


def load(path: str | Path) -> Study:
    """The results of a study.

    Args:
        path: its ``study.json``, or the folder that holds it.

    Raises:
        GenrobustError: there is none, or it is none of this version.

    Example:
        >>> import tempfile
        >>> from genrobust.suites import load_suite
        >>> spec = Spec(name="none", suite="digits", recipes={"vae": {}})
        >>> study = Study(spec=spec, suite=load_suite("digits"), rows=(), genrobust="0.1.0")
        >>> folder = Path(tempfile.mkdtemp())
        >>> study.save(folder)
        >>> load(folder)
        none: 0 of 3 models, 0 recipes, on digits v2 (90 sources)
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    try:
        return Study.model_validate_json(files.read_text(file, MAX_BYTES))
    except (OSError, ValueError) as problem:
        raise GenrobustError(
            f"'{file}' cannot be read as a study's results ({in_a_line(problem)}); give the folder "
            "of 'genrobust study SPEC --out FOLDER'"
        ) from problem

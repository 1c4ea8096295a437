"""What a reproduction is given, what it gives back, and the pages it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrobust import drawing, files
from genrobust._version import __version__
from genrobust.arguments import whole_seed
from genrobust.errors import GenrobustError
from genrobust.registry import Registry
from genrobust.seeding import seed_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: A publication's name to the function that runs it.
PUBLICATIONS: Registry[Callable[[Setup], Reproduction]] = Registry(
    "publication",
    {
        name: f"genrobust.reproduce.{name}:{name}"
        for name in (
            *("thesis", "auddc", "camuto2021", "khan2023", "kos2018"),
            *("kuzina2022", "willetts2021"),
        )
    },
)


@dataclass(frozen=True)
class Setup:
    """Where things are, and how much is done.

    Args:
        out: the folder to write to. What was measured is kept in its sub-folder ``parts``, so that
            a stopped reproduction goes on.
        data_root: the folder with MNIST.
        checkpoints: a folder with weights, ``NAME.safetensors`` as ``genrobust train`` writes them
            (they replace those that ship), and published ones.
        reference: a folder with published results: ``thesis_matrices.csv``,
            ``distortion_curves_2016.csv``.
        sources: how many pictures are attacked; default the publication's choice.
        fast: a trial on a few digits with a few steps: its numbers mean nothing.
        seed: of every random draw.
        say: called with a line when a part of the work is done.

    Example:
        >>> Setup(Path("reproduced"), fast=True).dataset
        'digits'
    """

    out: Path
    data_root: Path | None = None
    checkpoints: Path | None = None
    reference: Path | None = None
    sources: int | None = None
    fast: bool = False
    seed: int = 0
    say: Callable[[str], None] = field(default=lambda line: None, compare=False)

    def __post_init__(self) -> None:
        whole_seed(self.seed)
        if self.sources is not None and self.sources < 1:
            raise GenrobustError(f"--sources is {self.sources}; it must be 1 or more")
        for option in ("checkpoints", "reference"):
            folder = getattr(self, option)
            if folder is not None and not folder.is_dir():
                raise GenrobustError(
                    f"--{option} '{folder}' is no folder; give one, or leave it out"
                )

    @property
    def dataset(self) -> str:
        """The data set that the publication is tried on."""
        return "digits" if self.fast else "mnist"

    def kept(self, name: str, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """What an earlier call found of this part of the work, or what ``compute`` gives now.

        Args:
            name: of the part, for its file.
            key: all that the result depends on, as JSON.
            compute: gives the result, as JSON.
        """
        told = json.dumps({**key, "genrobust": __version__, "seed": self.seed}, sort_keys=True)
        path = self.out / "parts" / f"{name}-{seed_of(told):016x}.json"
        if path.is_file():
            return json.loads(files.read_text(path))["found"]
        found = compute()
        files.write_text(path, json.dumps({"key": json.loads(told), "found": found}))
        self.say(name)
        return found

    def published(self, name: str) -> Path | None:
        """A file of published results, if a folder of them was given.

        Raises:
            GenrobustError: it is not in that folder.
        """
        if self.reference is None:
            return None
        path = self.reference / name
        if not path.is_file():
            raise GenrobustError(
                f"'{self.reference}' holds no {name}; give the folder that does, or leave "
                "--reference out, and the page says what is then missing"
            )
        return path


@dataclass(frozen=True, eq=False)
class Reproduction:
    """Published beside measured: a page, its figures, and the numbers.

    Args:
        title: of the page.
        text: the page's Markdown without its title; figures are named ``FIGURE.svg`` there.
        summary: the table that a terminal shows, in Markdown.
        results: what was measured, as JSON.
        figures: by the names of their files without ``.svg``.

    Example:
        >>> found = Reproduction("A page", "Nothing moved.", "", {"moved": 0})
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     page = found.write("nothing", Setup(Path(folder)), "genrobust reproduce nothing")
        ...     print(page.read_text().splitlines()[2])
        Nothing moved.
    """

    title: str
    text: str
    summary: str
    results: dict[str, Any]
    figures: dict[str, Figure] = field(default_factory=dict)

    def write(self, name: str, setup: Setup, command: str) -> Path:
        """Write ``NAME.md``, ``NAME.json`` and the figures; the page's path."""
        trial = (
            "**A trial of the command on a few digits, with a few steps: no result.**\n\n"
            if setup.fast
            else ""
        )
        for figure, drawn in self.figures.items():
            save(drawn, setup.out / f"{figure}.svg")
        numbers = {"publication": name, "genrobust": __version__, "command": command}
        text = json.dumps({**numbers, **self.results}, indent=1, sort_keys=False)
        files.write_text(setup.out / f"{name}.json", text + "\n")
        page = setup.out / f"{name}.md"
        made = f"genrobust {__version__}, `{command}`; the numbers: [{name}.json]({name}.json)."
        files.write_text(page, f"# {self.title}\n\n{trial}{self.text.strip()}\n\n{made}\n")
        return page


def reproduce(name: str, setup: Setup, command: str | None = None) -> Reproduction:
    """Measure again what a publication measured, and write a page that shows both.

    Args:
        name: of the publication: one of :data:`PUBLICATIONS`.
        setup: where things are, and how much is done.
        command: what the page says that it was made by; default ``genrobust reproduce NAME``.

    Returns:
        What was written to ``setup.out``: ``NAME.md``, ``NAME.json``, figures.

    Raises:
        GenrobustError: no such publication; data, weights or published results are not where they
            were said to be; the folder cannot be written.

    Example:
        >>> reproduce("sootla", Setup(Path("reproduced")))
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: unknown publication 'sootla'; ...
    """
    run = PUBLICATIONS.get(name)
    found = run(setup)
    found.write(name, setup, command or f"genrobust reproduce {name}")
    return found


@dataclass(frozen=True)
class SampleEstimate:
    """A number with its 95% interval, and on how many it rests.

    >>> str(SampleEstimate(0.25, 0.125, 0.5, 8)), f"{SampleEstimate(0.25, 0.125, 0.5, 8):.0%}"
    ('0.25 [0.12, 0.50]', '25% [12%, 50%]')
    """

    value: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        value, low, high = (format(x, spec or ".2f") for x in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self)


def wilson(share: float, n: float) -> SampleEstimate:
    """A share of n independent trials with Wilson's interval, which holds at 0 and 1 too.

    >>> f"{wilson(0, 100):.1%}"
    '0.0% [0.0%, 3.7%]'
    """
    z = 1.959964
    if not n:
        return SampleEstimate(float("nan"), 0.0, 1.0, 0)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return SampleEstimate(
        share, max(0.0, middle - half), max(share, min(1.0, middle + half)), round(n)
    )


def bootstrapped(
    values: Sequence[Any], statistic: Callable[[Any], float], seed: int, resamples: int = 2000
) -> SampleEstimate:
    """A statistic of rows with its percentile interval, rows drawn with replacement.

    Of what is NaN in some draws, as the correlation with what does not vary there, of the others.

    Args:
        values: one row a unit, (N,) or (N, K).
        statistic: of such an array.
        seed: of the draws.
        resamples: how many.
    """
    import numpy as np

    rows = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed_of("reproduce", seed))
    drawn = [statistic(rows[draws.integers(0, len(rows), len(rows))]) for _ in range(resamples)]
    known = [value for value in drawn if not isnan(value)] or [nan]
    low, high = np.quantile(known, [0.025, 0.975])
    return SampleEstimate(float(statistic(rows)), float(low), float(high), len(rows))


def mean_of(values: Sequence[float], seed: int) -> SampleEstimate:
    """The mean of numbers with its interval; see :func:`bootstrapped`."""
    return bootstrapped(values, lambda drawn: float(drawn.mean()), seed)


def spearman(pairs: Any) -> float:
    """:func:`genrobust.study.statistics.spearman` of the two columns of (N, 2).

    >>> spearman([[1, 10], [2, 20], [3, 40]]), spearman([[1, 10], [2, 10]])
    (1.0, nan)
    """
    import numpy as np

    from genrobust.study import statistics

    return round(float(statistics.spearman(*np.asarray(pairs, dtype=float).T)), 12)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(table(["model", "mean"], [["vae", "3"]]))
    | model | mean |
    | --- | --- |
    | vae | 3 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, the same bytes for the same figure; its text stays text."""
    drawn = drawing.svg(figure, hashsalt="genrobust", fonttype="none")
    files.write_text(path, "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n")

"""A study's page: Markdown with tables, and figures beside it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from genrobust import drawing, files
from genrobust.norms import load_norm
from genrobust.study.score import COLUMNS
from genrobust.study.statistics import Interval
from genrobust.study.study import FIXED, OUTCOME, WAITING, Study

PAGE = "study.md"

#: The columns that are drawn against robust area, where they are known.
DRAWN = ("squared_error", "kl", "total_correlation", "mig", "dci_disentanglement")

#: The columns of the table of recipes.
SHOWN = (OUTCOME, "clean_accuracy", "squared_error", "kl", "active_latents", "total_correlation")


def write_page(study: Study, folder: Path) -> Path:
    """``study.md`` and its figures, in SVG."""
    if study.rows:
        for column in _drawn(study):
            files.write_text(folder / f"{column}.svg", _figure(study, column))
    path = folder / PAGE
    files.write_text(path, "\n".join(_lines(study)) + "\n")
    return path


def _lines(study: Study) -> list[str]:
    spec, suite = study.spec, study.suite
    seeds = sorted({len(study.of(recipe)) for recipe in study.recipes}) or [0]
    many = f"{seeds[0]} seed{'s' * (seeds[0] != 1)}"
    many = many if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    lines = [f"# Study: {spec.name}", ""]
    lines += [spec.description.strip(), ""] if spec.description.strip() else []
    lines += [
        f"{len(study.rows)} of {len(spec.recipes) * len(spec.seeds)} models: {len(study.recipes)} "
        f"recipes with {many}, trained "
        f"on {spec.dataset} and scored on {len(suite.sample_ids)} sources of {suite.name} "
        f"v{suite.version} ({load_norm(suite.norm).label}, radii "
        f"{', '.join(f'{e:g}' for e in suite.eps)}, scored by {suite.rule}; "
        f"{len(suite.attacks)} attacks). genrobust {study.genrobust}, torch {study.torch}. The "
        "numbers are in [study.json](study.json) and [table.csv](table.csv).",
        "",
    ]
    if not study.rows:
        return [*lines, *_missing(study)]
    lines += [*_recipes(study), *_figures(study), *_correlations(study), *_missing(study)]
    return [*lines, "## How sure", "", *_how_sure(study)]


def _recipes(study: Study) -> list[str]:
    columns = [name for name in SHOWN if name in study.columns]
    means = {name: study.means(name) for name in columns}
    order = sorted(study.recipes, key=lambda name: -(means[OUTCOME][name].value or 0.0))
    rows, first = [], study.recipes[0]
    for recipe in order:
        models = study.of(recipe)
        cells = [
            str(means[name][recipe]) if name in (OUTCOME, FIXED) else _plain(means[name][recipe])
            for name in columns
        ]
        cells.insert(1, "" if recipe == first else str(study.difference(recipe, first)))
        rows.append([study.marked(recipe), models[0].family, str(len(models)), *cells])
    heads = [name.replace("_", " ") for name in columns]
    heads.insert(1, f"more than {first}")
    note = (
        "Means over seeds, the most robust first. Differences are of the same sources in pairs, "
        "and so surer than two intervals suggest."
    )
    flags = Counter(flag for row in study.rows for flag in row.flags)
    if flags:
        told = ", ".join(f"{name} ({count})" for name, count in flags.most_common())
        note += (
            " Flagged models count in every number here, and their robustness may be too high or "
            f"say little: {told}; whose, is in [table.csv](table.csv)."
        )
    single = [name for name in study.recipes if len(study.of(name)) == 1]
    if single:
        note += (
            f" Of {', '.join(single)} there is one seed: their intervals are of the sources alone, "
            "and say nothing of the recipe."
        )
    return ["## Recipes", "", note, "", *_table(["recipe", "family", "seeds", *heads], rows), ""]


def _figures(study: Study) -> list[str]:
    lines = ["## Beside robust area", ""]
    for column in _drawn(study):
        words = column.replace("_", " ")
        lines += [
            f"![Robust area over {words}, a colour and mark a recipe; its models small, their "
            f"mean large with its interval]({column}.svg)",
            "",
        ]
    return lines


def _correlations(study: Study) -> list[str]:
    rows = []
    for column in study.columns:
        if column == OUTCOME:
            continue
        found, at = study.correlation(column), study.correlation(column, given=FIXED)
        rows.append([column.replace("_", " "), COLUMNS[column], str(found), str(at)])
    heads = ["column", "what it is", "with robust area", "at fixed squared error"]
    note = (
        "Spearman's correlation over the recipes' means, and the partial one at a fixed squared "
        "error; - where it is undefined, or fewer than four (five) recipes have the column."
    )
    known = (
        f"Disentanglement is of {', '.join(study.factors)}."
        if study.factors
        else f"No factors of {study.spec.dataset} are known, so that no disentanglement is scored."
    )
    return ["## Rank correlations", "", f"{note} {known}", "", *_table(heads, rows), ""]


def _missing(study: Study) -> list[str]:
    if not study.missing:
        return []
    waiting = [name for name, why in study.missing.items() if why == WAITING]
    lines = ["## Not there", ""]
    if waiting:
        counts = Counter(name.rpartition(", seed ")[0] for name in waiting)
        of = ", ".join(f"{count} of {recipe}" for recipe, count in counts.items())
        lines += [f"Not done yet: {len(waiting)} models, {of}.", ""]
    for name, why in study.missing.items():
        if name not in waiting:
            lines += [f"- {name}: {why}"]
    return [*lines, ""] if lines[-1] else lines


def _how_sure(study: Study) -> list[str]:
    share = study.seed_share()
    lines = [
        "Intervals are the middle 95% of 2,000 resamples of two levels: the sources, once for all "
        "models, and each recipe's seeds (stretched for how few they are, Rao & Wu 1988). They "
        "hold for these recipes: others could correlate otherwise, and no correlation says what "
        "causes what."
    ]
    if share is not None:
        lines.append(
            f"Of the variance of robust area between models, {share:.0%} lies between seeds of one "
            f"recipe and {1 - share:.0%} between recipes (intraclass correlation, Shrout & Fleiss "
            "1979)."
        )
    return [line for paragraph in lines for line in (paragraph, "")][:-1]


def _drawn(study: Study) -> list[str]:
    return [name for name in DRAWN if name in study.columns]


def _plain(found: Interval) -> str:
    return "-" if found.value is None else f"{found.value:.3g}"


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _figure(study: Study, column: str) -> str:
    """The same bytes for the same study."""
    figure = drawing.blank(7.2, 4.4)
    study.plot(column, figure.subplots())
    return drawing.svg(figure, hashsalt=study.spec.name)

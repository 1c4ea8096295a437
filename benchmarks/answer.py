"""Does disentangling change robustness? What the leaderboard and the studies say of it.

    python benchmarks/answer.py

Measures nothing: reads the leaderboard's entries and the studies below ``docs/measured/studies``,
and compares models on the same sources in pairs. Writes ``benchmarks/answer-*.md`` for
docs/answer.md and docs/defences.md, and the figure of the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

import genrobust.study
from genrobust import Record, drawing
from genrobust.board.board import contender, make_boards
from genrobust.evidence.entries import read_entry
from genrobust.records.record import Estimate
from genrobust.study import Study

HERE = Path(__file__).parent
ENTRIES = HERE.parent / "leaderboard" / "entries"
STUDIES = HERE.parent / "docs" / "measured" / "studies"
CHART = HERE.parent / "docs" / "figures" / "answer.svg"

#: Of one network and one training: the plain VAE, and those beside it: of the zoo first one that
#: nothing disentangles, whose weights decay, and then those that were made to disentangle.
NETWORKS = {
    "disentangling-vae, published": (
        "disvae-vae-mnist",
        ("disvae-betah-mnist", "disvae-btcvae-mnist", "disvae-factor-mnist"),
    ),
    "the zoo": (
        "zoo-vae",
        ("zoo-vae-wd", "zoo-betavae", "zoo-betavae-capacity", "zoo-jointvae"),
    ),
}
#: Of a study: what nothing disentangles, and what has a penalty for disentangling.
CONTROLS = ("vae", "vae-wd-1", "autoencoder")
DISENTANGLED = (
    "betavae-4",
    "betavae-16",
    "capacity-10",
    "jointvae",
    "factorvae",
    "factorvae-40",
    "betatcvae",
    "dipvae-i",
    "dipvae-ii",
)
#: What a study says of each recipe beside its robustness.
BESIDE = ("squared_error", "kl", "total_correlation", "mig", "dci_disentanglement", "factor_score")


def main() -> None:
    studies = [genrobust.study.load(path.parent) for path in sorted(STUDIES.glob("*/study.json"))]
    texts = {
        "boards": boards(),
        "studies": "\n\n".join(map(recipes, studies)),
        "correlations": correlations(studies),
        "defended": defended(),
    }
    for name, text in texts.items():
        (HERE / f"answer-{name}.md").write_text(text + "\n")
        print(text, "\n")
    with mpl.rc_context({"svg.hashsalt": "genrobust"}):
        chart().savefig(CHART, metadata={"Date": None})


def board() -> Path:
    """The folder of the newest version of `mnist` that has all."""
    wanted = [slug for plain, others in NETWORKS.values() for slug in (plain, *others)]
    whole = [f for f in ENTRIES.glob("mnist-v*") if all((f / slug).is_dir() for slug in wanted)]
    return max(whole, key=lambda folder: int(folder.name.rpartition("-v")[2]))


def boards() -> str:
    rows = []
    for network, (plain, others) in NETWORKS.items():
        first = Record.load(board() / plain)
        rows.append([network, *cells(first), ""])
        for slug in others:
            record = Record.load(board() / slug)
            rows.append(["", *cells(record), told(record.compare(first).robust_area)])
    first = Record.load(board() / "zoo-vae")
    radii = ", ".join(f"{e:g}" for e in first.suite.eps)
    heads = ["network and training", "model", "squared error", "KL, nats", "total correlation"]
    heads += [f"stands at {radii}, %", "robust area, %", "more than the plain VAE, points"]
    return "\n".join(
        [
            f"`{board().name}`: {first.scores.sources:,} sources, L-inf; total correlation of the "
            "means, as if Gaussian, in nats. `python benchmarks/answer.py`.",
            "",
            *table(heads, rows),
        ]
    )


def cells(record: Record) -> list[str]:
    scores = record.scores
    assert scores.robust_area is not None
    assert scores.kl is not None
    correlation = scores.total_correlation
    area = scores.robust_area
    return [
        record.model.name,
        f"{scores.reconstruction_error.value:.1f}",
        f"{scores.kl.value:.1f}",
        "" if correlation is None else f"{correlation:.1f}",
        ", ".join(f"{100 * at.robust_accuracy.value:.0f}" for at in scores.per_eps),
        f"{100 * area.value:.1f} [{100 * area.low:.1f}, {100 * area.high:.1f}]",
    ]


def told(found: Estimate | None) -> str:
    assert found is not None
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def recipes(study: Study) -> str:
    """Controls and disentangled recipes against the plain VAE, and beside it their errors."""
    suite = study.suite
    columns = [name for name in BESIDE if name in study.columns]
    means = {name: study.means(name) for name in columns}
    rows = [
        [
            recipe,
            str(len(study.of(recipe))),
            "" if recipe == "vae" else str(study.difference(recipe, "vae")),
            *("-" if (v := means[c][recipe].value) is None else f"{v:.3g}" for c in columns),
        ]
        for recipe in (*CONTROLS, *DISENTANGLED)
        if recipe in study.recipes
    ]
    share = study.seed_share()
    between = (
        ""
        if share is None
        else f" Of the variance of robust area between all of its models, {share:.0%} lies between "
        "seeds of one recipe."
    )
    heads = [
        "recipe",
        "seeds",
        "robust area, more than vae",
        *(c.replace("_", " ") for c in columns),
    ]
    return "\n".join(
        [
            f"**{study.spec.name}**: {len(study.rows)} models on {len(suite.sample_ids)} sources, "
            f"L-inf {', '.join(f'{e:g}' for e in suite.eps)}.{between}",
            "",
            *table(heads, rows),
        ]
    )


def correlations(studies: list[Study]) -> str:
    """Over all recipes of a study, with robust area, also at a fixed squared error."""
    heads = ["study", "recipes", "column", "with robust area", "at fixed squared error"]
    rows = [
        [
            study.spec.name,
            str(len(study.recipes)),
            column.replace("_", " "),
            str(study.correlation(column)),
            "" if column == "squared_error" else str(study.correlation(column, "squared_error")),
        ]
        for study in studies
        for column in BESIDE
        if column in study.columns
    ]
    return "\n".join(table(heads, rows))


def defended() -> str:
    """Defended entries of digits beside the undefended ones, all whole and of the board's rank."""
    entries = map(read_entry, sorted((ENTRIES / "digits-v2").iterdir()))
    (found,) = make_boards(map(contender, entries))
    plain = [row for row in found.ranked if row.contender.defence is None]
    rows = []
    for row in found.ranked:
        one = row.contender
        error = row.best.scores.reconstruction_error
        cells = [one.name, one.id, f"{100 * row.area:.1f}"]
        cells += [f"{100 * at.robust_accuracy.value:.0f}" for at in row.best.scores.per_eps[-2:]]
        cells.append(f"{error.value:.2f} [{error.low:.2f}, {error.high:.2f}]")
        if one.defence is None:
            cells += ["", ""]
        else:
            gains = [found.paired.difference(one.id, other.contender.id) for other in plain]
            less = [other for other, gain in zip(plain, gains, strict=True) if (gain.low or 0) > 0]
            equal = [o for o in less if o.best.scores.reconstruction_error.value >= error.value]
            smallest = min(gains, key=lambda gain: gain.value or 0)
            cells += [told(smallest), f"{len(less)}; {len(equal)}"]
        rows.append(cells)
    radii = [f"stands at {e:g}, %" for e in found.suite.eps[-2:]]
    heads = ["model", "entry", "robust area, %", *radii, "squared error"]
    heads += ["more than the best undefended, points", f"beats, of {len(plain)}"]
    return "\n".join(
        [
            f"`{found.name}`, {len(found.suite.sample_ids)} sources, L-inf. `python "
            "benchmarks/answer.py`.",
            "",
            *table(heads, rows),
        ]
    )


def chart() -> Figure:
    """Robust area over squared error; an arrow from each plain VAE to those beside it."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for number, (network, (plain, others)) in enumerate(NETWORKS.items()):
        places = {}
        for slug in (plain, *others):
            scores = Record.load(board() / slug).scores
            assert scores.robust_area is not None
            error, area = scores.reconstruction_error.value, 100 * scores.robust_area.value
            low, high = 100 * scores.robust_area.low, 100 * scores.robust_area.high
            look = drawing.style(number) | {"ls": "none"}
            label = network if slug == plain else None
            axes.errorbar(error, area, [[area - low], [high - area]], label=label, **look)
            name = slug.removeprefix("zoo-").removeprefix("disvae-").removesuffix("-mnist")
            where: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8}
            if slug == plain:  # where no arrow leaves it
                axes.annotate(name, (error, area), (-6, -10), ha="right", **where)
            else:
                axes.annotate(name, (error, high), (0, 4), ha="center", **where)
            places[slug] = (error, area)
        for slug in others:
            arrow = {"arrowstyle": "->", "color": "grey", "lw": 0.7, "shrinkA": 6, "shrinkB": 6}
            axes.annotate("", places[slug], places[plain], arrowprops=arrow)
    axes.margins(x=0.12, y=0.1)
    axes.set(xlabel="squared error of the clean reconstruction", ylabel="robust area, %")
    drawing.legend_above(axes)
    return figure


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


if __name__ == "__main__":
    main()

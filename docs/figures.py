"""The figures of the pages, from the leaderboard's stored evidence: ``python docs/figures.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.image import imread

from genrobust import Record
from genrobust.evidence.shown import example_radius

HERE = Path(__file__).parent
ENTRIES = HERE.parent / "leaderboard" / "entries"
MODELS = ("vae", "vae-wd", "betavae", "betavae-capacity", "jointvae")


def board(suite: str) -> Path:
    """The folder of the newest version of a suite of which there is every model that ships."""
    whole = [
        folder
        for folder in ENTRIES.glob(f"{suite}-v*")
        if all((folder / f"zoo-{model}").is_dir() for model in MODELS)
    ]
    return max(whole, key=lambda folder: int(folder.name.rpartition("-v")[2]))


def entry(model: str, suite: str = "digits") -> Record:
    """The record of a model that ships."""
    return Record.load(board(suite) / f"zoo-{model}")


def examples(model: str = "vae", suite: str = "mnist") -> Figure:
    """The pictures of an entry, which a replay has drawn again, with what each row is."""
    folder = board(suite) / f"zoo-{model}"
    pixels = imread(folder / "thumbnails.png")
    eps = entry(model, suite).suite.eps
    rows = ("source", "attacked", "reconstruction", "of the attacked")
    side = len(pixels) // len(rows)
    figure = Figure(figsize=(6.4, 2.3), layout="constrained")
    axes = figure.subplots()
    axes.imshow(pixels, cmap="gray", interpolation="nearest")
    axes.set_yticks([side * (row + 0.5) for row in range(len(rows))], rows)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    most = f"pixels change by at most {eps[example_radius(eps)]:g}"
    axes.set_title(f"{model} on {board(suite).name}: {most}")
    return figure


def curves(suite: str) -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for model in MODELS:
        entry(model, suite).plot_curve(axes, label=model)
    figure.suptitle(board(suite).name)  # above the legend
    return figure


def rates() -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    entry("jointvae").plot_curve(figure.subplots())
    figure.suptitle(f"jointvae on {board('digits').name}")
    return figure


def pairs() -> Figure:
    figure = Figure(figsize=(5, 4), layout="constrained")
    record = entry("jointvae", "mnist")
    record.plot_pairs(ax=figure.subplots())
    return figure


def trade_off() -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for model in MODELS:
        scores = entry(model).scores
        error, area = scores.reconstruction_error, scores.robust_area
        assert area is not None
        axes.errorbar(
            error.value,
            area.value,
            xerr=[[error.value - error.low], [error.high - error.value]],
            yerr=[[area.value - area.low], [area.high - area.value]],
            fmt="o",
            color="#0072B2",
            lw=1,
        )
        axes.annotate(model, (error.value, area.value), (5, 5), textcoords="offset points")
    axes.set(xlabel="squared error of the clean reconstruction", ylabel="robust area")
    axes.set_title(board("digits").name)
    return figure


def main() -> None:
    """Write the figures; the same evidence gives the same bytes."""
    figures = {
        "examples": examples(),
        "curves": curves("digits"),
        "curves-mnist": curves("mnist"),
        "rates": rates(),
        "pairs": pairs(),
        "trade-off": trade_off(),
    }
    (HERE / "figures").mkdir(exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "genrobust"}):
        for name, figure in figures.items():
            figure.savefig(HERE / "figures" / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

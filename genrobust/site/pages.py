"""The pages of the site, from boards to bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from genrobust.board.board import Board, BoardRow
from genrobust.board.playground import SHEET_ROWS, is_playable, sheet
from genrobust.board.recipes import RankedRecipe, lines, recipes
from genrobust.data.base import DATASETS
from genrobust.evidence.entries import (
    ENTRY,
    PICTURE_ROWS,
    PICTURES,
    SHOWN,
    TRAVERSALS,
    VERIFICATION,
    LoadedEntry,
    PngImage,
)
from genrobust.evidence.entry import BundledModel, ExternalModel, Outcomes, ZooModel
from genrobust.evidence.shown import example_positions, example_radius
from genrobust.report.figures import Chart, comparison_chart
from genrobust.report.html import environment, reading, section_of
from genrobust.site.cite import bibtex
from genrobust.site.export import FIRST, script_data, to_csv, to_json
from genrobust.site.tradeoffs import TradeOff, ticks, trade_offs
from genrobust.verify.verify import PROVES

PACKAGE = "genrobust.site"
#: The page of all rows of a board that has more than its first page shows.
ALL = "all.html"
#: How many leaders a board's card on the first page names.
NAMED = 5


@dataclass(frozen=True)
class BoardColumn:
    """A column of the board: its label in one or two lines, and what it says when pointed at.

    ``between`` the two lines is for those who hear them.
    """

    key: str
    label: str
    help: str
    above: str = ""
    between: str = ""
    kind: str = "number"

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.above, self.between, self.label) if part)


@dataclass(frozen=True)
class PictureColumn:
    """A column of an entry's pictures."""

    label: int
    sample_id: int
    changed: bool


def render(boards: Sequence[Board]) -> Iterator[tuple[str, bytes]]:
    """Every file of the site, as path and content; the same boards give the same bytes."""
    yield "index.html", _page("home.html", "", boards=boards, named=NAMED)
    for board in boards:
        yield from _board_files(board)
        if has_playground(board):
            yield from _playground_files(board)
        for row in board.rows:
            yield from _entry_files(board, row)


def columns(board: Board) -> tuple[BoardColumn, ...]:
    """The columns of a board's table, from the left, after that of the names."""
    last = f"{board.suite.eps[-1]:g}"
    return (
        BoardColumn(
            "area", "Robust area", "Robust accuracy averaged over radii from 0 to the largest"
        ),
        *(
            BoardColumn(
                f"eps-{e}", f"{eps:g}", f"Robust accuracy at eps {eps:g}", "Robust", "at eps"
            )
            for e, eps in enumerate(board.suite.eps)
        ),
        BoardColumn(
            "eps50",
            "eps50",
            "The radius at which half of the eligible sources have fallen",
            "Half fall",
            "at",
        ),
        BoardColumn(
            "target",
            last,
            f"Share of eligible sources turned into their target's class at eps {last}",
            "Targeted",
            "at eps",
        ),
        BoardColumn(
            "attack",
            "attack",
            "What lowered the score: the suite's own run, or a submitted attack",
            "Best-known",
            kind="text",
        ),
        BoardColumn("verified", "Verified", "How deep the entry was verified, and when"),
        BoardColumn(
            "defence",
            "Defence",
            "What is done against attacks, by the model's family or what it is wrapped in",
            kind="text",
        ),
        BoardColumn(
            "flags", "Flags", "Signs that attacks were hindered: the score may be too high"
        ),
        BoardColumn(
            "clean", "accuracy", "Share of sources reconstructed right without an attack", "Clean"
        ),
        BoardColumn(
            "error",
            "error",
            "Squared error of the clean reconstruction, summed over pixels",
            "Clean",
        ),
        BoardColumn("latent", "size", "Numbers in the code", "Latent"),
        BoardColumn("parameters", "parameters", "Numbers in the model", "Model"),
        BoardColumn(
            "cost",
            "per source",
            "Images passed through the model and gradients taken, per source",
            "Cost",
        ),
    )


def area_range(board: Board) -> tuple[float, float]:
    """Round ends of the range that holds all intervals of robust area."""
    own = [row.best.scores.robust_area for row in board.rows]
    every = [*own, *(one.area for one in recipes(board))]
    known = [end for area in every if area for end in (area.low, area.high) if end is not None]
    if not known:
        return 0.0, 1.0
    found = ticks(min(known), max(known))
    return found[0], found[-1]


def recipe_means(recipe: RankedRecipe) -> dict[str, Any]:
    """What a recipe's line shows beside its area: means over its seeds, and the least depth."""

    def robust(e: int) -> Callable[[BoardRow], float]:
        return lambda row: row.best.scores.per_eps[e].robust_accuracy.value

    def target(row: BoardRow) -> float | None:
        found = row.best.scores.per_eps[-1].as_target
        return None if found is None else found.value

    def cost(row: BoardRow) -> float:
        return (row.best.forwards + row.best.backwards) / row.best.scores.sources

    radii = range(len(recipe.counted[0].best.suite.eps))
    states = {row.contender.state for row in recipe.counted}
    return {
        "eps": [recipe.mean(robust(e)) for e in radii],
        "target": recipe.mean(target),
        "clean": recipe.mean(lambda row: row.best.scores.clean_accuracy.value),
        "error": recipe.mean(lambda row: row.best.scores.reconstruction_error.value),
        "cost": recipe.mean(cost),
        "depth": "replay" if "replay" in states else "re-attack",
    }


def board_headline(board: Board) -> str:
    """Who leads, in a sentence."""
    leaders = board.leaders
    if not leaders:
        return "No model is ranked on this board yet."
    area = f"{leaders[0].area:.1%}"
    first, others = leaders[0].contender.name, len(leaders) - 1
    if not others:
        return f"{first} leads with a robust area of {area}."
    them = leaders[1].contender.name if others == 1 else f"{others} others"
    return (
        f"{first} has the largest robust area, {area}; {them} may be as good: "
        f"the difference{'s' if others > 1 else ''} could be chance."
    )


def overview(rows: Sequence[BoardRow]) -> Chart:
    """One chart with the curves of models on a board."""
    return comparison_chart([(row.contender.name, row.best) for row in rows])


def standing(board: Board, row: BoardRow) -> str:
    """A row's place in words."""
    if row.rank is None:
        return {
            "without outcomes": "Not ranked: the run kept no outcomes of single sources.",
            "repeated": "Not ranked: an entry of the same model has a lower robust area.",
            "no bottleneck": "A reference line, not ranked: its code carries more than "
            f"{board.rate_limit:,.0f} nats of an image, so that an attacked one may come out as it "
            "went in.",
            "not replayed": "Not ranked: no replay has shown its scores yet.",
            "unreliable": "Not ranked: its scores are not reliable.",
            "not official": "Not ranked: it was not measured as the suite says.",
            "failed": "Not ranked: it failed its verification.",
        }[row.standing]
    shared = f", shared by {row.tied}" if row.tied > 1 else ""
    return f"Rank {row.rank}{shared}, of {len(board.ranked)} ranked models."


def commands(board: Board, row: BoardRow) -> str:
    """What to type to measure a submitted entry again, and to check it."""
    entry, record = row.contender.entry, row.contender.record
    if entry is None:
        return record.command
    path = f"leaderboard/entries/{board.name}/{entry.entry.slug}"
    name = shlex.join(_model_words(entry.entry.model, path))
    code = f" {name} --trust-code" if isinstance(entry.entry.model, ExternalModel) else ""
    return "\n".join(
        (
            f"pip install genrobust=={shlex.quote(record.provenance.genrobust)}",
            f"genrobust bench --suite {shlex.quote(board.suite_name)} --seed {record.seed} {name}",
            f"genrobust verify {path} --depth re-attack{code}",
        )
    )


def _model_words(model: ZooModel | BundledModel | ExternalModel, path: str) -> tuple[str, ...]:
    """The options that name a model. What was submitted is an argument, never a command."""
    if isinstance(model, ZooModel):
        return "--model", model.name
    if isinstance(model, BundledModel):
        return "--model", f"{path}/evidence.zip"
    return "--model", model.reference, "--weights", "FILE"


def _board_files(board: Board) -> Iterator[tuple[str, bytes]]:
    home, charts = board.name, trade_offs(board)
    frontiers = [chart for chart in charts if chart.frontier and chart.frontier.rows]
    yield f"{home}/index.html", _table(board, board.rows[:FIRST], frontiers)
    if len(board.rows) > FIRST:
        yield f"{home}/{ALL}", _table(board, board.rows, frontiers)
    yield f"{home}/trade-offs.html", _page("trade_offs.html", "../", board=board, charts=charts)
    yield f"{home}/board.csv", to_csv(board).encode()
    yield f"{home}/board.json", to_json(board).encode()


def _table(board: Board, rows: Sequence[BoardRow], frontiers: Sequence[TradeOff]) -> bytes:
    """A page with the table of these rows."""
    return _page(
        "board.html",
        "../",
        board=board,
        columns=columns(board),
        rows=rows,
        lines=lines(rows, recipes(board)),
        all=ALL if len(rows) < len(board.rows) else None,
        data=_json(script_data(board, rows)),
        axes=replace(overview(rows), lines=()),
        headline=board_headline(board),
        range=area_range(board),
        frontiers=frontiers,
    )


def has_playground(board: Board) -> bool:
    """Whether there are pictures to play with."""
    return any(is_playable(row.contender.entry) for row in board.rows)


def _playground_files(board: Board) -> Iterator[tuple[str, bytes]]:
    sheets = [
        (row, found)
        for row in board.rows
        if (entry := row.contender.entry) and is_playable(entry) and (found := sheet(entry))
    ]
    data = {
        "eps": [f"{radius:g}" for radius in board.suite.eps],
        "rows": SHEET_ROWS,
        "classes": DATASETS.get(board.suite.dataset).classes,
        "sheets": [
            {"labels": s.labels, "ids": s.sample_ids, "fell": s.fell, "became": s.became}
            for _, s in sheets
        ],
    }
    yield (
        f"{board.name}/playground.html",
        _page("playground.html", "../", board=board, sheets=sheets, data=_json(data)),
    )
    for row, found in sheets:
        yield f"{board.name}/playground-{row.contender.id}.png", found.content


def _entry_files(board: Board, row: BoardRow) -> Iterator[tuple[str, bytes]]:
    contender, entry = row.contender, row.contender.entry
    home, files = f"{board.name}/{contender.id}", _shown(entry)
    named = row.best.model.model_copy(update={"name": contender.name})
    record = row.best.model_copy(update={"model": named})
    lowered = row.best_attack is not None
    yield (
        f"{home}/index.html",
        _page(
            "entry.html",
            "../" * (2 + contender.id.count("/")),
            board=board,
            row=row,
            entry=entry,
            section_model=section_of(1, record, (), several=False),
            standing=standing(board, row),
            examples=_examples(contender.outcomes, entry.pictures if entry else None),
            middle=board.suite.eps[example_radius(board.suite.eps)],
            lowering_chart=_lowering_chart(row) if lowered else None,
            commands=commands(board, row),
            bibtex=bibtex(entry) if entry else None,
            files=list(files),
            **reading([row.best]),
        ),
    )
    for name, content in files.items():
        yield f"{home}/{name}", content


def _shown(entry: LoadedEntry | None) -> dict[str, bytes]:
    """The files of an entry that its page shows or offers; what was verified only if it counts."""
    if entry is None:
        return {}
    names = [name for name in (ENTRY, *SHOWN) if (entry.folder / name).exists()]
    found = {name: (entry.folder / name).read_bytes() for name in names}
    if (verification := entry.current_verification) is not None:
        found[VERIFICATION] = f"{verification.model_dump_json(indent=1)}\n".encode()
    return found


def _examples(outcomes: Outcomes | None, pictures: PngImage | None) -> tuple[PictureColumn, ...]:
    """What the columns of the pictures are; none where that does not fit their number."""
    if outcomes is None or pictures is None:
        return ()
    positions, e = example_positions(outcomes), example_radius(outcomes.eps)
    if len(positions) * pictures.height != len(PICTURE_ROWS) * pictures.width:
        return ()
    places = [outcomes.ignore_target[position] for position in positions]
    return tuple(
        PictureColumn(outcomes.labels[p], outcomes.sample_ids[p], place is not None and place <= e)
        for p, place in zip(positions, places, strict=True)
    )


def _lowering_chart(row: BoardRow) -> Chart:
    """The suite's own run beside the best known."""
    own = ("the suite's own attacks", row.contender.record)
    return comparison_chart([("with submitted attacks", row.best), own])


def _page(template: str, root: str, **content: Any) -> bytes:
    """A page. Its policy allows the page's own style and script by hash, and pictures."""
    style, script = _style(), _script()
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src 'self' data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    page = _environment().get_template(template)
    always = {"root": root, "policy": policy, "style": Markup(style), "script": Markup(script)}
    return page.render(**always, **content).encode()


@cache
def _environment() -> Environment:
    made = environment(PACKAGE)
    made.globals |= {
        "area_range": area_range,
        "means": recipe_means,
        "PROVES": PROVES,
        "picture_rows": PICTURE_ROWS,
        "chart_of": overview,
        "FIRST": FIRST,
        "SHEET_ROWS": SHEET_ROWS,
        "has_playground": has_playground,
        "PICTURES": PICTURES,
        "TRAVERSALS": TRAVERSALS,
    }
    return made


def _json(content: Mapping[str, Any]) -> Markup:
    """JSON that can stand in a script element: nothing in it can end that, or begin another."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _style() -> str:
    rules = _environment().get_template("site.css").render()
    return "\n".join(line.strip() for line in rules.splitlines() if line.strip())


@cache
def _script() -> str:
    parts = ("site.js", "playground.js")
    return "".join((files(PACKAGE) / part).read_text(encoding="utf-8") for part in parts)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

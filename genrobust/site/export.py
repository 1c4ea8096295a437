"""Boards as CSV and JSON, and what the board's script knows of its rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from genrobust.board.board import Board, BoardRow
from genrobust.board.recipes import recipes
from genrobust.evidence.entries import PICTURE_ROWS
from genrobust.records.record import Estimate, PairMatrix
from genrobust.report.figures import MARKS, comparison_chart

Value = str | int | float | None

#: A spreadsheet reads a cell that begins so as a formula; some take full width for half.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
#: So many rows a board's first page shows, within 300 kB; the others are on a page of all.
FIRST = 40
#: More classes than this make matrices that no screen can compare.
MAX_CLASSES = 20


def row_values(board: Board, row: BoardRow) -> dict[str, Value]:
    """A row as flat named values. Shares are in [0, 1]; None is not known."""
    record, entry = row.best, row.contender.entry
    scores = record.scores
    submission = None if entry is None else entry.entry.submission
    verification = None if entry is None else entry.current_verification
    best, own = row.best_attack, board.other_attacks(row) or "the suite's own"
    target, area = scores.per_eps[-1].as_target, scores.robust_area
    return {
        "rank": row.rank,
        "standing": row.standing if entry is not None else f"yours, not submitted; {row.standing}",
        "name": row.contender.name,
        "id": row.contender.id,
        "family": row.contender.family,
        "defence": row.contender.defence,
        "recipe": submission.recipe if submission else None,
        "training_seed": submission.training_seed if submission else None,
        "authors": "; ".join(a.name for a in submission.authors) if submission else None,
        "robust_area": _rounded(area.value if area else None),
        "robust_area_low": _rounded(area.low if area else None),
        "robust_area_high": _rounded(area.high if area else None),
        **{
            f"robust_accuracy_{at.eps:g}": _rounded(at.robust_accuracy.value)
            for at in scores.per_eps
        },
        "eps50": _rounded(scores.eps50),
        f"as_target_{board.suite.eps[-1]:g}": _rounded(target.value if target else None),
        "best_attack": best.attack.entry.submission.name if best else own,
        "lowered_by": _rounded(best.lowers_by if best else None),
        "clean_accuracy": _rounded(scores.clean_accuracy.value),
        "reconstruction_error": _rounded(scores.reconstruction_error.value),
        "code_size": record.model.code_size,
        "rate": _rounded(row.contender.rate),
        "parameters": record.model.parameters,
        "forwards": record.forwards,
        "backwards": record.backwards,
        "verification": row.contender.state,
        "verified_on": verification.date if verification else None,
        "flags": "; ".join(flag.name for flag in record.flags),
        "fingerprint": record.model.fingerprint,
        "submitted": entry.entry.submitted if entry else None,
        "licence": submission.licence if submission else None,
        "training_data": submission.training_data if submission else None,
    }


def to_csv(board: Board) -> str:
    """The board as CSV, a header first. Text that a spreadsheet would run begins with a quote."""
    rows = [row_values(board, row) for row in board.rows]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return file.getvalue()


def to_json(board: Board) -> str:
    """The board as JSON: the suite, the rows, and the differences that the ranks come from."""
    suite = board.suite
    content = {
        "board": board.name,
        "suite": {
            "name": suite.name,
            "version": suite.version,
            "description": suite.description,
            "sha256": suite.sha256,
            "norm": suite.norm,
            "eps": suite.eps,
            "sources": len(suite.sample_ids),
            "confidence": suite.confidence,
        },
        "rows": [row_values(board, row) for row in board.rows],
        "recipes": [
            {
                "name": one.name,
                "entries": [row.contender.id for row in one.rows],
                "seeds": len(one.counted),
                "robust_area": _rounded(one.area.value),
                "robust_area_low": _rounded(one.area.low),
                "robust_area_high": _rounded(one.area.high),
            }
            for one in recipes(board)
        ],
        "robust_area_differences": [
            {"first": a, "second": b, **_interval(board.paired.difference(a, b))}
            for a, b in _told(board)
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def script_data(board: Board, shown: Sequence[BoardRow]) -> dict[str, Any]:
    """What comparing and downloading need of the rows shown, and the table does not say.

    Matrices and differences, which are large, are those of the first rows.
    """
    rows = {row.contender.id: row for row in shown}
    first = list(rows)[:FIRST]
    paired = [name for name in first if name in board.paired.ids]
    values = {name: row_values(board, row) for name, row in rows.items()}
    chart = comparison_chart([(row.contender.name, row.best) for row in shown])
    return {
        "board": board.name,
        "eps": [f"{radius:g}" for radius in board.suite.eps],
        "marks": MARKS,
        "columns": list(next(iter(values.values()))),
        "values": {name: list(row.values()) for name, row in values.items()},
        "curves": {
            name: {"path": line.path, "band": line.band, "marks": [[m.x, m.y] for m in line.marks]}
            for name, line in zip(rows, chart.lines, strict=True)
        },
        "pairs": {name: _pairs(rows[name]) for name in first},
        "paired": paired,  # each with all after it, in this order
        "differences": [
            round(10_000 * part)
            for a, b in combinations(paired, 2)
            for part in _ends(board.paired.difference(a, b))
        ],
        "picture_rows": PICTURE_ROWS,
        "pictures": [
            name
            for name, row in rows.items()
            if row.contender.entry and row.contender.entry.pictures
        ],
    }


def _told(board: Board) -> Iterator[tuple[str, str]]:
    """The two ids of each difference to say: of the first rows, and where the ranks come from.

    Of all it would be half a million on a board of a thousand.
    """
    first = [row.contender.id for row in board.rows[:FIRST]]
    known = [name for name in first if name in board.paired.ids]
    yield from combinations(known, 2)
    before, leader = None, None
    for row in board.ranked:
        name = row.contender.id
        if leader is None or row.rank != leader.rank:
            before, leader = leader, row
        against = before if leader is row else leader
        if against is not None and name not in first:
            yield against.contender.id, name


def _pairs(row: BoardRow) -> dict[str, Any] | None:
    """The matrices of a row as counts, so that a pair's rate is one over the other."""
    per_eps = row.best.scores.per_eps
    n = per_eps[0].as_target_pairs.n
    if len(n) > MAX_CLASSES:
        return None
    return {
        "classes": len(n),
        "n": [count for line in n for count in line],
        "ignore": [_hits(at.as_ignore_target_pairs) for at in per_eps],
        "target": [_hits(at.as_target_pairs) for at in per_eps],
    }


def _hits(pairs: PairMatrix) -> list[int]:
    """How many attacks of each pair succeeded, source by source."""
    return [
        round((rate or 0) * n)
        for rates, counts in zip(pairs.rate, pairs.n, strict=True)
        for rate, n in zip(rates, counts, strict=True)
    ]


def _ends(found: Estimate) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def _interval(found: Estimate) -> dict[str, float | None]:
    return dict(zip(("value", "low", "high"), map(_rounded, _ends(found)), strict=True))


def _rounded(value: float | None) -> float | None:
    """To six decimals; a whole number without a point, as scripts write it."""
    if value is None:
        return None
    short = round(value, 6)
    return int(short) if short == int(short) else short


def _cell(value: Value) -> Value:
    return f"'{value}" if isinstance(value, str) and value.strip(" ").startswith(FORMULA) else value

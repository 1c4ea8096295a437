"""Models as people write them: how each is read, and what it takes.

    python benchmarks/models.py

Writes ``benchmarks/models.json`` and ``docs/models.md``. Each model has random weights, and says
itself what it gives (its *truth*): the picture of its deployed path, and its log-variance. A model
is *misread* if either differs from what genrobust reads, and *silently* so without a warning; a
warning about one that is read right is a *false alarm*. The lines that a model takes are typed and
compared too. Models of pythae, diffusers, monai and compressai, and quantisers of
vector-quantize-pytorch (lucidrains), are taken where they are installed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from styles import Row, library_cases, measured, own_cases

HERE = Path(__file__).parent


def table(rows: list[Row]) -> str:
    """The page: what was found in all, then a row a model."""
    count = {read: sum(row.read == read for row in rows) for read in READINGS}
    needed = [row for row in rows if row.lines]
    found = "; ".join(f"{n} {READINGS[read]}" for read, n in count.items())
    lines = [
        "# Models, as people write them",
        "",
        "Made by `python benchmarks/models.py`, from models with random weights. *Difference*: the",
        "largest, over pixels in [0, 1] and log-variances, between what genrobust reads and what",
        "the model gives by its own definition; *mended*, the same with the line typed.",
        "",
        f"{len(rows)} models: {found}.",
        "",
        "## Models that take a line",
        "",
        "| model | as it is | difference | to type in `genrobust.wrap(module, ...)` | mended |",
        "|---|---|---|---|---|",
        *(
            f"| {r.name} | {r.read} | {_number(r.difference)} | `{r.lines}` | {_number(r.mended)} |"
            for r in needed
        ),
        "",
        "## Models that take none",
        "",
        "| model | as it is | difference |",
        "|---|---|---|",
        *(f"| {r.name} | {r.read} | {_number(r.difference)} |" for r in rows if not r.lines),
    ]
    return "\n".join(lines) + "\n"


READINGS = {
    "as is": "read right as they are",
    "warned": "read otherwise, with a warning that says so",
    "refused": "refused, with what to type",
    "false alarm": "read right with a false alarm",
    "MISREAD": "misread in silence",
}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def main() -> None:
    rows = [measured(case) for case in [*own_cases(), *library_cases()]]
    (HERE / "models.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    page = HERE.parent / "docs" / "models.md"
    page.write_text(table(rows))
    print(page.read_text())


if __name__ == "__main__":
    main()

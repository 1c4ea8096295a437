"""The zoo's models side by side on a suite: ``python benchmarks/zoo.py --suite digits``.

Writes ``benchmarks/zoo-SUITE-vVERSION.md``, and with ``--readme`` puts its table into the README.
MNIST needs ``--data-root``; ``--limit`` gives a quick look;
with ``--runs`` a stopped run goes on.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import genrobust
from genrobust.models.families import FAMILIES

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="digits")
    parser.add_argument("--data-root")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--readme", action="store_true", help="replace the README's table")
    parser.add_argument("--runs", type=Path, help="keeps each model's shards in a folder here")
    given = parser.parse_args()
    rows = []
    for family in FAMILIES:
        record = genrobust.bench(
            family,
            given.suite,
            limit=given.limit,
            data_root=given.data_root,
            out=given.runs and given.runs / family,
        )
        scores = record.scores
        robust = [at.robust_accuracy for at in scores.per_eps]
        cells = [f"{100 * r.value:.0f} [{100 * r.low:.0f}, {100 * r.high:.0f}]" for r in robust]
        clean, error = scores.clean_accuracy.value, scores.reconstruction_error.value
        passes = f"{(record.forwards + record.backwards) / 1000:.0f}"
        rows.append([family, f"{100 * clean:.0f}", *cells, f"{error:.1f}", passes])
    grid = [f"eps {at.eps:g}" for at in scores.per_eps]
    head = ["model", "clean", *grid, "squared error", "passes, 1000"]
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    suite = record.suite
    board = f"{suite.name}-v{suite.version}"
    command = f"python benchmarks/zoo.py --suite {board}"
    command += f" --limit {given.limit}" if given.limit else ""
    path = HERE / f"zoo-{board}.md"
    path.write_text(
        f"{suite.name} v{suite.version}, {scores.sources} sources, {suite.norm}: robust accuracy "
        f"in percent with 95% interval. genrobust {genrobust.__version__}, "
        f"`{command}`.\n\n{table}\n"
    )
    print(path.read_text())
    if given.readme:
        into_readme(board, table)


def into_readme(board: str, table: str) -> None:
    """Put the table, and what it was measured on, in place of the one that is there."""
    path = HERE.parent / "README.md"
    shown = re.compile(r"(?<=The models that ship, on `)[^`]+(`.*?\n\n)\|.*?\n(?=\n)", re.DOTALL)
    text, found = shown.subn(lambda at: f"{board}{at[1]}{table}\n", path.read_text())
    assert found == 1, "the README has no table of the models that ship"
    path.write_text(text)


if __name__ == "__main__":
    main()

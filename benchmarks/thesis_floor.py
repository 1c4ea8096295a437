"""What the thesis' way of scoring gives without an attack.

    python benchmarks/thesis_floor.py --data-root FOLDER

Its classifier was left in train mode: sources are kept by one draw of its dropout and judged by
another. Writes ``benchmarks/thesis-floor.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import genrobust
from genrobust.seeding import seeded

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--limit", type=int, default=1000)
    given = parser.parse_args()
    rows = [row(model, given.data_root, given.limit) for model in ("vae", "jointvae")]
    rows.append(["the images themselves", *accuracies(given.data_root)])
    path = HERE / "thesis-floor.md"
    path.write_text(table(rows, given.limit))
    print(path.read_text())


def row(model: str, data_root: str, limit: int) -> list[str]:
    """The judge's accuracy on reconstructions, and what eps 0 changes, live and calm."""
    cells = []
    for rule in ("single-live", "single"):
        record = genrobust.bench(
            model, "mnist", judge="thesis", rule=rule, attacks=["noise"],
            eps=[0.0], limit=limit, data_root=data_root,
        )  # fmt: skip
        changed = record.scores.per_eps[0].as_ignore_target
        assert changed is not None
        cells.append(f"{100 * record.scores.clean_accuracy.value:.1f}")
        cells.append(f"{100 * changed.value:.1f}")
    return [model, *cells]


def accuracies(data_root: str) -> list[str]:
    """How often the classifier is right on the whole test split, live and calm."""
    judge, images = (
        genrobust.load_judge("mnist", "thesis"),
        genrobust.load_images("mnist", root=data_root),
    )
    x, labels = images.take(range(len(images))), images.labels_of(range(len(images)))
    cells = []
    for one in (judge.live(), judge):
        with torch.no_grad(), seeded(x.device, "accuracy"):
            right = torch.cat([one.labels(part) for part in x.split(500)]) == labels
        cells += [f"{100 * float(right.double().mean()):.1f}", ""]
    return cells


def table(rows: list[list[str]], limit: int) -> str:
    head = ["model", "recognised, live %", "changed, live %", "recognised %", "changed %"]
    lines = [head, ["---"] * len(head), *rows]
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return (
        f"The first {limit} MNIST test images at eps 0, which is no attack, scored by the thesis' "
        "classifier: with its dropout drawing, as published, and without. *Recognised*: "
        "reconstructions (in the last row, all test images) that show their source's class. "
        "*Changed*: of these, those that show another one when looked at again. "
        f"genrobust {genrobust.__version__}, "
        f"`python benchmarks/thesis_floor.py`.\n\n{body}\n"
    )


if __name__ == "__main__":
    main()

"""What the thesis' attack finds on published MNIST models, beside noise and the standard ensemble.

    python benchmarks/thesis.py --data-root FOLDER --checkpoints FOLDER

The checkpoints are those of Schlumberger/joint-vae and YannDubs/disentangling-vae (MIT), named
``jointvae_mnist.pt`` and ``disvae_LOSS_mnist.pt``. Writes ``benchmarks/thesis.md``.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import genrobust
from genrobust.records.record import Estimate

EPS = 0.1  # the thesis'
HERE = Path(__file__).parent
ATTACKS = ("noise", "thesis", "standard")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--out", type=Path, default=HERE / "thesis.md")
    given = parser.parse_args()
    rows = [
        row(path, given.data_root, given.limit)
        for path in sorted(given.checkpoints.glob("*_mnist.pt"))
    ]
    given.out.write_text(table(rows, given.limit))
    print(given.out.read_text())


def row(weights: Path, data_root: str, limit: int) -> list[str]:
    """One model: clean accuracy, and as_ignore_target (as_target) under each attack."""
    family = weights.stem.split("_")[0]
    place = HERE.parent / "examples" / f"{family}_checkpoint.py"
    model = genrobust.load_model(f"{place}:build", dataset="mnist", weights=weights)
    cells, seconds = [], 0.0
    for attack in ATTACKS:
        record = genrobust.bench(
            model, "mnist", attacks=[attack], eps=[EPS], limit=limit, data_root=data_root
        )
        at = record.scores.per_eps[0]
        cells.append(f"{percent(at.as_ignore_target)} ({percent(at.as_target, False)})")
        seconds += record.times.attack_seconds
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    clean = percent(record.scores.clean_accuracy, False)
    return [f"{weights.stem} `{digest}`", clean, *cells, f"{seconds:.0f}"]


def percent(estimate: Estimate | None, interval: bool = True) -> str:
    if estimate is None:
        return "-"
    text = f"{100 * estimate.value:.0f}"
    return f"{text} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]" if interval else text


def table(rows: list[list[str]], limit: int) -> str:
    head = ["model, sha256", "clean %", *ATTACKS, "attack s"]
    lines = [head, ["---"] * len(head), *rows]
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return (
        f"First {limit} MNIST test images, L-inf {EPS}: percent of the sources reconstructed right "
        "that an attack changed to another class, with 95% interval (in brackets after it: to the "
        f"target's class). genrobust {genrobust.__version__}, `python benchmarks/thesis.py`.\n\n"
        f"{body}\n"
    )


if __name__ == "__main__":
    main()

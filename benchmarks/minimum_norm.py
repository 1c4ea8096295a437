"""The smallest changes beside ``standard`` at fixed radii, on the MNIST models of ``attacks.py``.

    python benchmarks/minimum_norm.py --data-root FOLDER --checkpoints FOLDER

What ``standard`` leaves is read from ``benchmarks/attacks.json``. Writes
``benchmarks/minimum_norm.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import genrobust
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.suites import load_suite

EPS = (0.01, 0.02, 0.05, 0.1)
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--out", type=Path, default=HERE / "minimum_norm.md")
    given = parser.parse_args()
    known = json.loads((HERE / "attacks.json").read_text())
    rows = []
    for weights in sorted(given.checkpoints.glob("*_mnist.pt")):
        record = genrobust.minimum_norm(
            load(weights), load_suite("mnist").with_eps(list(EPS)),
            limit=given.limit, data_root=given.data_root, workers=1,
        )  # fmt: skip
        rows.append(row(weights, record, known[weights.stem]["standard"]))
        print(rows[-1], flush=True)
    given.out.write_text(table(rows, given.limit))
    print(given.out.read_text())


def load(weights: Path) -> genrobust.GenerativeModel:
    place = HERE.parent / "examples" / f"{weights.stem.split('_')[0]}_checkpoint.py"
    return genrobust.load_model(f"{place}:build", dataset="mnist", weights=weights)


def row(weights: Path, record: MinimumNormRecord, standard: dict[str, Any]) -> list[str]:
    """One model: what stands by either way, and what only the curve gives."""
    sources = len(record.sources)
    half = record.eps50
    bounds = " to ".join("∞" if end is None else f"{end:.3f}" for end in (half.low, half.high))
    area = record.areas[0].area
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    return [
        f"{weights.stem.removesuffix('_mnist').replace('_', ' ')} `{digest}`",
        " ".join(f"{sources * value:.0f}" for value in standard["robust"]),
        " ".join(f"{sources * at.robust_accuracy.value:.0f}" for at in record.per_eps),
        f"{half.value:.3f} [{bounds}]" if half.value is not None else "∞",
        f"{100 * area.value:.1f} [{100 * area.low:.1f}, {100 * area.high:.1f}]",
        f"{standard['seconds']:,.0f}",
        f"{record.times.attack_seconds:,.0f}",
        ", ".join(flag.name for flag in record.flags),
    ]


def table(rows: list[list[str]], limit: int) -> str:
    head = [
        "model",
        "left by `standard`",
        "left by the curve",
        "eps50",
        f"area to {EPS[-1]:g}, %",
        "`standard`, s",
        "curve, s",
        "flags",
    ]
    lines = [head, ["---", *["---:"] * (len(head) - 2), "---"], *rows]
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    grid = ", ".join(f"{eps:g}" for eps in EPS)
    return (
        f"How many of the first {limit} MNIST test images stand at L-inf {grid}: under `standard`, "
        "run at each radius with its full budgets, and by the smallest change that "
        "`genrobust.minimum_norm` found in one run with the suite's. That run gives the radius at "
        "which half of the eligible sources have fallen, and the area, exactly; in brackets 95% "
        "intervals. Seconds are on one thread of a busy machine. "
        f"genrobust {genrobust.__version__}, `python benchmarks/minimum_norm.py`.\n\n{body}\n"
    )


if __name__ == "__main__":
    main()

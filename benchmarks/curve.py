"""The smallest change of each source beside the radius at which a bench first broke it.

    python benchmarks/curve.py

A curve that stays above what the same suite's bench found would flatter. Models that ship, on
digits, in two norms; what is done already is read from the folder of runs. Writes
``benchmarks/curve.md``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import genrobust
from genrobust.files import read_text
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.outcomes import OUTCOMES, Outcomes
from genrobust.records.record import Record
from genrobust.suites import load_suite
from genrobust.threat import allowed

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--runs", type=Path, default=Path("genrobust-runs/curve"))
    given = parser.parse_args()
    rows = []
    for model in ("vae", "jointvae"):
        for norm in ("linf", "l2"):
            suite, out = load_suite("digits").with_norm(norm), given.runs / f"{model}-{norm}"
            kwargs = {"limit": given.limit, "workers": 1}
            bench = genrobust.bench(model, suite, out=out / "bench", **kwargs)
            curve = genrobust.minimum_norm(model, suite, out=out / "curve", **kwargs)
            outcomes = Outcomes.model_validate_json(read_text(out / "bench" / OUTCOMES))
            rows.append(row(bench, curve, outcomes))
            print(rows[-1], flush=True)
    (HERE / "curve.md").write_text(page(rows, given.limit))
    print((HERE / "curve.md").read_text())


def row(bench: Record, curve: MinimumNormRecord, outcomes: Outcomes) -> list[str]:
    n = bench.scores.sources
    return [
        bench.model.name,
        bench.suite.norm,
        ", ".join(f"{eps:g}" for eps in bench.suite.eps),
        ", ".join(f"{n * at.robust_accuracy.value:.0f}" for at in bench.scores.per_eps),
        ", ".join(f"{n * at.robust_accuracy.value:.0f}" for at in curve.per_eps),
        str(sum(above(curve, outcomes))),
        f"{curve.times.attack_seconds / bench.times.attack_seconds:.1f}",
    ]


def above(curve: MinimumNormRecord, outcomes: Outcomes) -> Iterator[bool]:
    """Of each source that the bench broke, whether its smallest change is larger than that."""
    found = {source.sample_id: source.distance for source in curve.sources}
    for sample_id, place in zip(outcomes.sample_ids, outcomes.ignore_target, strict=True):
        if place is not None:
            distance = found[sample_id]
            yield (math.inf if distance is None else distance) > allowed(outcomes.eps[place])


def page(rows: list[list[str]], limit: int) -> str:
    heads = [
        *("model", "norm", "radii", "stand by the bench", "stand by the curve"),
        *("sources whose smallest change is above the bench's radius", "time, curve / bench"),
    ]
    lines = [heads, ["---"] * len(heads), *rows]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return (
        f"The first {limit} sources of digits v2. genrobust {genrobust.__version__}, "
        f"`python benchmarks/curve.py`.\n\n{body}\n"
    )


if __name__ == "__main__":
    main()

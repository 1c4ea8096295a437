"""What version 2 of the suites leaves standing beside version 1, and what each member adds.

    python benchmarks/ablation.py --data-root FOLDER --checkpoints FOLDER

The checkpoints are those of ``benchmarks/thesis.py``; the zoo's are measured too. What is done is
kept in ``benchmarks/ablation.json``, so that a stopped run goes on. Writes
``benchmarks/ablation.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import genrobust
from genrobust import files
from genrobust.suites.suite import Suite, load_suite

HERE = Path(__file__).parent
#: Model, data set, norm and radius.
CASES = (
    ("disvae_VAE_mnist", "mnist", "l2", 0.5),
    ("jointvae_mnist", "mnist", "l2", 1.0),
    ("disvae_VAE_mnist", "mnist", "linf", 0.05),
    ("jointvae_mnist", "mnist", "linf", 0.05),
    ("betavae", "digits", "linf", 0.06),
    ("disvae_factor_mnist", "mnist", "linf", 0.05),
    ("jointvae", "digits", "linf", 0.06),
    ("disvae_btcvae_mnist", "mnist", "l2", 1.0),
    ("disvae_btcvae_mnist", "mnist", "linf", 0.05),
    ("disvae_betaH_mnist", "mnist", "linf", 0.05),
    ("disvae_betaH_mnist", "mnist", "l2", 1.0),
    ("disvae_factor_mnist", "mnist", "l2", 1.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many, in their order")
    parser.add_argument("--kept", type=Path, default=HERE / "ablation.json")
    parser.add_argument("--out", type=Path, default=HERE / "ablation.md")
    given = parser.parse_args()
    kept: dict[str, Any] = json.loads(given.kept.read_text()) if given.kept.exists() else {}
    for name, dataset, norm, eps in CASES[: given.cases]:
        shipped = dataset == "digits"
        weights = None if shipped else given.checkpoints / f"{name}.pt"
        for version, suite in protocols(dataset, norm, eps, given.limit).items():
            key = f"{name}, {dataset}, {norm} {eps:g}, {version}"
            said = suite.sha256.encode() + (b"" if weights is None else weights.read_bytes())
            identity = hashlib.sha256(said).hexdigest()[:16]
            if kept.get(key, {}).get("identity") == identity:
                continue
            model = name if weights is None else load(weights)
            began = time.process_time()
            record = genrobust.bench(model, suite, workers=1, data_root=given.data_root)
            seconds = round(time.process_time() - began, 1)
            kept[key] = {"identity": identity, "seconds": seconds, **told(record)}
            files.write_text(given.kept, json.dumps(kept, indent=1) + "\n")
            print(key, kept[key]["standing"], kept[key]["passes"], flush=True)
    files.write_text(given.out, page(kept, given.limit))


def load(weights: Path) -> genrobust.GenerativeModel:
    place = HERE.parent / "examples" / f"{weights.stem.split('_')[0]}_checkpoint.py"
    return genrobust.load_model(f"{place}:build", dataset="mnist", weights=weights)


def protocols(dataset: str, norm: str, eps: float, limit: int) -> dict[str, Suite]:
    """Both versions on the same sources at one radius."""
    return {
        version: load_suite(name)
        .limited(limit)
        .model_copy(update={"norm": norm, "eps": (eps,), "chunk_size": limit})
        for version, name in (("v1", f"{dataset}-v1"), ("v2", f"{dataset}-v2"))
    }


def told(record: genrobust.Record) -> dict[str, Any]:
    """What stands, the passes, and each member's part."""
    scores = record.scores
    members = [
        {
            "label": a.label,
            "tried": a.tried[0],
            "succeeded": a.succeeded[0],
            "passes": a.forwards + a.backwards,
        }
        for a in record.attacks
    ]
    return {
        "standing": round(scores.sources * scores.per_eps[0].robust_accuracy.value),
        "passes": sum(m["passes"] for m in members),
        "members": members,
    }


def page(kept: dict[str, Any], limit: int) -> str:
    cases = [key.removesuffix(", v1") for key in kept if key.endswith(", v1")]
    pairs = {c: (kept[f"{c}, v1"], kept[f"{c}, v2"]) for c in cases if f"{c}, v2" in kept}
    rows = [
        f"| {case} | {old['standing']} | {new['standing']} "
        f"| {old['passes'] / 1000:.0f} | {new['passes'] / 1000:.0f} "
        f"| {old['seconds']:.0f} | {new['seconds']:.0f} |"
        for case, (old, new) in pairs.items()
    ]
    added: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for _, new in pairs.values():
        for m in new["members"]:
            for i, number in enumerate((m["tried"], m["succeeded"], m["passes"])):
                added[m["label"]][i] += number
    adds = [
        f"| {label} | {tried} | {hit} | {passes / 1000:.0f} | {1000 * hit / max(passes, 1):.2f} |"
        for label, (tried, hit, passes) in added.items()
    ]
    return "\n".join(
        [
            "Sources that stand at one radius under version 1 of the suites and under version 2, "
            "thousands of passes (images forward and gradients backward, both goals, with what "
            "the flags take), and seconds of CPU, one thread beside other work that was "
            "not the same for all, so good to a third. "
            f"The first {limit} sources of each suite; both "
            "under L2 with projections that use the whole ball. "
            f"genrobust {genrobust.__version__}, `python benchmarks/ablation.py`.\n",
            "| model, norm, radius | v1 | v2 | passes v1 | passes v2 | seconds v1 | seconds v2 |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            "\nWhat each member of version 2 adds to those before it, over all rows above; a "
            "source whose class was lost is tried again in smaller balls and counted each time.\n",
            "| member | tried | succeeded | passes, 1000 | successes per 1000 passes |",
            "| --- | ---: | ---: | ---: | ---: |",
            *adds,
            "",
        ]
    )


if __name__ == "__main__":
    main()

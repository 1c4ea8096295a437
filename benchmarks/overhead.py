"""What a bench takes beside the passes of the model, and a step beside a bare gradient.

    python benchmarks/overhead.py

CPU seconds of the process, on one thread: other work on the machine counts little. The bench is of
a zoo model on digits by the suite's whole ensemble. Its bare passes are as many images, forward and
backward, through model and judge in batches of the suite's chunk. A step is one of ``classifier``'s
on all images of a batch, none of which is left alone; medians over turns. Writes
``benchmarks/overhead.json`` and ``benchmarks/overhead.md``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import genrobust
from genrobust.judges import Judge
from genrobust.suites import load_suite

HERE = Path(__file__).parent
BATCHES = (1, 8, 64, 256)
STEPS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vae")
    parser.add_argument("--limit", type=int, default=45)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "genrobust": genrobust.__version__,
        "machine": platform.machine(),
        "model": given.model,
        "bench": whole(given.model, given.limit),
        "steps": [step(given.model, batch, given.turns) for batch in BATCHES],
    }
    (HERE / "overhead.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "overhead.md").write_text(page(found, given.limit))
    print((HERE / "overhead.md").read_text())


def whole(name: str, limit: int) -> dict[str, Any]:
    """A bench, and its bare passes."""
    suite = load_suite("digits").limited(limit)
    genrobust.bench(name, suite.limited(1).with_attacks(["noise"]), executor="serial")  # warms up
    began = time.process_time()
    record = genrobust.bench(name, suite, executor="serial")
    spent = time.process_time() - began
    model, judge = genrobust.load_model(name), genrobust.load_judge("digits", "lenet")
    x = genrobust.load_images("digits").take(range(suite.chunk_size))
    back = _cpu(lambda: gradient(model, judge, x), 10) / len(x)
    forth = _cpu(lambda: _forward(model, judge, x), 10) / len(x)
    bare = record.backwards * back + (record.forwards - record.backwards) * forth
    return {
        "forwards": record.forwards,
        "backwards": record.backwards,
        "seconds": round(spent, 2),
        "bare": round(bare, 2),
        "ratio": round(spent / bare, 3),
    }


def step(name: str, batch: int, turns: int) -> dict[str, Any]:
    """An attack's step, and a bare gradient."""
    model, judge = genrobust.load_model(name), genrobust.load_judge("digits", "lenet")
    images = genrobust.load_images("digits")
    x, y = images.take(range(batch)), images.labels_of(range(batch))
    how: dict[str, Any] = {"labels": y, "judge": judge, "eps": 0.1, "confidence": 1e9}

    def attack(steps: int) -> Callable[[], object]:
        return lambda: genrobust.attack("classifier", model, x, **how, steps=steps)

    pairs = []
    for _ in range(turns + 1):  # of which the first warms up
        # What comes before and after the steps is in both, and so in neither.
        ours = (_cpu(attack(2 * STEPS), 1) - _cpu(attack(STEPS), 1)) / STEPS
        pairs.append((ours, _cpu(lambda: gradient(model, judge, x), STEPS)))
    ours, bare = (statistics.median(times) for times in zip(*pairs[1:], strict=True))
    ratio = statistics.median(a / b for a, b in pairs[1:])
    return {"batch": batch, "ours": ours, "bare": bare, "ratio": round(ratio, 3)}


def gradient(model: genrobust.GenerativeModel, judge: Judge, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    logits = judge.logits(model.decode(model.encode(x).mode()))
    return torch.autograd.grad(logits.logsumexp(1).sum(), x)[0]


@torch.no_grad()
def _forward(model: genrobust.GenerativeModel, judge: Judge, x: Tensor) -> Tensor:
    return judge.logits(model.decode(model.encode(x).mode()))


def _cpu(run: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - began) / times


def page(found: dict[str, Any], limit: int) -> str:
    bench = found["bench"]
    rows = [
        f"| {one['batch']} | {1000 * one['ours']:.2f} | {1000 * one['bare']:.2f} | "
        f"{one['ratio']:.2f} |"
        for one in found["steps"]
    ]
    return (
        f"CPU seconds on one thread ({found['machine']}), genrobust {found['genrobust']}, `python "
        f"benchmarks/overhead.py`.\n\nA bench of {found['model']} on {limit} digits: "
        f"{bench['forwards']:,} images forward and {bench['backwards']:,} backward, "
        f"{bench['seconds']} s; the bare passes {bench['bare']} s: **{bench['ratio']:.2f}**.\n\n"
        "| batch | a step, ms | a bare gradient, ms | ratio |\n| ---: | ---: | ---: | ---: |\n"
        + "\n".join(rows)
        + "\n"
    )


if __name__ == "__main__":
    main()

"""What a step of an attack takes on a GPU beside that of a plain loop.

    python benchmarks/gpu.py

Seconds of the clock, the GPU waited for, the median of several turns in which one follows the
other. A step is what more steps take by more of them, so that set-up and end cancel out; whole is
an attack of as many steps as the longer one, all included. A plain loop is what one writes without
a library: a gradient as deep, its sign, the ball and the box. Writes ``benchmarks/gpu.json`` and
``benchmarks/gpu.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from overhead import EPS, plain_loop

import genrobust

HERE = Path(__file__).parent
BATCHES = (64, 256, 1024, 4096)
ATTACKS = ("latent", "output", "classifier", "pgd")
FEW, MANY = 20, 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    device = torch.device(given.device)
    steps = [beside(name, size, device, given.turns) for name in ATTACKS for size in BATCHES]
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    about = {"genrobust": genrobust.__version__, "torch": torch.__version__, "device": named}
    found = {**about, "steps": steps}
    (HERE / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "gpu.md").write_text(page(found))
    print((HERE / "gpu.md").read_text())


def beside(name: str, batch: int, device: torch.device, turns: int) -> dict[str, Any]:
    """An attack and a plain loop on a batch of digits, turn by turn."""
    model = genrobust.load_model("vae")
    model.module.to(device)
    judge = genrobust.load_judge("digits", "lenet").to(device)
    images = genrobust.load_images("digits")
    ids = [i % len(images) for i in range(batch)]
    x, y = images.take(ids).to(device), images.labels_of(ids).to(device)
    how: dict[str, Any] = {"labels": y, "judge": judge} if name in ("classifier", "pgd") else {}
    how |= {"confidence": 1e9} if name == "classifier" else {}
    how |= {"target": x.flip(0)} if name in ("latent", "output") else {}

    def ours(steps: int) -> None:
        genrobust.attack(name, model, x, **how, eps=EPS, steps=steps)

    def plain(steps: int) -> None:
        loop = plain_loop(name, model, judge, x)
        for _ in range(steps):
            next(loop)

    for run in (ours, plain):
        run(FEW)  # warms up
    turned = [
        {
            (run.__name__, steps): _timed(run, steps, device)
            for steps in (FEW, MANY)
            for run in (ours, plain)
        }
        for _ in range(turns)
    ]
    each = {
        run: statistics.median((t[run, MANY] - t[run, FEW]) / (MANY - FEW) for t in turned)
        for run in ("ours", "plain")
    }
    whole = statistics.median(t["ours", MANY] / t["plain", MANY] for t in turned)
    return {"attack": name, "batch": batch, **each, "whole": round(whole, 3)}


def _timed(run: Callable[[int], None], steps: int, device: torch.device) -> float:
    began = time.perf_counter()
    run(steps)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def page(found: dict[str, Any]) -> str:
    rows = [
        f"| {one['attack']} | {one['batch']} | {1000 * one['ours']:.2f} | "
        f"{1000 * one['plain']:.2f} | {one['ours'] / one['plain']:.3f} | {one['whole']:.3f} |"
        for one in found["steps"]
    ]
    return (
        f"On one {found['device']}, torch {found['torch']}, genrobust {found['genrobust']}, "
        "`python benchmarks/gpu.py`: a step of an attack beside that of a plain loop, and whole "
        f"attacks of {MANY} steps, on the zoo's VAE at 32 x 32. Where a step takes no longer on a "
        "larger batch, the GPU waits for its commands, and the ratio is one of commands.\n\n"
        "| attack | batch | a step, ms | a plain loop's, ms | ratio | whole, ratio |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    main()

"""What a bench takes beside the passes of the model, and a step beside that of a plain loop.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --benches vae:digits:45 vae:mnist:100 --data-root FOLDER

CPU seconds of the process, on one thread. What it is beside is done *between* the passes of what is
measured, in the same process, and their time is told apart: so both meet the same machine, and
other work on it, which slows both, leaves their ratio alone.

A bench is of a zoo model by the suite's whole ensemble, all included. Its bare passes are as many
images, forward and backward through model and attacker's judge, in batches of the suite's chunk.
``counted`` are the passes in the record, those of attacks and short searches; ``all`` are those
that the model really made: also for scores, flags and damage. A step is what goes by from one pass
of the model to the next within an attack, of which no sample is left alone; a plain loop's is what
one writes without a library: a gradient as deep, its sign, the ball and the box. ``--benches``
without any keeps those measured before. Writes
``benchmarks/overhead.json``, ``benchmarks/overhead.md`` and ``docs/figures/overhead.svg``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

import genrobust
from genrobust import drawing
from genrobust.judges import Judge
from genrobust.suites import load_suite

HERE = Path(__file__).parent
CHART = HERE.parent / "docs/figures/overhead.svg"
BATCHES = (1, 8, 32, 128, 256)
#: Of each way to search and to look: how far its bare gradient goes.
ATTACKS = ("latent", "output", "classifier", "pgd")
SMALL = 8
EPS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benches", nargs="*", default=["vae:digits:45"], help="model:suite:limit")
    parser.add_argument("--data-root", help="the folder with MNIST")
    parser.add_argument("--steps", type=int, default=20, help="of each attack and batch")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "overhead.json"
    benches = [whole(*text.split(":"), given.data_root) for text in given.benches]
    benches = benches or json.loads(path.read_text())["benches"]
    steps = [step(name, batch, given.steps) for name in ATTACKS for batch in BATCHES]
    about = {"genrobust": genrobust.__version__, "machine": platform.machine()}
    found = {**about, "benches": benches, "steps": steps}
    path.write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "overhead.md").write_text(page(found))
    with mpl.rc_context({"svg.hashsalt": "genrobust"}):
        chart(steps).savefig(CHART, metadata={"Date": None})
    print((HERE / "overhead.md").read_text())


@dataclass
class Between:
    """Does other work between a model's passes, and knows both times.

    Args:
        bare: that work: bare passes, or a step of a plain loop.
        every: so many passes; 0 for never.
    """

    bare: Callable[[], object]
    every: int
    passes: Counter[tuple[int, bool]] = field(default_factory=Counter)  # (images, with gradient)
    seconds: dict[int, float] = field(default_factory=dict)  # from one pass to the next, by images
    gaps: list[float] = field(default_factory=list)
    bares: list[float] = field(default_factory=list)
    calls: int = 0
    images: int = 0
    left: float = 0.0

    def beside(self, model: genrobust.GenerativeModel) -> genrobust.GenerativeModel:
        """The same model, observed."""
        encoder = model.encoder

        def encode(x: Tensor) -> Any:
            self.tick(x)
            return encoder(x)

        return replace(model, encoder=encode)

    def tick(self, x: Tensor) -> None:
        now = time.process_time()
        if self.calls:
            self.gaps.append(now - self.left)
            self.seconds[self.images] = self.seconds.get(self.images, 0) + now - self.left
        self.calls, self.images = self.calls + 1, len(x)
        self.passes[len(x), torch.is_grad_enabled() and x.requires_grad] += 1
        if self.every and self.calls % self.every == 0:
            began = time.process_time()
            with torch.enable_grad():
                self.bare()
            self.bares.append(time.process_time() - began)
        self.left = time.process_time()


def whole(name: str, suite_name: str, limit: str, data_root: str | None) -> dict[str, Any]:
    """A bench, and its bare passes."""
    suite = load_suite(suite_name).limited(int(limit))
    model = genrobust.load_model(name, suite.dataset)
    judge = genrobust.load_judge(suite.dataset, suite.attacker_judge.architecture)
    data = genrobust.load_images(suite.dataset, "test", data_root)
    x = data.take(suite.sample_ids[: suite.chunk_size])
    how: dict[str, Any] = {"executor": "serial", "data_root": data_root}
    genrobust.bench(model, suite.limited(1).with_attacks(["noise"]), **how)  # warms up
    watch = Between(lambda: (forth(), back()), 25)
    seconds: dict[str, list[float]] = {"forth": [], "back": []}

    def timed(kind: str, run: Callable[[], object]) -> None:
        began = time.process_time()
        run()
        seconds[kind].append(time.process_time() - began)

    def forth() -> None:
        timed("forth", lambda: _forward(model, judge, x))

    def back() -> None:
        timed("back", lambda: gradient("classifier", model, judge, x))

    began = time.process_time()
    record = genrobust.bench(watch.beside(model), suite, **how)
    spent = time.process_time() - began - sum(watch.bares)
    each = {kind: statistics.fmean(found) / len(x) for kind, found in seconds.items()}
    real = {
        grad: sum(n * k for (n, g), k in watch.passes.items() if g == grad)
        for grad in (True, False)
    }
    counted = (record.forwards - record.backwards, record.backwards)
    small = sum(s for n, s in watch.seconds.items() if n <= SMALL)
    return {
        "model": name,
        "suite": suite_name,
        "limit": len(suite.sample_ids),
        "chunk": suite.chunk_size,
        "seconds": round(spent, 2),
        "counted": _beside(spent, *counted, each),
        "all": _beside(spent, real[False], real[True], each),
        "small": round(small / spent, 3),
    }


def _beside(spent: float, forwards: int, backwards: int, each: dict[str, float]) -> dict[str, Any]:
    bare = forwards * each["forth"] + backwards * each["back"]
    return {
        "forwards": forwards,
        "gradients": backwards,
        "bare": round(bare, 2),
        "ratio": round(spent / bare, 3),
    }


def step(attack: str, batch: int, steps: int) -> dict[str, Any]:
    """An attack's step, and a plain loop's that goes as deep."""
    model, judge = genrobust.load_model("vae"), genrobust.load_judge("digits", "lenet")
    images = genrobust.load_images("digits")
    x, y = images.take(range(batch)), images.labels_of(range(batch))
    how: dict[str, Any] = {"labels": y, "judge": judge} if attack in ("classifier", "pgd") else {}
    how |= {"confidence": 1e9} if attack == "classifier" else {}
    how |= {"target": x.flip(0)} if attack in ("latent", "output") else {}
    loop = plain_loop(attack, model, judge, x)
    watch = Between(lambda: next(loop), 1)
    watched = watch.beside(model)
    warm = 5
    genrobust.attack(attack, watched, x, **how, eps=EPS, steps=steps + warm)
    # The gaps around the search are of other kinds, and few: the median is of steps.
    pairs = list(zip(watch.gaps, watch.bares, strict=False))[warm:]
    ours, plain = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return {"attack": attack, "batch": batch, "ours": ours, "plain": plain, "ratio": ratio}


def plain_loop(
    attack: str, model: genrobust.GenerativeModel, judge: Judge, x: Tensor
) -> Iterator[Tensor]:
    """Signed gradient steps without a library, an image of the ball at a time."""
    x_adv = x
    while True:
        moved = x_adv + EPS / 20 * gradient(attack, model, judge, x_adv).sign()
        x_adv = (x + (moved - x).clamp(-EPS, EPS)).clamp(0, 1)
        yield x_adv


def gradient(attack: str, model: genrobust.GenerativeModel, judge: Judge, x: Tensor) -> Tensor:
    """Of some loss with respect to images: as deep as the attack's."""
    x = x.detach().requires_grad_()
    found = model.encode(x).mode()
    if attack != "latent":
        found = model.decode(found)
    if attack not in ("latent", "output"):
        found = judge.logits(found)
    return torch.autograd.grad(found.square().sum(), x)[0]


@torch.no_grad()
def _forward(model: genrobust.GenerativeModel, judge: Judge, x: Tensor) -> Tensor:
    return judge.logits(model.decode(model.encode(x).mode()))


def chart(steps: list[dict[str, Any]]) -> Figure:
    """Ratios by batch, a line an attack."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(ATTACKS):
        rows = [one for one in steps if one["attack"] == name]
        batches, ratios = ([one[key] for one in rows] for key in ("batch", "ratio"))
        axes.plot(batches, ratios, label=name, **drawing.style(number))
    axes.axhline(1, color="grey", lw=0.8)
    axes.set(xscale="log", xlabel="batch", ylabel="a step over a plain loop's")
    axes.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    axes.minorticks_off()
    drawing.legend_above(axes)
    return figure


def page(found: dict[str, Any]) -> str:
    benches = [
        f"| {one['model']}, {one['limit']} of {one['suite']} | {one['seconds']:.1f} | "
        + " | ".join(
            f"{one[kind]['forwards'] + one[kind]['gradients']:,} | {one[kind]['bare']:.1f} | "
            f"**{one[kind]['ratio']:.2f}**"
            for kind in ("counted", "all")
        )
        + f" | {100 * one['small']:.0f}% |"
        for one in found["benches"]
    ]
    steps = [
        f"| {one['attack']} | {one['batch']} | {1000 * one['ours']:.2f} | "
        f"{1000 * one['plain']:.2f} | {one['ratio']:.3f} |"
        for one in found["steps"]
    ]
    return (
        f"CPU seconds on one thread ({found['machine']}), genrobust {found['genrobust']}, `python "
        "benchmarks/overhead.py`. Bare passes are taken between those of the bench, in the same "
        "process and in batches of the suite's chunk, so that other work on the machine changes "
        "both alike. The record counts the passes of attacks; the model also makes those for "
        "scores, flags and damage. A bare pass goes through all of model and judge, where attacks "
        "on the code stop at the encoder: so a ratio may be below 1. Other work ran beside it, "
        "and a ratio of steps repeats to some 0.03.\n\n"
        "| bench | CPU, s | passes counted | bare, s | ratio | all passes | bare, s | ratio | "
        f"spent at {SMALL} images or fewer |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        + "\n".join(benches)
        + "\n\nA step of an attack, beside that of a plain loop (a gradient through the same "
        "parts, its sign, the ball and the box): `latent` stops at the encoder, `output` at the "
        "decoder, the others at the judge; `pgd` has a fixed step, the others adapt theirs.\n\n"
        "| attack | batch | a step, ms | a plain loop's, ms | ratio |\n"
        "| --- | ---: | ---: | ---: | ---: |\n" + "\n".join(steps) + "\n"
    )


if __name__ == "__main__":
    main()

"""How fast: projected gradient descent on one model, by genrobust, foolbox, ART and a plain loop.

    python benchmarks/speed.py

Each runs the same number of gradient steps on the same images, in turn, several times over; what
counts is the ratio of CPU seconds within a turn. ``early`` is genrobust as it is used, leaving
samples alone once they are broken. Writes ``benchmarks/speed.md``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import genrobust
from genrobust.judges import Judge

EPS = 0.1
HERE = Path(__file__).parent


class Composed(nn.Module):
    """The judge after the decoder after the encoder: what foolbox and ART attack."""

    def __init__(self, model: genrobust.GenerativeModel, judge: Judge) -> None:
        super().__init__()
        self.model, self.judge = model, judge

    def forward(self, x: Tensor) -> Tensor:
        return self.judge.logits(self.model.reconstruct(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    contenders = prepare(given.images, given.steps)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(given.turns + 1):
        for name, run in contenders.items():
            began = time.process_time()
            run()
            if turn:  # the first turn warms up
                seconds[name].append(time.process_time() - began)
    path = HERE / "speed.md"
    path.write_text(table(seconds, given.images, given.steps))
    print(path.read_text())


def prepare(images: int, steps: int) -> dict[str, Callable[[], object]]:
    """The contenders: functions that attack the same images with the same number of gradients."""
    import foolbox
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    data = genrobust.load_images("digits")
    x, y = data.take(range(images)), data.labels[:images]
    model, judge = genrobust.load_model("vae"), genrobust.load_judge("digits", "lenet")
    composed = Composed(model, judge).eval()
    theirs = foolbox.PyTorchModel(composed, bounds=(0, 1), device="cpu")
    pgd = foolbox.attacks.LinfPGD(steps=steps, rel_stepsize=0.05)
    estimator = PyTorchClassifier(
        composed, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0.0, 1.0)
    )
    art = ProjectedGradientDescentPyTorch(
        estimator, eps=EPS, eps_step=EPS / 20, max_iter=steps, batch_size=images, verbose=False
    )

    def ours(confidence: float) -> object:
        return genrobust.attack(
            *("classifier", model, x),
            **{"labels": y, "judge": judge, "eps": EPS, "steps": steps, "confidence": confidence},
        )

    return {
        "genrobust": lambda: ours(1e9),
        "genrobust, early": lambda: ours(4.0),
        "foolbox LinfPGD": lambda: pgd(theirs, x, y, epsilons=EPS),
        "ART PGD": lambda: art.generate(x.numpy(), y.numpy()),
        "plain loop": lambda: plain_loop(composed, x, y, steps),
    }


def plain_loop(composed: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """What one writes without a library."""
    x_adv = x + EPS * (2 * torch.rand_like(x) - 1)
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        loss = nn.functional.cross_entropy(composed(x_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x_adv)
        moved = x_adv.detach() + EPS / 20 * gradient.sign()
        x_adv = (x + (moved - x).clamp(-EPS, EPS)).clamp(0, 1)
    return x_adv


def table(seconds: dict[str, list[float]], images: int, steps: int) -> str:
    ours = seconds["genrobust"]
    lines = [
        "| attack | ratio to genrobust, median | lowest | highest |",
        "| --- | --- | --- | --- |",
    ]
    for name, times in seconds.items():
        ratios = sorted(t / o for t, o in zip(times, ours, strict=True))
        middle = statistics.median(ratios)
        lines.append(f"| {name} | {middle:.2f} | {ratios[0]:.2f} | {ratios[-1]:.2f} |")
    return (
        f"{images} digits, {steps} gradient steps, L-inf {EPS}, on {torch.get_num_threads()} "
        f"threads; {len(ours)} turns. Above 1 is slower than genrobust. genrobust "
        f"{genrobust.__version__}, `python benchmarks/speed.py`.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()

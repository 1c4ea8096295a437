"""What a conditional VAE seems to stand, by how it is told its label.

    python benchmarks/conditional.py

Writes ``benchmarks/conditional.md``: one network of digits, trained here, whose label a classifier
gives; once by argmax, which no gradient goes through, and once as the category that it is. Beside
them PGD on the classifier alone, scored on the deployed model by the suite's judges.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genrobust
from genrobust.judges.judge import Panel
from genrobust.suites import load_suite

HERE = Path(__file__).parent
SOURCES, STEPS, BATCH = 48, 1500, 64
PGD_STEPS = 40


class CVAE(nn.Module):
    """A code of six numbers and one of ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Sequential(nn.Linear(1024 + 10, 256), nn.ReLU(), nn.Linear(256, 12))
        self.picture = nn.Sequential(
            nn.Linear(6 + 10, 256), nn.ReLU(), nn.Linear(256, 1024), nn.Sigmoid()
        )

    def encode(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.code(torch.cat([x.flatten(1), label], 1)).chunk(2, 1)
        return mean, logvar

    def decode(self, z: Tensor, label: Tensor) -> Tensor:
        return self.picture(torch.cat([z, label], 1)).view(-1, 1, 32, 32)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.decode(self.encode(x, label)[0], label)


def main() -> None:
    torch.manual_seed(0)
    network, classifier = trained()
    suite, images = load_suite("digits"), genrobust.load_images("digits")
    ids = suite.sample_ids[:SOURCES]
    x, labels = images.take(ids), images.labels_of(ids)

    def model(told: Callable[[Tensor], Any], name: str) -> genrobust.GenerativeModel:
        return genrobust.wrap(network, labels=told, input_shape=(1, 32, 32), name=name)

    def by_argmax(image: Tensor) -> Tensor:
        return F.one_hot(classifier(image).argmax(1), 10).float()

    hard = model(by_argmax, "by argmax")
    soft = model(lambda image: genrobust.Categorical(classifier(image)), "as a category")
    rows = [[f"{eps:g}" for eps in suite.eps]]
    rows.append([f"{share:.0f}" for share in pgd(hard, classifier, x, labels, suite.eps)])
    flags = ["flags", ""]
    for one in (hard, soft):
        record = genrobust.bench(one, suite="digits", limit=SOURCES)
        stands = record.scores.per_eps
        rows.append([f"{100 * point.robust_accuracy.value:.0f}" for point in stands])
        flags.append(", ".join(flag.name for flag in record.flags))
    names = ["L-inf", "PGD on the classifier", "suite, label by argmax", "suite, as a category"]
    cells = [[name, *row, flag] for name, row, flag in zip(names, rows, flags, strict=True)]
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    page = (
        f"A conditional VAE of digits and {SOURCES} sources: the share of those it reconstructs "
        f"right that stands, in percent. genrobust {genrobust.__version__}, "
        f"`python benchmarks/conditional.py`.\n\n{table}\n"
    )
    (HERE / "conditional.md").write_text(page)
    print(page)


def trained() -> tuple[CVAE, nn.Module]:
    """The network, and the classifier that tells it its label."""
    images = genrobust.load_images("digits", "train")
    everyone = range(len(images))
    x, y = images.take(everyone), images.labels_of(everyone)
    network = CVAE()
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10))
    optimiser = torch.optim.Adam([*network.parameters(), *classifier.parameters()], 2e-3)
    for _ in range(STEPS):
        chosen = torch.randint(len(x), (BATCH,))
        image, label = x[chosen], y[chosen]
        row = F.one_hot(label, 10).float()
        mean, logvar = network.encode(image, row)
        shown = network.decode(mean + torch.randn_like(mean) * (logvar / 2).exp(), row)
        likelihood = F.binary_cross_entropy(shown, image, reduction="sum") / BATCH
        divergence = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(1).mean()
        loss = likelihood + 4 * divergence + F.cross_entropy(classifier(image), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval(), classifier.eval().requires_grad_(False)


def pgd(
    model: genrobust.GenerativeModel,
    classifier: nn.Module,
    x: Tensor,
    labels: Tensor,
    radii: tuple[float, ...],
) -> list[float]:
    """What stands of the eligible ones against descent on the classifier, in percent."""
    panel = Panel(tuple(genrobust.load_judge("digits", name) for name in ("vgg", "resnet")))
    with torch.no_grad():
        eligible = (panel.verdict(x) == labels) & (panel.verdict(model.reconstruct(x)) == labels)
    broken, stands = torch.zeros_like(eligible), []
    for eps in radii:
        change = torch.zeros_like(x)
        for _ in range(PGD_STEPS):
            change.requires_grad_()
            loss = F.cross_entropy(classifier((x + change).clamp(0, 1)), labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, change)
            change = (change.detach() + 0.1 * eps * slope.sign()).clamp(-eps, eps)
            moved = (x + change).clamp(0, 1)
            with torch.no_grad():
                seen = panel.verdict(model.reconstruct(moved))
                same = panel.verdict(moved) == labels
            broken |= (seen != labels) & (seen >= 0) & same
        stands.append(100 * float((eligible & ~broken).sum()) / int(eligible.sum()))
    return stands


if __name__ == "__main__":
    main()

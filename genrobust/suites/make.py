"""Make the data files of the suites: ``python -m genrobust.suites.make``.

The files are frozen; this is how they came about. Making them again from the same data and judges
gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from genrobust import files
from genrobust.data.base import load_images
from genrobust.judges.judge import load_judge
from genrobust.suites.suite import AttackEntry, JudgeRef, Suite

ATTACKER = "lenet"
SCORERS = ("vgg", "resnet")
CLASSES = 10


def attacks(steps: int) -> tuple[AttackEntry, ...]:
    """Cheapest first: what an early attack breaks, the later need not try."""
    budget = {"steps": steps}
    return (
        AttackEntry(attack="noise", goal="untargeted"),
        AttackEntry(attack="classifier", goal="untargeted", settings=budget),
        AttackEntry(
            attack="classifier",
            goal="untargeted",
            settings={**budget, "surrogate": "straight-through"},
        ),
        AttackEntry(attack="output", goal="untargeted", settings=budget),
        AttackEntry(attack="latent", goal="targeted", settings=budget),
        AttackEntry(attack="classifier", goal="targeted", settings=budget),
        AttackEntry(attack="output", goal="targeted", settings=budget),
    )


def paired(labels: Tensor, sources: list[int]) -> list[int]:
    """A target for each source: its class cycles through the other nine, image by image.

    The k-th source of class s aims at class (s + 1 + k mod 9) mod 10, at an image of that class
    that is taken in turn and from the end of the split.
    """
    pools = [(labels == c).nonzero()[:, 0].flip(0).tolist() for c in range(CLASSES)]
    seen = [0] * CLASSES
    taken = [0] * CLASSES
    targets = []
    for source in sources:
        s = int(labels[source])
        t = (s + 1 + seen[s] % (CLASSES - 1)) % CLASSES
        targets.append(pools[t][taken[t] % len(pools[t])])
        seen[s] += 1
        taken[t] += 1
    return targets


def digits() -> Suite:
    """180 sources: the first 18 of each class, so that each ordered pair of classes has two."""
    images = load_images("digits", "test")
    per_class = [(images.labels == c).nonzero()[:18, 0].tolist() for c in range(CLASSES)]
    sources = sorted(i for ids in per_class for i in ids)
    return _suite(
        "digits",
        "scikit-learn's handwritten digits at 32x32: 180 test images, 18 of each class.",
        images.sha256,
        sources,
        paired(images.labels, sources),
        eps=(0.02, 0.05, 0.1, 0.2),
        chunk_size=45,
    )


def mnist(data_root: str) -> Suite:
    """The first 1,000 test images."""
    images = load_images("mnist", "test", data_root)
    sources = list(range(1000))
    return _suite(
        "mnist",
        "MNIST at 32x32: the first 1,000 test images.",
        images.sha256,
        sources,
        paired(images.labels, sources),
        eps=(0.01, 0.02, 0.05, 0.1),
        chunk_size=50,
    )


def _suite(
    name: str,
    description: str,
    data_sha256: str,
    sources: list[int],
    targets: list[int],
    eps: tuple[float, ...],
    chunk_size: int,
) -> Suite:
    def judge(architecture: str) -> JudgeRef:
        return JudgeRef(architecture=architecture, sha256=load_judge(name, architecture).sha256)

    return Suite(
        name=name,
        version=1,
        description=description,
        dataset=name,
        split="test",
        data_sha256=data_sha256,
        sample_ids=tuple(sources),
        target_ids=tuple(targets),
        norm="linf",
        eps=eps,
        attacks=attacks(steps=100),
        attacker_judge=judge(ATTACKER),
        scoring_judges=tuple(judge(architecture) for architecture in SCORERS),
        chunk_size=chunk_size,
        confidence=0.95,
        resamples=2000,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True, help="the folder that holds MNIST/raw")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    for suite in (digits(), mnist(given.data_root)):
        path = given.out / f"{suite.name}-v{suite.version}.json"
        files.write_text(path, suite.model_dump_json(indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()

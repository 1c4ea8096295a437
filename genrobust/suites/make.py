"""Make the data files of the suites of version 2: ``python -m genrobust.suites.make``.

The files are frozen; this is how they came about. Making them again from the same data and judges
gives the same bytes. Version 1, of before ``neighbours`` and the committee, stays as it was made.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor

from genrobust import files
from genrobust.attacks.base import make_attack
from genrobust.data.base import load_images
from genrobust.judges import load_judge
from genrobust.suites.suite import AttackEntry, JudgeRef, Suite, entries_of

ATTACKER = "committee"
SCORERS = ("vgg", "resnet")
CLASSES = 10

#: Of ``standard`` alone: ``neighbours`` takes its place in suites, for fewer gradients. A saturated
#: output needs both.
IN_FULL = ("multi-target",)


def standard() -> tuple[AttackEntry, ...]:
    """The members of the ensemble for both goals, targeted first.

    An attack on a target runs on all sources whose target is not reached, and where it misses it
    may change the class: untargeted attacks have less to do after it.
    """
    members = (*entries_of("standard", "targeted"), *entries_of("standard", "untargeted"))
    return tuple(one for one in members if one.attack not in IN_FULL)


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


#: The budgets of the suites, which must run on any machine: half the steps of ``standard`` or less,
#: and none on what does not come near, but all of its alternatives (``--attack standard`` has the
#: full budgets).
QUICK: dict[str, Any] = {"steps": 50, "queries": 100, "patience": 2.0, "hope": 0.7}
#: Less: of attacks whose loss does not tell when they are there, so that they cannot give up, and
#: for each class or category of those that try all.
LESS = {
    "latent": {"steps": 25},
    "neighbours": {"steps": 24},
    "nearest": {"steps": 24, "classes": 1},
    "code-switch": {"steps": 32},
}
#: Attacks that cost next to nothing, and so look at every source at each radius.
EVERYWHERE = ("noise",)


def quick(entry: AttackEntry) -> AttackEntry:
    """The entry with the settings of ``QUICK`` that its attack has and that lower its budget.

    What takes gradients descends.
    """
    usual = make_attack(entry.attack, entry.settings).settings()
    budget = {**QUICK, **LESS.get(entry.attack, {})}
    lower = {k: v for k, v in budget.items() if k in usual and (usual[k] is None or v < usual[k])}
    settings = {**entry.settings, **lower}
    dear = entry.attack not in EVERYWHERE
    return entry.model_copy(update={"settings": settings, "descends": dear})


def digits() -> Suite:
    """90 sources: the first 9 of each class, so that each ordered pair of classes has one."""
    images = load_images("digits", "test")
    labels = images.labels_of(range(len(images)))
    per_class = [(labels == c).nonzero()[:9, 0].tolist() for c in range(CLASSES)]
    sources = sorted(i for ids in per_class for i in ids)
    return _suite(
        "digits",
        "scikit-learn's handwritten digits at 32x32: 90 test images, 9 of each class.",
        images.sha256,
        sources,
        paired(labels, sources),
        eps=(0.02, 0.04, 0.06, 0.1),
        chunk_size=45,
        attacks=tuple(quick(entry) for entry in standard()),
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
        paired(images.labels_of(range(len(images))), sources),
        eps=(0.01, 0.02, 0.05, 0.1),
        chunk_size=100,
        attacks=tuple(quick(entry) for entry in standard()),
    )


def _suite(
    name: str,
    description: str,
    data_sha256: str,
    sources: list[int],
    targets: list[int],
    eps: tuple[float, ...],
    chunk_size: int,
    attacks: tuple[AttackEntry, ...],
) -> Suite:
    def judge(architecture: str) -> JudgeRef:
        return JudgeRef(architecture=architecture, sha256=load_judge(name, architecture).sha256)

    return Suite(
        name=name,
        version=2,
        description=description,
        dataset=name,
        split="test",
        data_sha256=data_sha256,
        sample_ids=tuple(sources),
        target_ids=tuple(targets),
        norm="linf",
        eps=eps,
        attacks=attacks,
        ensemble=True,
        rule="agreement",
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

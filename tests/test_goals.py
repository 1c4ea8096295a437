"""What an attack aims at: nothing that is asked for is left out without a word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from attack_cases import QUICK, VARIANTS, digits, given
from linear_problems import COUNT
from torch import Tensor

import genrobust
from genrobust.attacks.base import ATTACKS, attacker_success, make_attack
from genrobust.attacks.standard import MEMBERS
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.objectives.classifier import JudgeMargin
from genrobust.objectives.divergence import LatentDivergence, LatentWasserstein
from genrobust.objectives.elbo import TargetELBO
from genrobust.objectives.kos import LatentMatch, VAELoss
from genrobust.objectives.kuzina import PosteriorMatch
from genrobust.objectives.latent import LatentDistance, SquaredLatentDistance
from genrobust.objectives.output import OutputDistance, SquaredOutputError
from genrobust.objectives.photoguard import EncoderDistance
from genrobust.optimizers import Problem
from genrobust.suites import AttackEntry, Suite

pytestmark = pytest.mark.usefixtures("brief")

Untrained = tuple[genrobust.GenerativeModel, Judge]

STEPS = {"steps": 4}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("latent", "output", "classifier", "multi-target", "nearest"), STEPS),
    "damage": {"steps": 4, "restarts": 2},
    "code-switch": {"steps": 4, "categories": 2},
    "neighbours": {"steps": 4, "classes": 2},
    "square": {"queries": 20},
    "stand-in": {"steps": 4, "rounds": 1, "blocks": 16},
    "fmn": {"steps": 4, "classes": 1, "categories": 1},
    **{"noise": {}, "standard": {}},
}
#: Every attack that genrobust has, with settings that make it quick; some in several variants.
EVERY: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, settings) for name, settings in {**QUICK, **OWN}.items()},
    **{key: value for key, value in VARIANTS.items() if not key.startswith("alma-l")},
}
#: Those that a label alone can lead: through the judge, a probe, or a class's mean.
LED_BY_LABELS = {
    *("classifier", "neighbours", "square", "fmn", "code-switch", "szegedy", "fgsm", "bim", "pgd"),
    "stand-in",
    *("carlini-wagner", "kos-classifier", "kos-lvae", "kos-latent", "kuzina-clf"),
}


def norm_of(name: str) -> Any:
    kind = ATTACKS.get(name)
    return "linf" if {"linf", "any"} & set(kind.norms) else "l2"


def run(case: str, untrained: Untrained, goal: str, *left_out: str, **other: Any) -> Any:
    (name, settings), (model, judge) = EVERY[case], untrained
    asked = {k: v for k, v in given(goal, judge).items() if k not in left_out} | other
    norm = norm_of(name)
    eps = 0.2 if norm == "linf" else 4.0
    return genrobust.attack(name, model, digits(COUNT), norm=norm, eps=eps, **settings, **asked)


def test_every_attack_of_genrobust_is_tried() -> None:
    assert {name for name, _ in EVERY.values()} >= set(ATTACKS._builtin) - {"alma"}


@pytest.mark.parametrize("case", EVERY)
def test_a_label_alone_leads_the_attack_or_is_refused(case: str, untrained: Untrained) -> None:
    if case not in LED_BY_LABELS:
        with pytest.raises(GenrobustError, match=r"needs target images|leave the target out"):
            run(case, untrained, "targeted", "target")
        return
    labels = given("targeted", untrained[1])["target_labels"]
    one, other = (
        run(case, untrained, "targeted", "target", target_labels=aim)
        for aim in (labels, (labels + 5) % 10)
    )
    assert not torch.equal(one.loss, other.loss)
    assert one.success is not None


@pytest.mark.parametrize("case", EVERY)
def test_an_image_alone_leads_the_attack_or_is_refused(case: str, untrained: Untrained) -> None:
    """Attacks that go by classes say that they miss the target's; the others follow the image."""
    name, settings = EVERY[case]
    needs = make_attack(name, settings).needs("targeted")
    if "targeted" not in ATTACKS.get(name).goals:
        with pytest.raises(GenrobustError, match="leave the target out"):
            run(case, untrained, "targeted", "target_labels")
        return
    if "target_labels" in needs:
        with pytest.raises(GenrobustError, match="needs the targets' labels"):
            run(case, untrained, "targeted", "target_labels")
        return
    one, other = (
        run(case, untrained, "targeted", "target_labels", target=image)
        for image in (digits(COUNT).roll(1, 0), 1 - digits(COUNT))
    )
    assert one.success is not None
    if name != "noise":  # a random point, whatever is aimed at
        assert not torch.equal(one.loss, other.loss)


@pytest.mark.parametrize("name", ["standard", *sorted({m for m, _ in MEMBERS["targeted"]})])
def test_the_ensemble_needs_all_that_a_member_needs(name: str) -> None:
    whole = set(make_attack("standard").needs("targeted"))
    assert whole >= set(make_attack(name).needs("targeted"))
    assert whole == {"judge", "target_labels", "target_x", "references"}
    assert "target_x" not in make_attack("standard").needs("untargeted")


def test_a_member_runs_through_its_contract(
    untrained: Untrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    targeted = (("thesis", {"steps": 1}), ("multi-target", {"steps": 1}))
    monkeypatch.setitem(MEMBERS, "targeted", targeted)
    with pytest.raises(GenrobustError, match="'multi-target' is untargeted only"):
        run("standard", untrained, "targeted")


BY_IMAGE = [
    *(LatentDistance(), SquaredLatentDistance(), OutputDistance(), SquaredOutputError()),
    *(LatentDivergence(), LatentWasserstein(), PosteriorMatch("skl"), PosteriorMatch("means")),
    *(EncoderDistance(), TargetELBO(), LatentMatch(), VAELoss(), VAELoss(reconstructed=False)),
]


@pytest.mark.parametrize("objective", BY_IMAGE, ids=lambda o: type(o).__name__)
def test_no_objective_takes_a_targeted_batch_for_an_untargeted_one(
    objective: Any, untrained: Untrained
) -> None:
    x, labels = digits(2), torch.tensor([1, 2])
    batch = Batch(x, (0, 1), target_labels=labels)
    with pytest.raises(GenrobustError, match="no target image to aim at; pass target="):
        objective(x, Context(untrained[0], batch))
    assert bool(
        objective(x, Context(untrained[0], replace(batch, target_x=x.flip(0)))).isfinite().all()
    )


def test_what_attackers_call_success_follows_the_goal(untrained: Untrained) -> None:
    model, judge = untrained
    x = digits(3)
    seen = judge.labels(model.reconstruct(x))
    other = (seen + 1) % 10

    def success(**asked: Any) -> list[bool] | None:
        found = attacker_success(Context(model, Batch(x, (0, 1, 2), **asked)), x)
        return None if found is None else found.tolist()

    yes, no = [True] * 3, [False] * 3
    assert success(judge=judge, labels=seen) == no
    assert success(judge=judge, labels=other) == yes
    assert success(judge=judge, labels=other, target_labels=seen) == yes
    assert success(judge=judge, labels=other, target_labels=(seen + 2) % 10) == no
    assert success(judge=judge, labels=other, target_x=x.flip(0)) == no
    assert success(target_x=x.flip(0)) == [False, False, False]
    assert success(labels=seen, target_labels=other) is None
    assert success() is None
    assert success(judge=judge) is None


def test_a_suite_hands_references_to_whatever_needs_them(small_suite: Suite) -> None:
    entry = AttackEntry(
        attack="kuzina", goal="untargeted", settings={**VARIANTS["kuzina-clf"][1], "steps": 1}
    )
    suite = small_suite.limited(1).model_copy(update={"attacks": (entry,), "eps": (0.05,)})
    assert genrobust.bench("vae", suite, workers=1).attacks[0].label.startswith("kuzina")


def test_margins_towards_a_label_need_no_image(untrained: Untrained) -> None:
    model, judge = untrained
    x = digits(2)
    batch = Batch(x, (0, 1), target_labels=torch.tensor([3, 4]), judge=judge)
    problem = Problem.of(JudgeMargin(), Context(model, batch))
    loss: Tensor = problem.loss(x)
    assert loss.shape == (2,)

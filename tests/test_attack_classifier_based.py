"""Attacks on a judge's word, Szegedy to Carlini and Wagner: closed forms, and against foolbox."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from attack_cases import EPS, QUICK, digits, given
from conftest import LinearBuilder
from linear_problems import COUNT, linear_judge
from torch import Tensor, nn

import genrobust
from genrobust.attacks import make_attack
from genrobust.batch import Batch
from genrobust.judges import Judge
from genrobust.norms import NORMS
from genrobust.seeding import generator
from genrobust.threat import ThreatModel


@pytest.mark.slow
def test_minimal_distance_attacks_stop_at_the_boundary_of_a_linear_judge(
    linear_vae: LinearBuilder,
) -> None:
    model, judge = linear_vae(torch.eye(16), 0.5 * torch.eye(16)), linear_judge(16, 2)
    x = 0.4 + 0.2 * torch.rand(2, 1, 4, 4, generator=generator("x"))
    labels = judge.labels(model.reconstruct(x))
    weights = judge.module[1].weight  # type: ignore[index, union-attr]
    logits = judge.logits(model.reconstruct(x))
    needed = (logits[:, 0] - logits[:, 1]).abs() / (0.5 * (weights[0] - weights[1]).norm())
    far = ThreatModel("l2", math.inf)
    batch = Batch(x, (0, 1), labels=labels, target_labels=1 - labels, target_x=x, judge=judge)
    settings = {"steps": 80, "searches": 6, "learning_rate": 0.03, "initial": 0.1}
    for attack in (make_attack("carlini-wagner", settings), make_attack("szegedy")):
        found = attack(model, batch, far)
        assert found.success is not None
        assert found.success.all()
        torch.testing.assert_close(far.distance(found.x_adv, x), needed, rtol=0.02, atol=1e-3)
    untargeted = make_attack("carlini-wagner", settings)(model, batch.untargeted(), far)
    torch.testing.assert_close(far.distance(untargeted.x_adv, x), needed, rtol=0.02, atol=1e-3)
    near = ThreatModel("l2", 0.5 * float(needed.min()))
    for attack in (
        make_attack("carlini-wagner", {**settings, "searches": 2}),
        make_attack("szegedy", QUICK["szegedy"]),
    ):
        found = attack(model, batch, near)
        assert not found.success.any()  # type: ignore[union-attr]
        assert (far.distance(found.x_adv, x) > 0.9 * near.eps).all()


def test_more_confidence_costs_distance(linear_vae: LinearBuilder) -> None:
    model, judge = linear_vae(torch.eye(16), 0.5 * torch.eye(16)), linear_judge(16, 2)
    x = 0.4 + 0.2 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
    labels = judge.labels(model.reconstruct(x))
    settings = {"steps": 80, "searches": 6, "learning_rate": 0.03, "initial": 0.1}
    found = genrobust.attack(
        "carlini-wagner", model, x, labels=labels, judge=judge, norm="l2", eps=math.inf,
        confidence=0.1, **settings,
    )  # fmt: skip
    torch.testing.assert_close(found.loss, torch.full((COUNT,), -0.1), atol=2e-3, rtol=0)


def test_bim_takes_the_papers_number_of_steps(
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = untrained
    for eps, steps in ((4 / 255, 5), (16 / 255, 20), (32.2 / 255, 36)):
        found = genrobust.attack("bim", model, digits(1), eps=eps, **given("untargeted", judge, 1))
        assert found.backwards.tolist() == [steps]


# Against foolbox, on the shipped model followed by the shipped judge


class Composed(nn.Module):
    def __init__(self, model: genrobust.GenerativeModel, judge: Judge) -> None:
        super().__init__()
        self.model, self.judge = model, judge

    def forward(self, x: Tensor) -> Tensor:
        return self.judge.logits(self.model.surrogate(x, "straight-through"))


@pytest.fixture(scope="module")
def rival(shipped: tuple[genrobust.GenerativeModel, Judge]) -> dict[str, Any]:
    """Eight digits that the model reconstructs rightly, and their victim as foolbox sees it."""
    import foolbox

    model, judge = shipped
    test = genrobust.load_images("digits")
    x, labels = test.take(range(16)), test.labels[:16]
    composed = Composed(model, judge).eval()
    right = (composed(x).argmax(1) == labels).nonzero()[:8, 0]
    assert len(right) == 8
    labels = labels[right]
    # Classes that can be reached: those that an untargeted attack ends in.
    away = genrobust.attack("pgd", model, x[right], eps=0.4, labels=labels, judge=judge, steps=30)
    goal = composed(away.x_adv).argmax(1)
    assert (goal != labels).all()
    return {
        "model": foolbox.PyTorchModel(composed, bounds=(0, 1), device="cpu"),
        "composed": composed,
        "x": x[right],
        "labels": labels,
        "goal": goal,
        "given": {"labels": labels, "judge": judge},
        "aimed": {"target_labels": goal, "judge": judge},
    }


def cross_entropy(rival: dict[str, Any], x_adv: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(rival["composed"](x_adv), labels, reduction="none")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("norm", NORMS.names())
def test_fgsm_is_foolboxs(
    norm: str, rival: dict[str, Any], shipped: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    import foolbox

    kind = "LinfFastGradientAttack" if norm == "linf" else "L2FastGradientAttack"
    attack = getattr(foolbox.attacks, kind)(random_start=False)
    _, theirs, _ = attack(rival["model"], rival["x"], rival["labels"], epsilons=EPS[norm])
    ours = genrobust.attack(
        "fgsm", shipped[0], rival["x"], norm=norm, eps=EPS[norm], **rival["given"]
    )
    torch.testing.assert_close(ours.x_adv, theirs, atol=1e-6, rtol=0)
    loss = cross_entropy(rival, ours.x_adv, rival["labels"])
    torch.testing.assert_close(-ours.loss, loss, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("targeted", [False, True])
def test_bim_is_foolboxs_or_better(
    targeted: bool, rival: dict[str, Any], shipped: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    import foolbox

    eps, x = 0.05, rival["x"]
    criterion = (
        foolbox.criteria.TargetedMisclassification(rival["goal"])
        if targeted
        else foolbox.criteria.Misclassification(rival["labels"])
    )
    attack = foolbox.attacks.LinfBasicIterativeAttack(
        abs_stepsize=1 / 255, steps=15, random_start=False
    )
    theirs, _, _ = attack(rival["model"], x, criterion, epsilons=eps)
    arguments = rival["aimed"] if targeted else rival["given"]
    run = lambda **settings: genrobust.attack(  # noqa: E731
        "bim", shipped[0], x, eps=eps, steps=15, **arguments, **settings
    )
    torch.testing.assert_close(run(as_published=True).x_adv, theirs, atol=1e-5, rtol=0)
    labels, sign = (rival["goal"], 1) if targeted else (rival["labels"], -1)
    reached = sign * cross_entropy(rival, theirs, labels)
    assert (run().loss <= reached + 0.02 * reached.abs()).all()


@pytest.mark.filterwarnings("ignore")
def test_pgd_reaches_what_foolboxs_does(
    rival: dict[str, Any], shipped: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    import foolbox

    eps, x = 0.05, rival["x"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attack = foolbox.attacks.LinfPGD(rel_stepsize=1 / 30, steps=40)
        theirs, _, _ = attack(rival["model"], x, rival["labels"], epsilons=eps)
    ours = genrobust.attack("pgd", shipped[0], x, eps=eps, **rival["given"])
    reached = cross_entropy(rival, theirs, rival["labels"]).mean()
    assert -ours.loss.mean() >= 0.98 * reached
    twice = genrobust.attack("pgd", shipped[0], x, eps=eps, restarts=2, **rival["given"])
    assert (twice.loss <= ours.loss).all()
    assert (twice.forwards == 2 * ours.forwards).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("targeted", [False, True])
def test_carlini_wagner_finds_changes_as_short_as_foolboxs(
    targeted: bool, rival: dict[str, Any], shipped: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    import foolbox

    few = slice(4)
    x = rival["x"][few]
    criterion = (
        foolbox.criteria.TargetedMisclassification(rival["goal"][few])
        if targeted
        else foolbox.criteria.Misclassification(rival["labels"][few])
    )
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=4, steps=100, stepsize=0.05, initial_const=10.0, abort_early=False
    )
    theirs, _, broken = attack(rival["model"], x, criterion, epsilons=None)
    name = "target_labels" if targeted else "labels"
    arguments = {"judge": shipped[1], name: rival["goal" if targeted else "labels"][few]}
    ours = genrobust.attack(
        "carlini-wagner", shipped[0], x, norm="l2", eps=math.inf, searches=4, steps=100,
        learning_rate=0.05, initial=10.0, abort_early=False, **arguments,
    )  # fmt: skip
    assert ours.success is not None
    assert broken.all()
    assert ours.success.all()
    lengths = [(images - x).flatten(1).norm(dim=1).mean() for images in (ours.x_adv, theirs)]
    assert float(lengths[0]) == pytest.approx(float(lengths[1]), rel=0.05)


# The published codes' own ways


@pytest.mark.parametrize("name", ["bim", "pgd"])
def test_bim_and_pgd_as_published_return_the_last_iterate(
    name: str, rival: dict[str, Any], shipped: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    # A step as large as the ball overshoots.
    step = {"step_size": 0.2} if name == "bim" else {"relative_step": 1.0}
    run = lambda **more: genrobust.attack(  # noqa: E731
        name, shipped[0], rival["x"], eps=0.2, steps=6, **step, **rival["given"], **more
    )
    published, corrected = run(as_published=True), run()
    assert (corrected.loss <= published.loss).all()
    assert (corrected.loss < published.loss).any()
    assert torch.equal(corrected.forwards, published.forwards)

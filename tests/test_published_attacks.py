"""Published attacks: closed forms, other implementations, and what all of them do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LinearBuilder
from scipy.optimize import lsq_linear
from torch import Tensor, nn

import genrobust
from genrobust.attacks import make_attack
from genrobust.attacks.feedback_loop import feedback_loop
from genrobust.attacks.kos import class_means
from genrobust.attacks.probe import trained_probe
from genrobust.attacks.sweep import PenaltySweep
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.models.wrapping import adapt
from genrobust.objectives import OBJECTIVES
from genrobust.optimizers import Minimum, Penalty, Problem, lbfgsb, tanh
from genrobust.posterior import Gaussian, Point, Posterior
from genrobust.seeding import generator
from genrobust.threat import NORMS, Norm, ThreatModel

COUNT = 4
#: Every attack of this file with settings that make it quick.
QUICK: dict[str, dict[str, Any]] = {
    "szegedy": {"searches": 3, "iterations": 5},
    "fgsm": {},
    "bim": {"steps": 6, "step_size": 0.02},
    "pgd": {"steps": 6, "relative_step": 0.3},
    "carlini-wagner": {"searches": 3, "steps": 15, "learning_rate": 0.05, "initial": 1.0},
    "sabour": {"iterations": 8},
    "tabacof": {"points": 3, "iterations": 5},
    "gondim-latent": {"points": 3, "steps": 8, "learning_rate": 0.02},
    "gondim-output": {"points": 3, "steps": 8, "learning_rate": 0.02},
    "kos-classifier": {"steps": 40, "epochs": 3, "hidden": 16, "distance_weight": 0.01},
    "kos-lvae": {"steps": 30, "distance_weight": 0.01},
    "kos-latent": {"steps": 40, "distance_weight": 0.01},
    "thesis": {"steps": 20, "learning_rate": 0.02, "distance_weight": 0.1},
}
ALL_GOALS = [(name, goal) for name in QUICK for goal in make_attack(name).goals]
RANDOM = ("pgd", "thesis", "kos-classifier")
EPS: dict[Norm, float] = {"linf": 0.07, "l2": 1.5}


def digits(count: int) -> Tensor:
    return genrobust.load_images("digits").take(range(count))


def given(goal: str, judge: Judge, count: int = COUNT) -> dict[str, Any]:
    """All that an attack may ask for: digits, their neighbours as targets, training images."""
    train = genrobust.load_images("digits", "train")
    labels = genrobust.load_images("digits").labels[:count]
    everything: dict[str, Any] = {
        "labels": labels,
        "judge": judge,
        "references": (train.take(range(100)), train.labels[:100]),
    }
    if goal == "targeted":
        targets = {"target": digits(count).roll(1, 0), "target_labels": labels.roll(1)}
        everything.update(targets)
    return everything


@pytest.fixture(scope="module")
def shipped() -> tuple[genrobust.GenerativeModel, Judge]:
    return genrobust.load_model("vae"), genrobust.load_judge("digits", "lenet")


@pytest.fixture
def untrained(tiny_vae: genrobust.GenerativeModel) -> tuple[genrobust.GenerativeModel, Judge]:
    return tiny_vae, linear_judge(1024)


def linear_judge(pixels: int, classes: int = 10) -> Judge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))
    return Judge("linear", module.eval().requires_grad_(False), "0")


# What every attack does


@pytest.mark.parametrize("victim", ["untrained", "shipped"])
@pytest.mark.parametrize(("name", "goal"), ALL_GOALS)
def test_the_result_is_inside_the_ball_and_better_than_the_source(
    name: str, goal: str, victim: str, request: pytest.FixtureRequest
) -> None:
    model, judge = request.getfixturevalue(victim)
    x = digits(COUNT)
    for norm in make_attack(name).norms:
        run = lambda eps, norm=norm: genrobust.attack(  # noqa: E731
            name, model, x, eps=eps, norm=norm, **given(goal, judge), **QUICK[name]
        )
        found, idle = run(EPS[norm]), run(0.0)
        order = np.inf if norm == "linf" else 2
        change = (found.x_adv - x).flatten(1).numpy()
        assert (np.linalg.norm(change, ord=order, axis=1) <= EPS[norm] + 1e-5).all()
        assert float(found.x_adv.min()) >= 0
        assert float(found.x_adv.max()) <= 1
        assert found.x_adv.shape == x.shape
        assert found.x_adv.dtype == found.loss.dtype == torch.float32
        assert found.success is not None
        for entries in (found.loss, found.success, found.forwards, found.backwards):
            assert entries.shape == (COUNT,)
            assert not entries.requires_grad
        assert (found.forwards > 0).all()
        assert (found.backwards > 0).all()
        assert torch.equal(idle.x_adv, x)
        # An untrained encoder hardly moves: there a penalty has the last word.
        if victim == "shipped":
            assert found.loss.mean() < idle.loss.mean()
            assert name == "fgsm" or (found.loss < idle.loss + 1e-6).all()


@pytest.mark.parametrize(("name", "goal"), ALL_GOALS)
def test_the_box_alone_is_searched_by_attacks_with_a_penalty_and_refused_by_others(
    name: str, goal: str, untrained: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    model, judge = untrained
    attack, x = make_attack(name, QUICK[name]), digits(COUNT)
    for norm in attack.norms:
        arguments = {**given(goal, judge), **QUICK[name], "eps": math.inf, "norm": norm}
        if attack.needs_ball:
            with pytest.raises(GenrobustError, match=f"'{name}' needs a finite eps"):
                genrobust.attack(name, model, x, **arguments)
            continue
        found = genrobust.attack(name, model, x, **arguments)
        assert float(found.x_adv.min()) >= 0
        assert float(found.x_adv.max()) <= 1
        assert found.loss.isfinite().all()


@pytest.mark.parametrize(("name", "goal"), ALL_GOALS)
def test_a_sample_gets_the_same_result_in_any_batch_and_any_run(name: str, goal: str) -> None:
    model = adapt(initialised(NetworkSpec(gaussian=4, categorical=(5,)), seed=3).double())
    judge = linear_judge(1024)
    judge.module.double()
    x, ids = digits(COUNT).double(), (4, 8, 15, 16)

    def part(chosen: list[int], seed: int = 0) -> genrobust.AttackResult:
        arguments = given(goal, judge)
        for key in ("labels", "target", "target_labels"):
            if key in arguments:
                arguments[key] = arguments[key][chosen]
        if "target" in arguments:
            arguments["target"] = arguments["target"].double()
        norm = make_attack(name).norms[0]
        return genrobust.attack(
            name, model, x[chosen], sample_ids=[ids[i] for i in chosen], seed=seed, norm=norm,
            **arguments, **QUICK[name],
        )  # fmt: skip

    torch.manual_seed(1)
    whole = part([0, 1, 2, 3])
    torch.manual_seed(2)
    assert torch.equal(part([0, 1, 2, 3]).x_adv, whole.x_adv)
    found = part([3, 1])
    torch.testing.assert_close(found.x_adv, whole.x_adv[[3, 1]], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.loss, whole.loss[[3, 1]], atol=1e-6, rtol=1e-6)
    assert torch.equal(found.forwards, whole.forwards[[3, 1]])
    if name in RANDOM:
        assert not torch.equal(part([3, 1], seed=1).x_adv, found.x_adv)


@pytest.mark.parametrize(("name", "goal"), ALL_GOALS)
def test_every_pass_through_the_encoder_is_counted(
    name: str, goal: str, untrained: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    model, judge = untrained
    with_gradient = without = 0

    def encoder(x: Tensor) -> Posterior:
        nonlocal with_gradient, without
        if x.requires_grad:
            with_gradient += len(x)
        else:
            without += len(x)
        return model.encode(x)

    spied = genrobust.GenerativeModel(
        "spied", model.module, model.input_shape, encoder, model.decode
    )
    arguments = given(goal, judge)
    norm = make_attack(name).norms[-1]
    found = genrobust.attack(
        name, spied, digits(COUNT), norm=norm, eps=EPS[norm], **arguments, **QUICK[name]
    )
    assert int(found.backwards.sum()) == with_gradient
    # Beyond what the search looks at: targets, sources, references, the final look.
    looks = int((found.forwards - found.backwards).sum())
    spare = len(arguments["references"][0]) + 3 * COUNT
    if name in ("tabacof", "gondim-latent"):
        spare += 4 * COUNT  # the targets' posteriors, once for each weight
    assert looks <= without <= looks + spare


@pytest.mark.parametrize(
    ("name", "forwards", "backwards"),
    [
        ("fgsm", 2, 1),
        ("bim", 7, 6),
        ("pgd", 7, 6),
        ("gondim-latent", 4 * (8 + 2), 4 * 8),
        ("gondim-output", 4 * (8 + 2), 4 * 8),
        ("kos-classifier", 41, 40),
        ("kos-lvae", 31, 30),
        ("kos-latent", 41, 40),
        ("thesis", 21, 20),
    ],
)
def test_attacks_of_a_fixed_number_of_steps_cost_that(
    name: str,
    forwards: int,
    backwards: int,
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = untrained
    found = genrobust.attack(name, model, digits(2), **given("targeted", judge, 2), **QUICK[name])
    assert found.forwards.tolist() == [forwards] * 2
    assert found.backwards.tolist() == [backwards] * 2


def test_bim_takes_the_papers_number_of_steps(
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = untrained
    for eps, steps in ((4 / 255, 5), (16 / 255, 20), (32.2 / 255, 36)):
        found = genrobust.attack("bim", model, digits(1), eps=eps, **given("untargeted", judge, 1))
        assert found.backwards.tolist() == [steps]


# What is refused


@pytest.mark.parametrize(
    ("name", "taken", "more", "words"),
    [
        *(
            (name, ("target", "target_labels"), {}, "is targeted only; give it a target")
            for name in ("szegedy", "sabour", "tabacof", "gondim-latent", "gondim-output")
        ),
        ("kos-lvae", ("target", "target_labels"), {}, "is targeted only"),
        *(
            (name, (), {"norm": "l2"}, "works under linf, not l2")
            for name in ("bim", "sabour", "thesis")
        ),
        ("carlini-wagner", (), {"norm": "linf"}, "works under l2, not linf"),
        *(
            (name, ("judge",), {"norm": norm}, "needs a judge")
            for name, norm in (
                ("szegedy", "l2"), ("fgsm", "l2"), ("bim", "linf"), ("pgd", "l2"),
                ("carlini-wagner", "l2"),
            )
        ),
        ("fgsm", ("target_labels",), {}, "needs the targets' labels"),
        ("pgd", ("target", "target_labels", "labels"), {}, "needs the sources' labels"),
        *(
            (name, ("references",), {}, "needs labelled training images")
            for name in ("kos-classifier", "kos-lvae", "kos-latent")
        ),
        ("kos-classifier", ("target_labels",), {}, "needs the targets' labels"),
        ("kos-classifier", ("target", "target_labels", "labels"), {}, "needs the sources' labels"),
        ("kos-latent", ("target_labels",), {}, "needs the targets' labels"),
        ("kos-latent", ("target",), {"aim": "image"}, "needs target images"),
        ("kos-lvae", ("target",), {"aim": "image"}, "needs target images"),
        *(
            (name, ("target",), {}, "needs target images")
            for name in ("sabour", "tabacof", "gondim-latent", "gondim-output", "thesis")
        ),
    ],
)  # fmt: skip
def test_what_an_attack_cannot_do_is_refused(
    name: str,
    taken: tuple[str, ...],
    more: dict[str, Any],
    words: str,
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = untrained
    arguments = {k: v for k, v in given("targeted", judge).items() if k not in taken}
    with pytest.raises(GenrobustError, match=f"the attack '{name}' .*{words}"):
        genrobust.attack(name, model, digits(COUNT), **arguments, **more)


@pytest.mark.parametrize("name", ["kos-classifier", "kos-lvae", "kos-latent"])
def test_a_class_without_training_images_is_refused(
    name: str, untrained: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    model, judge = untrained
    arguments = given("targeted", judge)
    images, labels = arguments["references"]
    absent = int(arguments["target_labels"][0])
    arguments["references"] = (images[labels != absent], labels[labels != absent])
    with pytest.raises(GenrobustError, match=f"references hold no image of class {absent}"):
        genrobust.attack(name, model, digits(COUNT), **arguments)


def test_target_images_or_references_are_only_asked_for_where_they_are_used(
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, _ = untrained
    x = digits(2)
    genrobust.attack("kos-latent", model, x, steps=1)
    genrobust.attack("kos-latent", model, x, steps=1, aim="image", target=x.flip(0))
    genrobust.attack("kos-lvae", model, x, steps=1, aim="image", target=x.flip(0))
    labels = torch.tensor([3, 4])
    references = (digits(2), labels)
    found = genrobust.attack(
        "kos-latent", model, x, steps=1, target_labels=labels, references=references
    )
    assert found.success is None


# A linear model, whose worst changes are those of a bounded least-squares problem


class Plain:
    """x_hat = D E x + 1/2 on 4x4 images with three latents of variance 1; sources and targets."""

    def __init__(self, build: LinearBuilder) -> None:
        self.E = 0.3 * torch.randn(3, 16, generator=generator("E"))
        self.D = 0.3 * torch.randn(16, 3, generator=generator("D"))
        self.model = build(self.E, self.D)
        self.x = 0.3 + 0.4 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
        self.target = torch.rand(COUNT, 1, 4, 4, generator=generator("t"))
        self.batch = Batch(self.x, tuple(range(COUNT)), target_x=self.target)

    def least(self, A: Tensor, b: Tensor, eps: float, weight: float = 0.0) -> Tensor:
        """min over d of ||A d - b_i||^2 + weight * ||d||^2 in ball and box, (COUNT,)."""
        x = self.x.flatten(1).double().numpy()
        stacked = np.concatenate([A.double().numpy(), math.sqrt(weight) * np.eye(16)])
        found = []
        for i in range(COUNT):
            bounds = (np.maximum(-x[i], -eps) - 1e-12, np.minimum(1 - x[i], eps) + 1e-12)
            wanted = np.concatenate([b[i].double().numpy(), np.zeros(16)])
            solved = lsq_linear(stacked, wanted, bounds, method="bvls", tol=1e-14)
            found.append(2 * solved.cost)
        return torch.tensor(found)

    @property
    def latent_gap(self) -> Tensor:
        return (self.target - self.x).flatten(1) @ self.E.T

    @property
    def output_gap(self) -> Tensor:
        return (self.target - 0.5).flatten(1) - self.x.flatten(1) @ (self.D @ self.E).T


@pytest.fixture
def plain(linear_vae: LinearBuilder) -> Plain:
    return Plain(linear_vae)


def close(ours: Tensor, best: Tensor, atol: float = 1e-6) -> None:
    """Within 1% of the optimum, and never below it."""
    torch.testing.assert_close(ours.double(), best, rtol=0.01, atol=atol)
    assert (ours.double() >= best * (1 - 1e-4) - 1e-6).all()


@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_latent_attacks_reach_the_least_squares_optimum_in_the_ball(
    eps: float, plain: Plain
) -> None:
    best = plain.least(plain.E, plain.latent_gap, eps)
    assert (best > 0.01).any()
    run = lambda name, **settings: genrobust.attack(  # noqa: E731
        name, plain.model, plain.x, target=plain.target, eps=eps, **settings
    )
    close(run("sabour").loss, best)
    # KL(N(m, I) || N(m_t, I)) = 1/2 ||m - m_t||^2.
    close(run("tabacof", points=1).loss, best / 2)
    close(run("gondim-latent", points=1, optimizer="lbfgsb").loss, best / 2)
    by_adam = run("gondim-latent", points=1, steps=800, learning_rate=2e-3)
    close(by_adam.loss, best / 2, atol=5e-5)
    thesis = run("thesis", steps=600, learning_rate=2e-3, distance_weight=0.0)
    close(thesis.loss, best.sqrt(), atol=1e-3)


@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_output_attacks_reach_the_least_squares_optimum_in_the_ball(
    eps: float, plain: Plain
) -> None:
    best = plain.least(plain.D @ plain.E, plain.output_gap, eps)
    for settings in ({"optimizer": "lbfgsb"}, {"steps": 400, "learning_rate": 2e-3}):
        found = genrobust.attack(
            "gondim-output",
            plain.model,
            plain.x,
            target=plain.target,
            eps=eps,
            points=1,
            **settings,
        )
        close(found.loss, best)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tabacof", {}),
        ("gondim-latent", {"optimizer": "lbfgsb"}),
        ("gondim-latent", {"steps": 800, "learning_rate": 5e-3}),
        ("gondim-output", {"optimizer": "lbfgsb"}),
        ("gondim-output", {"steps": 800, "learning_rate": 5e-3}),
    ],
)
def test_a_sweep_finds_the_optimum_of_every_weight_in_the_box(
    name: str, settings: dict[str, Any], plain: Plain
) -> None:
    attack = make_attack(name, {"points": 4, "lowest": 0.01, "highest": 10.0, **settings})
    assert isinstance(attack, PenaltySweep)
    sweep = attack.sweep(plain.model, plain.batch)
    assert sweep.weights.tolist()[-4:] == pytest.approx([0.01, 0.1, 1.0, 10.0], rel=1e-5)
    if name == "gondim-output":
        A, b, scale = plain.D @ plain.E, plain.output_gap, 1.0
    else:
        A, b, scale = plain.E, plain.latent_gap, 0.5
    for weight, x_adv, loss in zip(sweep.weights, sweep.x_adv, sweep.loss, strict=True):
        whole = loss + weight * (x_adv - plain.x).flatten(1).square().sum(1)
        best = scale * plain.least(A, b, math.inf, float(weight) / scale)
        torch.testing.assert_close(whole.double(), best, rtol=0.01, atol=1e-3)
        ThreatModel("linf", math.inf).check(x_adv, plain.x, "the sweep")


def test_the_result_of_a_sweep_is_its_best_weight(plain: Plain) -> None:
    attack = make_attack("tabacof", {"points": 5, "lowest": 0.001, "highest": 100.0})
    assert isinstance(attack, PenaltySweep)
    sweep = attack.sweep(plain.model, plain.batch)
    found = attack(plain.model, plain.batch, ThreatModel("l2", math.inf))
    for i in range(COUNT):
        images = plain.model.reconstruct(sweep.x_adv[:, i])
        nearer = (images - plain.target[i]).flatten(1).norm(dim=1) < (images - plain.x[i]).flatten(
            1
        ).norm(dim=1)
        held = next((w for w, yes in enumerate(nearer.tolist()) if not yes), len(nearer)) - 1
        chosen = held if held >= 0 else int(sweep.loss[:, i].argmin())
        assert torch.equal(found.x_adv[i], sweep.x_adv[chosen, i])
    inside = attack.sweep(plain.model, plain.batch, ThreatModel("linf", 0.1))
    found = attack(plain.model, plain.batch, ThreatModel("linf", 0.1))
    assert torch.equal(found.loss, inside.loss.amin(0))


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_kos_latent_attack_solves_its_ridge_problem(weight: float, plain: Plain) -> None:
    labels = torch.tensor([0, 1, 1, 0, 1])
    images = torch.rand(5, 1, 4, 4, generator=generator("references"))
    means = torch.stack([images[labels == c].mean(0) for c in (0, 1)])
    goal = torch.tensor([0, 1, 0, 1])
    gap = (means[goal] - plain.x).flatten(1) @ plain.E.T
    best = plain.least(plain.E, gap, math.inf, weight) / 2
    arguments: dict[str, Any] = {"eps": math.inf, "steps": 400, "distance_weight": weight}
    found = genrobust.attack(
        "kos-latent", plain.model, plain.x, target_labels=goal, references=(images, labels),
        **arguments,
    )  # fmt: skip
    close(found.loss, best)
    alone = genrobust.attack(
        "kos-latent", plain.model, plain.x, target=means[goal], aim="image", **arguments
    )
    torch.testing.assert_close(alone.x_adv, found.x_adv, atol=1e-3, rtol=0)


def test_an_l2_ball_is_searched_to_its_edge_by_lbfgsb(plain: Plain) -> None:
    row = 0.3 * torch.randn(16, generator=generator("row"))
    problem = Problem.of(lambda x_adv, _: x_adv.flatten(1) @ row, Context(plain.model, plain.batch))
    found = lbfgsb(problem, plain.x, ThreatModel("l2", 0.2))
    gained = plain.x.flatten(1) @ row - found.loss
    torch.testing.assert_close(gained, (0.2 * row.norm()).expand(COUNT), rtol=0.01, atol=0)


def test_minimal_distance_attacks_stop_at_the_boundary_of_a_linear_judge(
    linear_vae: LinearBuilder,
) -> None:
    model, judge = linear_vae(torch.eye(16), 0.5 * torch.eye(16)), linear_judge(16, 2)
    x = 0.4 + 0.2 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
    labels = judge.labels(model.reconstruct(x))
    weights = judge.module[1].weight  # type: ignore[index, union-attr]
    logits = judge.logits(model.reconstruct(x))
    needed = (logits[:, 0] - logits[:, 1]).abs() / (0.5 * (weights[0] - weights[1]).norm())
    far = ThreatModel("l2", math.inf)
    batch = Batch(
        x, tuple(range(COUNT)), labels=labels, target_labels=1 - labels, target_x=x, judge=judge
    )
    settings = {"steps": 150, "searches": 7, "learning_rate": 0.03, "initial": 0.1}
    for attack in (make_attack("carlini-wagner", settings), make_attack("szegedy")):
        found = attack(model, batch, far)
        assert found.success is not None
        assert found.success.all()
        torch.testing.assert_close(far.distance(found.x_adv, x), needed, rtol=0.02, atol=1e-3)
    untargeted = make_attack("carlini-wagner", settings)(model, batch.untargeted(), far)
    torch.testing.assert_close(far.distance(untargeted.x_adv, x), needed, rtol=0.02, atol=1e-3)
    near = ThreatModel("l2", 0.5 * float(needed.min()))
    for attack in (
        make_attack("carlini-wagner", settings),
        make_attack("szegedy", QUICK["szegedy"]),
    ):
        found = attack(model, batch, near)
        assert not found.success.any()  # type: ignore[union-attr]
        assert (far.distance(found.x_adv, x) > 0.9 * near.eps).all()


def test_more_confidence_costs_distance(linear_vae: LinearBuilder) -> None:
    model, judge = linear_vae(torch.eye(16), 0.5 * torch.eye(16)), linear_judge(16, 2)
    x = 0.4 + 0.2 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
    labels = judge.labels(model.reconstruct(x))
    settings = {"steps": 150, "learning_rate": 0.03, "initial": 0.1, "confidence": 0.1}
    found = genrobust.attack(
        "carlini-wagner", model, x, labels=labels, judge=judge, norm="l2", eps=math.inf, **settings
    )
    torch.testing.assert_close(found.loss, torch.full((COUNT,), -0.1), atol=2e-3, rtol=0)


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
@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_is_foolboxs(
    norm: Norm, rival: dict[str, Any], shipped: tuple[genrobust.GenerativeModel, Judge]
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


def test_the_thesis_as_published_adds_up_gradients_and_returns_the_last_iterate(
    plain: Plain,
) -> None:
    settings = {"steps": 25, "learning_rate": 0.02, "distance_weight": 0.5, "start_noise": 0.0}
    x, target = plain.x, plain.target
    low, high = (x - 0.1).clamp(min=0), (x + 0.1).clamp(max=1)
    goal = target.flatten(1) @ plain.E.T
    x_adv = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([x_adv], lr=0.02)
    for _ in range(25):
        length = ((x_adv - x).flatten(1).square().sum(1) + 1e-24).sqrt()
        (0.5 * length + (x_adv.flatten(1) @ plain.E.T - goal).norm(dim=1)).sum().backward()
        optimizer.step()
        x_adv.data = torch.minimum(torch.maximum(x_adv.data, low), high)
    run = lambda **more: genrobust.attack(  # noqa: E731
        "thesis", plain.model, x, target=target, eps=0.1, **settings, **more
    )
    published, corrected = run(as_published=True), run()
    torch.testing.assert_close(published.x_adv, x_adv.detach(), atol=1e-5, rtol=0)
    assert not torch.allclose(corrected.x_adv, published.x_adv, atol=1e-3)
    assert (corrected.loss <= published.loss + 1e-4).all()


def test_kos_as_published_returns_the_last_iterate_of_a_grey_start(plain: Plain) -> None:
    w = torch.zeros_like(plain.x).requires_grad_()
    optimizer = torch.optim.Adam([w], lr=1.0)
    goal = plain.target.flatten(1) @ plain.E.T
    for _ in range(7):
        optimizer.zero_grad()
        image = (w.tanh() + 1) / 2
        latent = 0.5 * (image.flatten(1) @ plain.E.T - goal).square().sum()
        (latent + 0.3 * 0.5 * (image - plain.x).square().sum()).backward()
        optimizer.step()
    run = lambda **more: genrobust.attack(  # noqa: E731
        "kos-latent", plain.model, plain.x, target=plain.target, aim="image", eps=math.inf,
        steps=7, learning_rate=1.0, distance_weight=0.3, **more,
    )  # fmt: skip
    published, corrected = run(as_published=True), run()
    torch.testing.assert_close(published.x_adv, (w.detach().tanh() + 1) / 2, atol=1e-4, rtol=0)
    assert (corrected.loss <= published.loss).all()
    assert (corrected.loss < published.loss).any()


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


def test_tabacofs_published_divergence_is_twice_the_right_one_and_more_where_variances_are_1(
    plain: Plain,
) -> None:
    # With unit variances it is ||m - m_t||^2 + latents / 2: half the weight for the same change.
    published = make_attack("tabacof", {"points": 1, "lowest": 2.0, "as_published": True})
    corrected = make_attack("tabacof", {"points": 1, "lowest": 1.0})
    assert isinstance(published, PenaltySweep)
    assert isinstance(corrected, PenaltySweep)
    theirs, ours = (a.sweep(plain.model, plain.batch) for a in (published, corrected))
    torch.testing.assert_close(theirs.x_adv, ours.x_adv, atol=1e-3, rtol=0)
    torch.testing.assert_close(theirs.loss, 2 * ours.loss + 1.5, atol=1e-3, rtol=1e-3)


def test_tabacofs_published_divergence_uses_standard_deviations_for_variances() -> None:
    found, other = (
        Posterior((Gaussian(torch.tensor([[mean]]), torch.tensor([[logvar]])),))
        for mean, logvar in ((1.0, math.log(4.0)), (3.0, math.log(9.0)))
    )
    codes = iter([found, other])
    module = nn.Identity()
    model = genrobust.GenerativeModel("fixed", module, (1, 1, 1), lambda x: next(codes), module)
    x = torch.zeros(1, 1, 1, 1)
    context = Context(model, Batch(x, (0,), target_x=x))
    value = OBJECTIVES.get("latent-divergence")(as_published=True)(x, context)  # type: ignore[call-arg]
    expected = (2 + (1 - 3) ** 2) / 3 + math.log(9 / 4) - 0.5
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(found.kl(other)) == pytest.approx((4 + 4) / 18 + math.log(3 / 2) - 0.5, rel=1e-5)


def test_autoencoders_get_the_squared_distance_of_codes() -> None:
    codes = iter([Posterior((Point(torch.tensor([[v, 0.0]])),)) for v in (1.0, 4.0)])
    module = nn.Identity()
    model = genrobust.GenerativeModel("points", module, (1, 1, 1), lambda x: next(codes), module)
    x = torch.zeros(1, 1, 1, 1)
    objective = OBJECTIVES.get("latent-divergence")()
    assert float(objective(x, Context(model, Batch(x, (0,), target_x=x)))) == 9


# The objectives of Kos et al.


def test_the_lvae_attack_with_one_training_image_a_class_is_that_on_the_image(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    x, labels = digits(2), torch.tensor([0, 1])
    target = digits(4)[2:]
    for reconstruct in (True, False):
        by_class = genrobust.attack(
            "kos-lvae", shipped[0], x, target_labels=labels, references=(target, labels),
            steps=5, reconstruct_target=reconstruct,
        )  # fmt: skip
        by_image = genrobust.attack(
            "kos-lvae", shipped[0], x, target=target, aim="image",
            steps=5, reconstruct_target=reconstruct,
        )  # fmt: skip
        torch.testing.assert_close(by_class.x_adv, by_image.x_adv, atol=1e-5, rtol=0)
        image = shipped[0].reconstruct(by_image.x_adv).clamp(1e-6, 1 - 1e-6).double()
        wanted = (shipped[0].reconstruct(target) if reconstruct else target).double()
        error = -(wanted * image.log() + (1 - wanted) * (1 - image).log()).flatten(1).sum(1)
        prior = shipped[0].encode(by_image.x_adv).kl_to_prior().sum(1)
        change = (by_image.x_adv - x).flatten(1).square().sum(1)
        torch.testing.assert_close(
            by_image.loss.double(), error + prior + 0.375 * change, rtol=1e-4, atol=1e-2
        )


def test_class_means_are_those_of_each_class(plain: Plain) -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]])
    references = (torch.zeros(3, 1, 4, 4), torch.tensor([2, 2, 0]))
    batch = Batch(plain.x[:1], (0,), target_labels=torch.tensor([2]), references=references)
    means = class_means(Context(plain.model, batch), values)
    assert means[2].tolist() == [2.0, 3.0]
    assert means[0].tolist() == [9.0, 9.0]


def test_a_probe_learns_codes_is_kept_and_leaves_the_global_generator_alone(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    train, test = (genrobust.load_images("digits", split) for split in ("train", "test"))
    with torch.no_grad():
        vectors, unseen = (
            shipped[0].encode(images.take(range(300))).vector() for images in (train, test)
        )
    state = torch.get_rng_state()
    probe = trained_probe(vectors, train.labels[:300], epochs=20, hidden=64)
    assert torch.equal(torch.get_rng_state(), state)
    assert (probe(unseen).argmax(1) == test.labels[:300]).float().mean() > 0.75
    assert trained_probe(vectors, train.labels[:300], epochs=20, hidden=64) is probe
    assert trained_probe(vectors, train.labels[:300], epochs=20, hidden=64, seed=1) is not probe
    for seed in range(2, 7):
        trained_probe(vectors[:2], train.labels[:2], epochs=1, hidden=2, seed=seed)
    again = trained_probe(vectors, train.labels[:300], epochs=20, hidden=64)
    assert again is not probe
    assert torch.equal(again(unseen), probe(unseen))


def test_kos_classifier_attack_fools_its_own_probe(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = shipped
    arguments = {**given("targeted", judge), "steps": 60, "distance_weight": 0.001, "epochs": 10}
    found = genrobust.attack("kos-classifier", model, digits(COUNT), eps=math.inf, **arguments)
    with torch.no_grad():
        vectors = model.encode(arguments["references"][0]).vector()
        probe = trained_probe(vectors, arguments["references"][1], epochs=10)
        chosen = probe(model.encode(found.x_adv).vector()).argmax(1)
    assert torch.equal(chosen, arguments["target_labels"])


def test_the_feedback_loop_reconstructs_again_and_again(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, x = shipped[0], digits(2)
    loops = feedback_loop(model, x, loops=2)
    assert loops.shape == (3, 2, 1, 32, 32)
    assert torch.equal(loops[0], x)
    assert torch.equal(loops[1], model.reconstruct(x))
    assert torch.equal(loops[2], model.reconstruct(loops[1]))
    assert torch.equal(feedback_loop(model, x, loops=0), x[None])


# What the searches share


def test_a_penalty_is_added_and_follows_its_samples(plain: Plain) -> None:
    context = Context(plain.model, plain.batch)
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0])
    nothing: Callable[[Tensor, Context], Tensor] = lambda x_adv, _: 0 * x_adv.flatten(1).sum(1)  # noqa: E731
    problem = Problem.of(nothing, context, Penalty(weights, 2))
    x_adv = plain.x + 0.5
    torch.testing.assert_close(problem.loss(x_adv), weights * 4)
    torch.testing.assert_close(problem.penalised(Penalty(weights)).loss(x_adv), weights * 2)
    part = problem.narrow(torch.tensor([False, True, False, True]))
    loss, gradient = part.gradient(x_adv[[1, 3]])
    torch.testing.assert_close(loss, torch.tensor([4.0, 12.0]))
    torch.testing.assert_close(gradient[:, 0, 0, 0], torch.tensor([1.0, 3.0]))
    assert problem.penalised(None).loss(x_adv).tolist() == [0] * COUNT
    assert problem.forwards.tolist() == [3, 4, 3, 4]


def test_images_and_their_tanh_variables_belong_together() -> None:
    x = torch.rand(2, 1, 4, 4, generator=generator("x"))
    x[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    w = tanh.from_image(x)
    assert w.isfinite().all()
    torch.testing.assert_close(tanh.to_image(w), x, atol=1e-6, rtol=0)
    leaf = w.clone().requires_grad_()
    tanh.to_image(leaf).sum().backward()
    torch.testing.assert_close(tanh.chain(w, torch.ones_like(w)), leaf.grad)
    moved = x.clone()
    moved[1] = 0.5
    followed = tanh.follow(w, moved)
    assert torch.equal(followed[0], w[0])
    assert followed[1].abs().max() < 1e-6


def test_a_minimum_can_be_told_to_keep_what_is_worse(plain: Plain) -> None:
    problem = Problem.of(
        lambda x_adv, _: x_adv.flatten(1).sum(1), Context(plain.model, plain.batch)
    )
    minimum = Minimum(problem, plain.x)
    minimum.update(problem.index, plain.x, torch.zeros(COUNT))
    minimum.replace(torch.tensor([1]), plain.x[[1]] + 1, torch.tensor([5.0]))
    assert minimum.loss.tolist() == [0, 5, 0, 0]
    assert torch.equal(minimum.x[1], plain.x[1] + 1)

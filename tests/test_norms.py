"""Norms: what each must be, built in or from outside, and what follows when one is added."""

from __future__ import annotations

import math
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from conftest import LinearBuilder
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

import genrobust
from genrobust.attacks import ATTACKS, Attack, make_attack
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.norms import L2, NORMS, Linf, Norm, load_norm
from genrobust.optimizers import Minimum, Problem
from genrobust.runner.perturbation import fits, quantise, restore, step_of
from genrobust.seeding import generator
from genrobust.suites import load_suite
from genrobust.threat import ThreatModel

L1: type[Norm] = runpy.run_path(
    str(Path(__file__).parent / "demo_plugin" / "src" / "genrobust_demo" / "norm.py")
)["L1"]
EVERY = pytest.mark.parametrize("norm", [Linf(), L2(), L1()], ids=repr)
norms = st.sampled_from([Linf(), L2(), L1()])
SHAPE = (2, 1, 3, 3)


def images(low: float, high: float) -> st.SearchStrategy[Tensor]:
    elements = st.floats(low, high, width=32)
    return arrays(np.float32, SHAPE, elements=elements).map(torch.from_numpy)


def draw(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator(key))


@pytest.fixture
def l1() -> Iterator[str]:
    """The norm of the demo plugin, registered by name."""
    NORMS.register("l1")(L1)
    yield "l1"
    NORMS._registered.pop("l1", None)


# What every norm must be


@given(norms, st.floats(0, 12), images(0, 1), images(-3, 4))
def test_a_projection_lies_in_ball_and_box_and_stays(
    norm: Norm, radius: float, x: Tensor, x_adv: Tensor
) -> None:
    threat = ThreatModel(norm, radius)
    once = threat.project(x_adv, x)
    threat.check(once, x, "the projection")
    assert float(once.min()) >= 0
    assert float(once.max()) <= 1
    torch.testing.assert_close(threat.project(once, x), once, atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [0.0, 1e-13, 1e-12, 1e-11, 2e-10, 1e-5, 0.3, 0.7])
def test_the_l2_projection_has_a_gradient_however_small_the_change(length: float) -> None:
    x = torch.zeros(1, 1, 2, 2)
    moved = (length * torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])).requires_grad_()
    (slope,) = torch.autograd.grad(L2().project(moved, x, 0.5).sum(), moved)
    beside = 1.0 if length <= 0.5 else 0.5 / length
    wanted = torch.tensor([1.0 if length <= 0.5 else 0.0, beside, beside, beside])
    torch.testing.assert_close(slope.flatten(), wanted)


@given(norms, images(0, 1), images(-3, 4))
def test_radii_of_samples_are_their_own_and_the_limits_are_source_and_box(
    norm: Norm, x: Tensor, x_adv: Tensor
) -> None:
    threat = ThreatModel(norm, math.inf)
    found = threat.project(x_adv, x, torch.tensor([0.0, 0.3]))
    assert torch.equal(found[0], x[0])
    torch.testing.assert_close(found[1:], ThreatModel(norm, 0.3).project(x_adv, x)[1:])
    torch.testing.assert_close(threat.project(x_adv, x), x_adv.clamp(0, 1), atol=1e-6, rtol=0)


@given(norms, images(-1, 1), images(-1, 1))
def test_the_dual_is_the_steepest_slope_of_all_directions(
    norm: Norm, gradient: Tensor, direction: Tensor
) -> None:
    rise = (gradient * direction).flatten(1).sum(1).abs()
    assert (rise <= norm.dual(gradient) * norm.length(direction) + 1e-5).all()
    steepest = norm.steepest(gradient, torch.full(SHAPE, 0.5))
    assert (norm.length(steepest) <= 1 + 1e-5).all()
    slope = (gradient * steepest).flatten(1).sum(1)
    nearly = 0.7 if norm == L1() else 1
    assert (slope >= nearly * norm.dual(gradient) * (1 - 1e-4) - 1e-6).all()


@EVERY
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1.0, 1e18, 1e30])
def test_a_step_is_as_long_however_large_the_gradient(norm: Norm, scale: float) -> None:
    """Its square need not be a number that a float holds."""
    gradient = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    x = torch.full(SHAPE, 0.5)
    torch.testing.assert_close(norm.steepest(scale * gradient, x), norm.steepest(gradient, x))


@EVERY
def test_its_balls_just_hold_those_of_linf(norm: Norm) -> None:
    ones = torch.ones(2, 3, 4, 4)
    assert norm.length(0.1 * ones).tolist() == pytest.approx([0.1 * norm.reach(48)] * 2)
    suite = load_suite("digits")
    assert suite.eps == suite.with_norm("l2").with_norm("linf").eps == suite.with_norm("linf").eps
    assert suite.with_norm("l2").eps == tuple(32 * eps for eps in suite.eps)


@EVERY
def test_starts_are_in_the_ball_and_reach_into_it(norm: Norm) -> None:
    x = torch.full((50, 1, 4, 4), 0.5)
    threat = ThreatModel(norm, 0.4)
    start = threat.random_start(x, range(50), seed=0)
    threat.check(start, x, "the start")
    assert float(threat.distance(start, x).max()) > 0.35
    unbound = ThreatModel(norm, math.inf)
    assert float(unbound.distance(unbound.random_start(x, range(50), seed=0), x).min()) > 0.3


@EVERY
def test_half_of_a_ball_is_half_of_what_the_box_leaves_of_it(norm: Norm) -> None:
    x = torch.zeros(1, 1, 4, 4)
    assert ThreatModel(norm, 0.4).halved(x) == ThreatModel(norm, 0.2)
    widest = norm.reach(16)
    for eps in (widest, 2 * widest, math.inf):
        assert ThreatModel(norm, eps).halved(x).eps == widest / 2


@EVERY
@pytest.mark.parametrize("share", [0.001, 0.05, 1.0, math.inf])
@pytest.mark.parametrize("kind", ["noise", "uniform", "one pixel"])
def test_what_is_stored_is_inside_and_a_step_away(norm: Norm, share: float, kind: str) -> None:
    x = 0.5 + 0.3 * torch.rand(3, 1, 32, 32, generator=generator("x")) - 0.15
    change = {
        "noise": draw(3, 1, 32, 32, key="change"),
        "uniform": torch.ones(3, 1, 32, 32),
        "one pixel": torch.zeros(3, 1, 32, 32).index_fill(3, torch.tensor([4]), 1.0),
    }[kind]
    threat = ThreatModel(norm, share * norm.reach(1024))
    x_adv = threat.project(x + change, x)
    steps, step = quantise(x_adv, x, threat), step_of(threat)
    assert steps.dtype == norm.dtype
    assert fits(steps, x, threat).all()
    assert ((restore(steps, x, step) - x_adv).abs() <= step * (1 + 1e-3) + 1e-6).all()
    threat.check(restore(steps, x, step), x, "the evidence")


def test_small_shortfalls_of_many_pixels_do_not_sum_up_to_leave_the_ball() -> None:
    # A share of 1/1024 of the ball is 0.999 of a step more than 31, in every pixel.
    x, threat = torch.zeros(1, 1, 32, 32), ThreatModel(L1(), 1.0)
    steps = quantise(x + 1 / 1024, x, threat)
    assert fits(steps, x, threat).all()
    assert not fits(steps + 1, x, threat).any()


def test_what_is_stored_leaves_neither_end_of_the_box_nor_the_steps_that_there_are() -> None:
    threat, x = ThreatModel("linf", 0.1), torch.tensor([0.0, 0.05, 1.0, 0.95]).view(4, 1, 1, 1)
    steps = torch.tensor([1, 70, 1, 70]).view(4, 1, 1, 1) * torch.tensor([1, 1, -1, -1]).view_as(x)
    assert fits(steps, x, threat).all(), "into the box"
    assert not fits(-steps, x, threat).any(), "out of it"
    tiny, grey = ThreatModel("linf", 1e-6), torch.full((1, 1, 1, 1), 0.5)
    for number, inside in ((127, True), (-127, True), (-128, False)):  # as rounding, it is nothing
        assert bool(fits(torch.full_like(grey, number), grey, tiny)) == inside


@pytest.mark.parametrize(
    ("levels", "dtype"), [(127, torch.int8), (128, torch.int16), (32768, torch.int32)]
)
def test_steps_are_kept_in_the_smallest_type_that_holds_them(
    levels: int, dtype: torch.dtype
) -> None:
    kind = type("Other", (L2,), {"levels": levels})
    assert kind().dtype == dtype


# The norm L1, from outside


def nearest_in_l1(change: np.ndarray, radius: float) -> np.ndarray:
    """The projection onto the L1 ball as a quadratic programme, in parts up and down."""
    n = len(change)
    solved = scipy.optimize.minimize(
        lambda parts: np.sum((parts[:n] - parts[n:] - change) ** 2),
        np.zeros(2 * n),
        jac=lambda parts: 2 * np.tile(parts[:n] - parts[n:] - change, 2) * np.repeat([1, -1], n),
        bounds=[(0, None)] * (2 * n),
        constraints=[{"type": "ineq", "fun": lambda parts: radius - parts.sum()}],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return solved.x[:n] - solved.x[n:]


@pytest.mark.parametrize("radius", [0.05, 0.4, 1.0, 9.0])
def test_the_l1_projection_is_the_nearest_point_of_the_ball(radius: float) -> None:
    x = torch.full((6, 1, 2, 4), 0.5)
    x_adv = torch.rand(x.shape, generator=generator("inside the box"))
    x_adv[5] = x[5] + 0.25  # all alike
    found = ThreatModel(L1(), radius).project(x_adv, x) - x
    wanted = [nearest_in_l1(c.double().numpy(), radius) for c in (x_adv - x).flatten(1)]
    np.testing.assert_allclose(found.flatten(1), np.stack(wanted), atol=1e-5)


def test_the_l1_projection_has_the_gradient_of_a_threshold() -> None:
    x = torch.full((1, 1, 1, 4), 0.5, dtype=torch.float64)
    x_adv = x + torch.tensor([0.4, -0.3, 0.1, 0.02], dtype=torch.float64)
    threat = ThreatModel(L1(), 0.3)
    assert torch.autograd.gradcheck(lambda y: threat.project(y, x), x_adv.requires_grad_())


def test_l1_steps_leave_out_pixels_that_the_box_stops() -> None:
    x = torch.tensor([[[[0.0, 1.0, 0.5, 0.5]]]])
    gradient = torch.tensor([[[[3.0, -4.0, 1.0, -2.0]]]])
    assert L1().steepest(gradient, x).sign().flatten().tolist() == [0, 0, 1, -1]
    assert L1().steepest(-gradient, x).sign().flatten().tolist() == [-1, 1, -1, 1]
    assert not L1().steepest(0 * gradient, x).any()
    assert torch.equal(L1().steepest(1e-15 * gradient, x), L1().steepest(gradient, x))


@pytest.mark.parametrize("eps", [0.2, 1.3, 4.0])
def test_a_linear_latent_is_moved_as_far_as_ball_and_box_let_it(
    eps: float, l1: str, linear_vae: LinearBuilder
) -> None:
    row = 0.1 * draw(1, 16, key="E")
    x = 0.4 + 0.2 * torch.rand(3, 1, 4, 4, generator=generator("x"))
    model = linear_vae(row, 0.1 * draw(16, 1, key="D"))
    found = genrobust.attack("latent", model, x, eps=eps, norm=l1, steps=100)
    moved = ((found.x_adv - x).flatten(1) @ row[0]).abs()
    best = farthest(row[0], x, eps)
    assert (moved <= best * (1 + 1e-4)).all()
    torch.testing.assert_close(moved, best, rtol=0.03, atol=0)
    if eps == 0.2:
        torch.testing.assert_close(best, (eps * row.abs().max()).expand(3))


def farthest(row: Tensor, x: Tensor, eps: float) -> Tensor:
    """The most that |row . change| can be, as a linear programme in parts up and down."""
    found = []
    for source in x.flatten(1).double().numpy():
        bounds = [(0, 1 - s) for s in source] + [(0, s) for s in source]
        either = [
            scipy.optimize.linprog(
                sign * np.concatenate([row.numpy(), -row.numpy()]),
                A_ub=np.ones((1, 2 * len(source))),
                b_ub=[eps],
                bounds=bounds,
            ).fun
            for sign in (1, -1)
        ]
        found.append(-min(either))
    return torch.tensor(found, dtype=x.dtype)


def test_fmn_reaches_the_nearest_linear_boundary_in_l1(l1: str, linear_vae: LinearBuilder) -> None:
    model = linear_vae(draw(4, 16, key="E"), 0.02 * draw(16, 4, key="D"))
    layer = nn.Linear(16, 2)
    with torch.no_grad():
        layer.weight.copy_(draw(2, 16, key="W"))
        layer.bias.copy_(-0.5 * layer.weight.sum(1) + 0.01 * draw(2, key="b"))
    judge = Judge("linear", nn.Sequential(nn.Flatten(), layer).requires_grad_(False).eval(), "0")
    x = 0.5 + 0.05 * draw(5, 1, 4, 4, key="x")
    labels = judge.labels(model.reconstruct(x))
    found = make_attack("fmn")(
        model, Batch(x, tuple(range(5)), 0, labels, judge=judge), ThreatModel(l1, math.inf)
    )
    network = model.module
    slope = (layer.weight[0] - layer.weight[1]) @ network.D @ network.E  # type: ignore[operator]
    logits = layer(model.reconstruct(x).flatten(1))
    nearest = ((logits[:, 0] - logits[:, 1]).abs() / slope.abs().max()).detach()
    distance = ThreatModel(l1).distance(found.x_adv, x)
    assert (distance >= nearest * (1 - 1e-4)).all(), "nothing nearer is adversarial"
    torch.testing.assert_close(distance, nearest, rtol=0.02, atol=0)


def test_foolboxs_attacks_in_a_norm_run_once_it_is_known(l1: str) -> None:
    model, judge = genrobust.load_model("vae"), genrobust.load_judge("digits", "lenet")
    digits = genrobust.load_images("digits")
    x, labels = digits.take(range(2)), digits.labels_of(range(2))
    given = {"labels": labels, "judge": judge, "eps": 30.0, "norm": l1}
    found = genrobust.attack("foolbox:L1PGD", model, x, steps=5, **given)
    assert float(ThreatModel(l1).distance(found.x_adv, x).max()) > 1
    with pytest.raises(GenrobustError, match="works under linf and l2, not l1"):
        genrobust.attack("art:ProjectedGradientDescent", model, x, **given)
    del NORMS._registered[l1]
    with pytest.raises(GenrobustError, match="takes a radius in l1"):
        make_attack("foolbox:L1PGD")


# Which norms an attack works under


@dataclass(frozen=True)
class Still(Attack):
    """Changes nothing."""

    name = "still"
    paper = "none"

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        problem = Problem.of(lambda x, context: x.flatten(1).sum(1), context)
        return problem, Minimum(problem, context.batch.x)


def test_an_attack_works_under_the_norms_that_it_names_and_by_default_under_none(
    l1: str, tiny_vae: genrobust.GenerativeModel
) -> None:
    batch = Batch(torch.rand(1, *tiny_vae.input_shape, generator=generator("x")), (0,))

    def attack(under: str, *names: str) -> None:
        kind = type("Named", (Still,), {"norms": names}) if names else Still
        kind()(tiny_vae, batch, ThreatModel(under, 0.1))

    for norm in NORMS.names():
        other = "l2" if norm == "linf" else "linf"
        attack(norm, "any")
        attack(norm, other, norm)
        with pytest.raises(GenrobustError, match=f"works under no norm .*, not {norm}"):
            attack(norm)
        with pytest.raises(GenrobustError, match=f"works under {norm}, not {other}"):
            attack(other, norm)


def test_the_members_of_standard_work_under_any_norm() -> None:
    for entry in load_suite("digits").attacks:
        assert ATTACKS.get(entry.attack)().supports(L1())
    assert make_attack("standard").supports(L1())


class Weighted(L2):
    """Pixels count by where they are, in images of 32 x 32."""

    name, shape = "weighted", (1, 32, 32)

    def _weights(self) -> Tensor:
        return torch.linspace(0.5, 1.5, math.prod(self.shape)).view(self.shape)

    def length(self, change: Tensor) -> Tensor:
        return super().length(change * self._weights())

    def dual(self, gradient: Tensor) -> Tensor:
        return super().dual(gradient / self._weights())

    def steepest(self, gradient: Tensor, x: Tensor) -> Tensor:
        return super().steepest(gradient / self._weights(), x) / self._weights()

    def project(self, x_adv: Tensor, x: Tensor, radius: float | Tensor) -> Tensor:
        change = x_adv - x
        share = radius / self.length(change).clamp_min(1e-12).view(-1, 1, 1, 1)
        return (x + change * share.clamp_max(1)).clamp(0, 1)

    def draw(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return super().draw(shape, generator) / self._weights()

    def reach(self, pixels: int) -> float:
        return float(self._weights().norm())


class Wider(Weighted):
    name, shape = "wider", (1, 28, 28)


@pytest.fixture
def weighted() -> Iterator[None]:
    for kind in (Weighted, Wider):
        NORMS.register(kind.name)(kind)
    yield
    for kind in (Weighted, Wider):
        NORMS._registered.pop(kind.name, None)


def test_a_norm_with_weights_for_one_size_works_there_and_is_refused_elsewhere(
    weighted: None,
) -> None:
    vae, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
    result = genrobust.attack("latent", vae, x, target=x.flip(0), norm="weighted", eps=0.5)
    assert float(Weighted().length(result.x_adv - x).max()) == pytest.approx(0.5, rel=1e-3)
    elsewhere = r"'wider' is for images of shape \(1, 28, 28\), and these are of \(1, 32, 32\)"
    with pytest.raises(GenrobustError, match=elsewhere):
        genrobust.attack("latent", vae, x, target=x.flip(0), norm="wider", eps=0.5)
    with pytest.raises(GenrobustError, match=elsewhere):
        genrobust.bench("vae", norm="wider", limit=2)


def test_a_name_is_resolved_once_and_objects_of_a_norm_are_alike(l1: str) -> None:
    assert ThreatModel("l1", 0.5) == ThreatModel(L1(), 0.5)
    assert load_norm("l1") == L1() != load_norm("l2")
    assert {load_norm("l2"), L2()} == {L2()}
    assert load_suite("digits").with_norm("l1").norm == "l1"


@pytest.mark.slow
def test_the_table_of_attacks_cuts_only_those_that_cannot_work_in_linf(repository: Path) -> None:
    asked = ("latent", "pgd", "carlini-wagner", "camuto")
    code = f"import attacks; print(*(attacks.suite_of(n, {{}}).attacks[0].attack for n in {asked}))"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=repository / "benchmarks",
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["latent", "pgd", "cut", "cut"]

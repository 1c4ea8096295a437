"""More published attacks: closed forms, the published codes' own ways, and what all of them do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LinearBuilder
from test_published_attacks import (
    COUNT,
    EPS,
    Plain,
    close,
    digits,
    given,
    linear_judge,
    plain,
    shipped,
    untrained,
)
from torch import Tensor, nn

import genrobust
from genrobust.attacks import make_attack
from genrobust.attacks.sweep import PenaltySweep
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.metrics.geometry import encoder_jacobian
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.models.wrapping import adapt
from genrobust.objectives.divergence import LatentWasserstein
from genrobust.objectives.draws import DrawnOutputDistance, FreshNoise
from genrobust.objectives.elbo import TargetELBO
from genrobust.objectives.kuzina import PosteriorMatch
from genrobust.objectives.universal import (
    UniversalDamage,
    condition_number,
    layer_weights,
    recorded_layers,
)
from genrobust.optimizers import Problem, adam, pgd, sgd
from genrobust.optimizers.plateau import Plateau
from genrobust.posterior import Posterior
from genrobust.seeding import generator
from genrobust.threat import ThreatModel

__all__ = ["plain", "shipped", "untrained"]  # fixtures

SWEEP = {"points": 2, "iterations": 2}
#: Every attack of this file with settings that make it quick, by a name for the test.
QUICK: dict[str, tuple[str, dict[str, Any]]] = {
    "willetts-kl": ("willetts-kl", SWEEP),
    "willetts-w2": ("willetts-w2", SWEEP),
    "willetts-output": ("willetts-output", SWEEP),
    "willetts-output-drawn": (
        "willetts-output",
        {"points": 1, "iterations": 2, "draws": 1, "likelihood": "gaussian"},
    ),
    "camuto": ("camuto", {"restarts": 2, "iterations": 4}),
    "camuto-published": ("camuto", {"restarts": 2, "iterations": 3, "as_published": True}),
    "kuzina-supervised": ("kuzina-supervised", {"steps": 20, "distance_weight": 0.1}),
    "kuzina-linearised": ("kuzina-linearised", {"steps": 20, "chains": 2}),
    "kuzina": ("kuzina", {"steps": 15, "restarts": 2, "patience": 2}),
    "kuzina-forward": ("kuzina", {"steps": 10, "restarts": 1, "objective": "kl-forward"}),
    "kuzina-reverse": ("kuzina", {"steps": 10, "restarts": 1, "objective": "kl-reverse"}),
    "kuzina-means": ("kuzina", {"steps": 10, "restarts": 1, "objective": "means"}),
    "kuzina-clf": ("kuzina", {"steps": 10, "restarts": 1, "objective": "clf"}),
    "khan": ("khan", {"directions": 2, "scales": 3}),
    "photoguard": ("photoguard", {"steps": 15, "step_size": 0.02}),
    **{
        f"alma-{damage}": ("alma", {"passes": 5, "learning_rate": 0.01, "damage": damage})
        for damage in ("la-l2", "la-wass", "la-skl", "la-cos", "oa", "lma")
    },
    "grill": ("grill", {"passes": 5, "learning_rate": 0.01}),
}
ALL_GOALS = [(key, goal) for key, (name, _) in QUICK.items() for goal in make_attack(name).goals]
RANDOM = ("camuto", "kuzina", "photoguard", "alma", "grill")


# What every attack does


@pytest.mark.parametrize("victim", ["untrained", "shipped"])
@pytest.mark.parametrize(("key", "goal"), ALL_GOALS)
def test_the_result_is_inside_the_ball_and_better_than_the_source(
    key: str, goal: str, victim: str, request: pytest.FixtureRequest
) -> None:
    model, judge = request.getfixturevalue(victim)
    x, (name, settings) = digits(COUNT), QUICK[key]
    for norm in make_attack(name).norms:
        run = lambda eps, norm=norm: genrobust.attack(  # noqa: E731
            name, model, x, eps=eps, norm=norm, **given(goal, judge), **settings
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
        torch.testing.assert_close(idle.x_adv, x, atol=1e-6, rtol=0)
        assert found.loss.mean() <= idle.loss.mean()
        if victim == "shipped":
            assert found.loss.mean() < idle.loss.mean()
            assert make_attack(name).couples_samples or (found.loss <= idle.loss + 1e-6).all()


@pytest.mark.parametrize(("key", "goal"), ALL_GOALS)
def test_the_box_alone_is_searched_or_refused(
    key: str, goal: str, untrained: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    model, judge = untrained
    x, (name, settings) = digits(COUNT), QUICK[key]
    attack = make_attack(name, settings)
    for norm in attack.norms:
        arguments = {**given(goal, judge), **settings, "eps": math.inf, "norm": norm}
        if attack.needs_ball:
            with pytest.raises(GenrobustError, match=f"'{name}' needs a finite eps"):
                genrobust.attack(name, model, x, **arguments)
            continue
        found = genrobust.attack(name, model, x, **arguments)
        assert float(found.x_adv.min()) >= 0
        assert float(found.x_adv.max()) <= 1
        assert found.loss.isfinite().all()


@pytest.mark.parametrize(("key", "goal"), ALL_GOALS)
def test_a_sample_gets_the_same_result_in_any_batch_and_any_run(key: str, goal: str) -> None:
    name, settings = QUICK[key]
    model = adapt(initialised(NetworkSpec(gaussian=4, categorical=(5,)), seed=3).double())
    judge = linear_judge(1024)
    judge.module.double()
    x, ids = digits(COUNT).double(), (4, 8, 15, 16)

    def part(chosen: list[int], seed: int = 0) -> genrobust.AttackResult:
        arguments = given(goal, judge)
        images, classes = arguments["references"]
        arguments["references"] = (images.double(), classes)
        for field in ("labels", "target", "target_labels"):
            if field in arguments:
                arguments[field] = arguments[field][chosen]
        if "target" in arguments:
            arguments["target"] = arguments["target"].double()
        norm = make_attack(name).norms[0]
        return genrobust.attack(
            name, model, x[chosen], sample_ids=[ids[i] for i in chosen], seed=seed, norm=norm,
            **arguments, **settings,
        )  # fmt: skip

    torch.manual_seed(1)
    whole = part([0, 1, 2, 3])
    torch.manual_seed(2)
    assert torch.equal(part([0, 1, 2, 3]).x_adv, whole.x_adv)
    found = part([3, 1])
    if not make_attack(name).couples_samples:
        torch.testing.assert_close(found.x_adv, whole.x_adv[[3, 1]], atol=1e-6, rtol=0)
        torch.testing.assert_close(found.loss, whole.loss[[3, 1]], atol=1e-6, rtol=1e-6)
        assert torch.equal(found.forwards, whole.forwards[[3, 1]])
    if name in RANDOM:
        assert not torch.equal(part([3, 1], seed=1).x_adv, found.x_adv)


@pytest.mark.parametrize(("key", "goal"), ALL_GOALS)
def test_every_pass_through_the_encoder_is_counted(
    key: str, goal: str, untrained: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    model, judge = untrained
    name, settings = QUICK[key]
    passes = 0

    def encoder(x: Tensor) -> Posterior:
        nonlocal passes
        passes += len(x)
        return model.encode(x)

    spied = genrobust.GenerativeModel(
        "spied", model.module, model.input_shape, encoder, model.decode
    )
    arguments = given(goal, judge)
    norm = make_attack(name).norms[-1]
    found = genrobust.attack(
        name, spied, digits(COUNT), norm=norm, eps=EPS[norm], **arguments, **settings
    )
    # Beyond what the search looks at: targets, sources, references, the final look.
    spare = 3 * COUNT + (len(arguments["references"][0]) if "clf" in key else 0)
    if "willetts" in key:
        spare += 2 * COUNT  # the targets' posteriors, once for each weight
    assert int(found.forwards.sum()) <= passes <= int(found.forwards.sum()) + spare


# What is refused


@pytest.mark.parametrize(
    ("name", "goal", "taken", "more", "words"),
    [
        *(
            (name, "untargeted", (), {}, "is targeted only; give it a target")
            for name in (
                "willetts-kl",
                "willetts-w2",
                "willetts-output",
                "kuzina-supervised",
            )
        ),
        *(
            (name, "targeted", (), {"norm": norm}, "is untargeted only; leave the target out")
            for name, norm in (
                ("camuto", "l2"), ("kuzina-linearised", "l2"), ("khan", "l2"), ("alma", "linf"),
                ("grill", "linf"),
            )
        ),
        ("camuto", "untargeted", (), {"norm": "linf"}, "works under l2, not linf"),
        *(
            (name, "untargeted", (), {"norm": "l2"}, "works under linf, not l2")
            for name in ("kuzina", "photoguard", "alma", "grill")
        ),
        *(
            (name, "targeted", ("target",), {}, "needs target images")
            for name in ("willetts-kl", "kuzina-supervised", "kuzina", "photoguard")
        ),
        *(
            ("kuzina", goal, ("references",), {"objective": "clf"}, "needs labelled training")
            for goal in ("targeted", "untargeted")
        ),
        ("kuzina", "targeted", ("target_labels",), {"objective": "clf"}, "the targets' labels"),
        ("kuzina", "untargeted", ("labels",), {"objective": "clf"}, "the sources' labels"),
    ],
)  # fmt: skip
def test_what_an_attack_cannot_do_is_refused(
    name: str,
    goal: str,
    taken: tuple[str, ...],
    more: dict[str, Any],
    words: str,
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = untrained
    arguments = {k: v for k, v in given(goal, judge).items() if k not in taken}
    with pytest.raises(GenrobustError, match=f"the attack '{name}' .*{words}"):
        genrobust.attack(name, model, digits(COUNT), **arguments, **more)


# A linear model, whose worst changes are known


@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_posterior_attacks_reach_the_least_squares_optimum_in_the_ball(
    eps: float, plain: Plain
) -> None:
    plain.x[:, 0, 0, :2] = torch.tensor([0.0, 1.0])  # so that the source's range is the box
    best = plain.least(plain.E, plain.latent_gap, eps)
    assert (best > 0.01).any()
    run = lambda name, **settings: genrobust.attack(  # noqa: E731
        name, plain.model, plain.x, target=plain.target, eps=eps, **settings
    )
    # All posteriors have variance 1: both divergences are 1/2 ||m - m_t||^2.
    close(run("kuzina", objective="means").loss, best, atol=1e-4)
    for between in ("skl", "kl-forward", "kl-reverse"):
        close(run("kuzina", objective=between).loss, best / 2, atol=1e-4)
    supervised = run("kuzina-supervised", distance_weight=0.0, patience=20)
    close(supervised.loss, best / 2, atol=1e-4)
    close(run("photoguard").loss, best.sqrt(), atol=2e-3)


def test_photoguard_without_a_target_brings_the_code_to_zero(plain: Plain) -> None:
    best = plain.least(plain.E, -plain.x.flatten(1) @ plain.E.T, 0.1)
    found = genrobust.attack("photoguard", plain.model, plain.x, eps=0.1)
    close(found.loss, best.sqrt(), atol=2e-3)


def in_l2(E: Tensor, gap: Tensor, eps: float) -> Tensor:
    """min ||E d - gap_i||_2 over ||d||_2 <= eps by the secular equation, without a box."""
    _, s, right = np.linalg.svd(E.double().numpy(), full_matrices=False)
    u = E.double().numpy() @ right.T / s
    found = []
    for row in gap.double().numpy() @ u:

        def change(shift: float, row: Any = row) -> Any:
            return s * row / (s**2 + shift)

        low, high = 0.0, 1e6
        if np.linalg.norm(change(0.0)) > eps:
            for _ in range(200):
                middle = (low + high) / 2
                low, high = (
                    (middle, high) if np.linalg.norm(change(middle)) > eps else (low, middle)
                )
        found.append(np.linalg.norm(s * change(high if low > 0 else 0.0) - row))
    return torch.tensor(found)


def test_willetts_latent_attacks_reach_the_optimum_of_an_l2_ball_at_a_small_weight(
    plain: Plain,
) -> None:
    best = in_l2(plain.E, plain.latent_gap, 0.25)
    assert (best > 0.01).all()
    run = lambda name: genrobust.attack(  # noqa: E731
        name, plain.model, plain.x, target=plain.target, eps=0.25, norm="l2", points=2, highest=1e-5
    )
    close(run("willetts-w2").loss, best)
    close(run("willetts-kl").loss, best**2 / 2)


def test_willetts_penalty_is_not_squared(plain: Plain) -> None:
    # Where its slope at the source exceeds that of the objective, nothing moves.
    slope = (plain.latent_gap @ plain.E).norm(dim=1)
    attack = make_attack(
        "willetts-kl", {"points": 2, "lowest": 1e-6, "highest": 2 * float(slope.max())}
    )
    assert isinstance(attack, PenaltySweep)
    sweep = attack.sweep(plain.model, plain.batch)
    torch.testing.assert_close(sweep.x_adv[1], plain.x, atol=1e-4, rtol=0)
    assert ((sweep.x_adv[0] - plain.x).flatten(1).norm(dim=1) > 0.1).all()


def test_fifty_weights_are_geometric_from_2_to_the_minus_20_to_2_to_the_20() -> None:
    attack = make_attack("willetts-w2")
    assert isinstance(attack, PenaltySweep)
    weights = attack.weights().double()
    assert len(weights) == 50
    assert float(weights[0]) == 2.0**-20
    assert float(weights[-1]) == pytest.approx(2.0**20)
    torch.testing.assert_close(
        weights[1:] / weights[:-1], torch.full((49,), 2.0 ** (40 / 49)).double()
    )


def test_camuto_finds_the_top_singular_direction(plain: Plain, linear_vae: LinearBuilder) -> None:
    eps = 0.2
    D = 0.2 * plain.D  # so that no reconstruction leaves the box
    model = linear_vae(plain.E, D)
    sigma = torch.linalg.svdvals(D @ plain.E)[0]
    found = genrobust.attack("camuto", model, plain.x, eps=eps, norm="l2")
    torch.testing.assert_close(-found.loss, (eps * sigma).expand(COUNT), rtol=0.01, atol=0)
    assert (-found.loss <= eps * sigma * (1 + 1e-4)).all()
    moved = (model.reconstruct(found.x_adv) - model.reconstruct(plain.x)).flatten(1)
    torch.testing.assert_close(moved.norm(dim=1), -found.loss, atol=1e-5, rtol=1e-3)


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    """Three orthonormal rows, and how far an encoder stretches each."""
    orthogonal, _ = torch.linalg.qr(torch.randn(16, 3, generator=generator("rows")))
    return orthogonal.T, torch.tensor([3.0, 1.5, 0.5])


def test_khan_goes_along_the_top_eigenvector(
    rows: tuple[Tensor, Tensor], linear_vae: LinearBuilder
) -> None:
    directions, stretch = rows
    E = stretch[:, None] * directions
    model = linear_vae(E, 0.1 * directions.T)
    x = torch.full((2, 1, 4, 4), 0.5)
    found = genrobust.attack("khan", model, x, eps=0.1, norm="l2")
    torch.testing.assert_close(-found.loss, torch.full((2,), 0.1 * 0.1 * 3), rtol=0.01, atol=0)
    change = (found.x_adv - x).flatten(1)
    torch.testing.assert_close(
        (change @ directions[0]).abs(), torch.full((2,), 0.1), rtol=1e-3, atol=0
    )
    # In an L-infinity ball the change is scaled, not cut.
    found = genrobust.attack("khan", model, x, eps=0.05, directions=1)
    longest = 0.05 * directions[0] / directions[0].abs().max()
    torch.testing.assert_close(
        (found.x_adv - x).flatten(1).abs(), longest.abs().expand(2, 16), atol=1e-5, rtol=0
    )


def test_khans_changes_are_s_lambda_u_where_no_ball_cuts_them(
    rows: tuple[Tensor, Tensor], linear_vae: LinearBuilder
) -> None:
    directions, _ = rows
    E = torch.tensor([0.3, 0.2, 0.1])[:, None] * directions
    model = linear_vae(E, 0.1 * directions.T)
    x = torch.full((1, 1, 4, 4), 0.5)
    run = lambda **more: genrobust.attack(  # noqa: E731
        "khan", model, x, eps=math.inf, norm="l2", directions=1, **more
    )
    found = run(smallest=0.1, largest=2.0, scales=4)
    assert float((found.x_adv - x).norm()) == pytest.approx(2 * 0.09, rel=1e-4)
    assert found.forwards.tolist() == [1 + 2 + 8]
    assert found.backwards.tolist() == [6]


def test_khan_believes_a_judge_where_there_is_one(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = shipped
    x, labels = digits(COUNT), genrobust.load_images("digits").labels[:COUNT]
    arguments: dict[str, Any] = {"eps": 1.5, "norm": "l2", "directions": 2, "scales": 4}
    alone = genrobust.attack("khan", model, x, **arguments)
    judged = genrobust.attack("khan", model, x, judge=judge, labels=labels, **arguments)
    image = model.reconstruct(judged.x_adv)
    logits = judge.logits(image)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, labels[:, None])[:, 0] - others
    torch.testing.assert_close(judged.loss, margin)
    moved = (model.reconstruct(alone.x_adv) - model.reconstruct(x)).flatten(1).norm(dim=1)
    torch.testing.assert_close(alone.loss, -moved, atol=1e-4, rtol=1e-4)


def test_the_linearised_attack_finds_the_direction_that_stretches_most(
    rows: tuple[Tensor, Tensor], linear_vae: LinearBuilder
) -> None:
    directions, stretch = rows
    model = linear_vae(stretch[:, None] * directions, directions.T)
    x = torch.full((2, 1, 4, 4), 0.5)
    found = genrobust.attack("kuzina-linearised", model, x, eps=0.1, norm="l2", hops=1, chains=1)
    torch.testing.assert_close(-found.loss, torch.full((2,), 0.3), rtol=0.01, atol=0)
    free = genrobust.attack(
        "kuzina-linearised", model, x, eps=math.inf, norm="l2", hops=1, chains=1, length=0.2
    )
    torch.testing.assert_close(-free.loss, torch.full((2,), 0.6), rtol=0.01, atol=0)
    assert free.backwards.tolist() == [3, 3]
    published = genrobust.attack(
        "kuzina-linearised", model, x, eps=math.inf, norm="l2", hops=1, chains=1, as_published=True
    )
    u = directions[0] - directions[0].min()
    wanted = u / u.max()
    same = torch.minimum(
        (published.x_adv.flatten(1) - wanted).abs().amax(1),
        (published.x_adv.flatten(1) - (1 - wanted)).abs().amax(1),
    )
    assert (same < 1e-2).all()


def test_the_linearised_attack_on_a_network_climbs_its_jacobian(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, x = shipped[0], digits(2)
    attack = make_attack("kuzina-linearised")
    jacobian = encoder_jacobian(model, x)
    noise = torch.randn(2, 1024, generator=generator("e"))
    e = attack._ascend(jacobian, noise)  # type: ignore[attr-defined]
    reached = (jacobian @ e[..., None])[..., 0].norm(dim=1)
    torch.testing.assert_close(reached, torch.linalg.svdvals(jacobian)[:, 0], rtol=0.01, atol=0)


# One change for all


class Layered(nn.Module):
    """A linear autoencoder of layers that torch can hook."""

    input_shape = (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.down = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 8))
            self.up = nn.Sequential(nn.Linear(4, 16), nn.Sigmoid())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.down(x).chunk(2, 1)
        return mean, logvar

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.up(z)
        return image.view(-1, *self.input_shape)


UNIVERSAL = [key for key in QUICK if make_attack(QUICK[key][0]).couples_samples]


@pytest.mark.parametrize("key", UNIVERSAL)
def test_all_samples_share_one_change(key: str) -> None:
    name, settings = QUICK[key]
    model = genrobust.wrap(Layered())
    x = 0.3 + 0.4 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
    found = genrobust.attack(name, model, x, eps=0.1, **settings)
    change = found.x_adv - x
    torch.testing.assert_close(change, change[:1].expand_as(change), atol=1e-6, rtol=0)
    assert float(change.abs().max()) > 0.02
    unmoved = replace(make_attack(name, settings), passes=0)  # type: ignore[call-arg]
    start = unmoved(model, Batch(x, tuple(range(len(x)))), ThreatModel("linf", 0.1))
    assert found.loss.mean() < start.loss.mean()
    assert found.forwards.tolist() == [6] * COUNT
    assert found.backwards.tolist() == [5] * COUNT
    # At the box's edge each image gets what of the change fits.
    x[0] = 1.0
    change = genrobust.attack(name, model, x, eps=0.1, **settings).x_adv - x
    torch.testing.assert_close(change[0], change[1].clamp_max(0), atol=1e-6, rtol=0)


def test_the_best_universal_change_is_close_to_the_top_right_singular_signs(plain: Plain) -> None:
    # One image: la-l2 is ||E d||^2 / 3, whose maximum over the ball is at a corner.
    x = plain.x[:1]
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 16)
    best = (0.05 * corners @ plain.E.T).square().mean(1).max()
    found = [
        -genrobust.attack(
            "alma", plain.model, x, eps=0.05, damage="la-l2", learning_rate=5e-3, seed=seed
        ).loss
        for seed in range(3)
    ]
    assert float(torch.cat(found).max()) == pytest.approx(float(best), rel=0.01)


@pytest.mark.parametrize("name", ["alma", "grill"])
def test_universal_attacks_as_published_end_in_the_ball_all_the_same(
    name: str, shipped: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    x = digits(COUNT)
    run = lambda **more: genrobust.attack(  # noqa: E731
        name, shipped[0], x, eps=0.07, passes=3, as_published=True, **more
    )
    found = run()
    ThreatModel("linf", 0.07).check(found.x_adv, x, name)
    assert found.forwards.tolist() == [8] * COUNT
    assert torch.equal(run().x_adv, found.x_adv)
    assert not torch.equal(run(seed=1).x_adv, found.x_adv)


def test_as_published_the_change_is_scaled_and_the_batch_renormalised(plain: Plain) -> None:
    attack = make_attack("alma", {"as_published": True})
    change = 0.01 * torch.randn(1, 4, 4, generator=generator("d"))
    x_adv = attack._attacked(change, plain.x, ThreatModel("linf", 0.2))  # type: ignore[attr-defined]
    moved = plain.x + 0.2 * change / change.abs().max()
    torch.testing.assert_close(x_adv, (moved - moved.min()) / (moved.max() - moved.min()))
    assert (float(x_adv.min()), float(x_adv.max())) == (0.0, 1.0)


def test_condition_numbers_are_those_of_the_weights() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data = torch.tensor([[4.0, 0.0], [0.0, 0.5]])
    assert condition_number(linear) == pytest.approx(8)
    conv = nn.Conv2d(1, 2, 2)
    conv.weight.data = torch.tensor([[3.0, 0, 0, 0], [0, 0, 1.0, 0]]).view(2, 1, 2, 2)
    assert condition_number(conv) == pytest.approx(3)
    back = nn.ConvTranspose2d(3, 2, 2)
    rows = back.weight.data.transpose(0, 1).flatten(1)
    assert condition_number(back) == pytest.approx(float(np.linalg.cond(rows.numpy())), rel=1e-4)
    linear.weight.data = torch.ones(2, 2)
    assert condition_number(linear) > 1e6
    linear.weight.data = torch.zeros(2, 2)
    for module in (linear, nn.ReLU(), nn.BatchNorm2d(3)):
        assert condition_number(module) == 1


def test_layers_weigh_what_their_conditioning_leaves() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data = torch.tensor([[8.0, 0.0], [0.0, 1.0]])
    weights = layer_weights([linear, nn.ReLU(), nn.Sigmoid()])
    assert weights == pytest.approx([2 / 20, 9 / 20, 9 / 20])
    assert layer_weights([linear]) == [1.0]


def test_grill_is_the_weighted_sum_times_the_output() -> None:
    module = Layered()
    model = genrobust.wrap(module)
    x = torch.rand(3, 1, 4, 4, generator=generator("x"))
    x_adv = (x + 0.1).clamp(0, 1)
    loss = UniversalDamage("grill")(x_adv, Context(model, Batch(x, (0, 1, 2))))
    layers = [*module.down, *module.up]
    weights = layer_weights(layers)

    def outputs(images: Tensor) -> list[Tensor]:
        found = []
        for layer in layers:
            images = layer(images)
            found.append(images)
            if layer is module.down[-1]:
                images = images.chunk(2, 1)[0]
        return found

    errors = [(a - b).square().mean(1) for a, b in zip(outputs(x), outputs(x_adv), strict=True)]
    inner = sum(w * e for w, e in zip(weights, errors, strict=True))
    torch.testing.assert_close(-loss, inner * errors[-1])
    assert not any(layer._forward_hooks for layer in layers)


def test_layers_are_seen_before_others_overwrite_them() -> None:
    module = Layered()
    module.down[2] = nn.ReLU(inplace=True)
    model, x = genrobust.wrap(module), torch.rand(2, 1, 4, 4, generator=generator("x"))
    with torch.no_grad(), recorded_layers(model) as record:
        model.reconstruct(x)
    assert [layer for layer, _ in record] == [*module.down, *module.up]
    assert torch.equal(record[1][1], module.down[1](x.flatten(1)))
    assert float(record[1][1].min()) < 0


def test_damages_are_what_they_are_called() -> None:
    model = genrobust.wrap(Layered())
    x = torch.rand(3, 1, 4, 4, generator=generator("x"))
    x_adv = (x + 0.1).clamp(0, 1)
    context = Context(model, Batch(x, (0, 1, 2)))
    q, p = model.encode(x), model.encode(x_adv)
    a, b = q.vector(), p.vector()
    code = (a - b).square().mean(1)
    image = (model.reconstruct(x) - model.reconstruct(x_adv)).flatten(1).square().mean(1)
    expected = {
        "la-l2": code,
        "la-wass": (a.sort(1)[0] - b.sort(1)[0]).abs().mean(1),
        "la-skl": q.symmetric_kl(p),
        "la-cos": 1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)),
        "oa": image,
        "lma": code * image,
    }
    for damage, value in expected.items():
        loss = UniversalDamage(damage)(x_adv, context)  # type: ignore[arg-type]
        torch.testing.assert_close(-loss, value, msg=damage)


def test_grill_refuses_a_model_without_layers_to_hook(plain: Plain) -> None:
    with pytest.raises(GenrobustError, match="'grill' weighs layers"):
        genrobust.attack("grill", plain.model, plain.x, passes=1)
    with recorded_layers(genrobust.wrap(Layered()), wanted=False) as record:
        assert record == []


# The published codes' own ways


def test_kuzina_supervised_as_published_searches_freely_and_returns_the_last(plain: Plain) -> None:
    x_adv = plain.x.clone().requires_grad_()
    optimizer = torch.optim.Adam([x_adv], lr=0.5)
    goal = plain.target.flatten(1) @ plain.E.T
    for _ in range(12):
        optimizer.zero_grad()
        length = ((x_adv - plain.x).flatten(1).square().sum(1) + 1e-24).sqrt()
        divergence = 0.5 * (x_adv.flatten(1) @ plain.E.T - goal).square().sum(1)
        (0.3 * length + divergence).sum().backward()
        optimizer.step()
    outside = x_adv.detach()
    assert float(outside.max()) > 1
    run = lambda **more: genrobust.attack(  # noqa: E731
        "kuzina-supervised", plain.model, plain.x, target=plain.target, eps=math.inf, steps=12,
        distance_weight=0.3, learning_rate=0.5, **more,
    )  # fmt: skip
    published, corrected = run(as_published=True), run()
    torch.testing.assert_close(published.x_adv, outside.clamp(0, 1), atol=1e-5, rtol=0)
    assert (corrected.loss <= published.loss).any()
    assert not torch.allclose(corrected.x_adv, published.x_adv, atol=1e-3)


@pytest.mark.parametrize("name", ["kuzina", "photoguard"])
def test_as_published_the_last_iterate_is_returned(
    name: str, shipped: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    more = {"restarts": 1, "learning_rate": 3.0} if name == "kuzina" else {"step_size": 0.2}
    run = lambda **also: genrobust.attack(  # noqa: E731
        name, shipped[0], digits(COUNT), target=digits(COUNT).flip(0), steps=5, **more, **also
    )
    published, corrected = run(as_published=True), run()
    assert (corrected.loss <= published.loss).all()
    assert (corrected.loss < published.loss).any()


def test_camutos_published_draws_are_fresh_and_a_samples_own(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, x = shipped[0], digits(3)
    context = Context(model, Batch(x, (5, 6, 7)))
    objective, again = DrawnOutputDistance(3), DrawnOutputDistance(3)
    with torch.no_grad():
        first, second = objective(x, context), objective(x, context)
        assert not torch.equal(first, second)
        part = context[torch.tensor([2, 0])]
        torch.testing.assert_close(again(x[[2, 0]], part), first[[2, 0]])
        torch.testing.assert_close(again(x[[2, 0]], part), second[[2, 0]])
        assert not torch.allclose(DrawnOutputDistance(4)(x, context), first)


def test_samples_with_one_id_get_one_noise(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    posterior = shipped[0].encode(digits(3))
    (drawn,) = FreshNoise(0)(posterior, (1, 2, 1))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_kuzinas_pixels_stay_in_the_sources_range(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    x = 0.3 + 0.4 * digits(2)
    found = genrobust.attack("kuzina", shipped[0], x, eps=0.2, steps=5, restarts=1)
    assert float(found.x_adv.min()) >= float(x.min())
    assert float(found.x_adv.max()) <= float(x.max())
    assert float((found.x_adv - x).abs().max()) > 0.1


def test_kuzina_takes_its_published_number_of_steps(
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    x = digits(1)
    # A rate that never falls runs to the end.
    run = lambda **more: genrobust.attack(  # noqa: E731
        "kuzina", untrained[0], x, objective="means", smallest=0.0, **more
    )
    assert run().forwards.tolist() == [10 * 51]
    assert run(target=digits(2)[1:]).forwards.tolist() == [501]


# Objectives by hand


def test_posteriors_are_matched_in_every_way(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, x = shipped[0], digits(3)
    targeted = Context(model, Batch(x, (0, 1, 2), target_x=x.flip(0)))
    away = Context(model, Batch(x, (0, 1, 2)))
    x_adv = (x + 0.1).clamp(0, 1)
    with torch.no_grad():
        found, other, own = model.encode(x_adv), model.encode(x.flip(0)), model.encode(x)
        for between, distance in {
            "kl-forward": lambda r: r.kl(found),
            "kl-reverse": lambda r: found.kl(r),
            "skl": lambda r: 0.5 * (r.kl(found) + found.kl(r)),
            "means": lambda r: (r.vector() - found.vector()).norm(dim=1) ** 2,
        }.items():
            objective = PosteriorMatch(between)  # type: ignore[arg-type]
            torch.testing.assert_close(objective(x_adv, targeted), distance(other))
            torch.testing.assert_close(objective(x_adv, away), -distance(own))
        wasserstein = LatentWasserstein()
        torch.testing.assert_close(wasserstein(x_adv, targeted), found.wasserstein2(other))
        torch.testing.assert_close(wasserstein(x_adv, away), -found.wasserstein2(own))


def test_the_wasserstein_distance_has_a_gradient_where_posteriors_agree(plain: Plain) -> None:
    context = Context(plain.model, Batch(plain.x, tuple(range(COUNT)), target_x=plain.x))
    _, gradient = Problem.of(LatentWasserstein(), context).gradient(plain.x)
    assert gradient.isfinite().all()


def test_the_targets_elbo_is_its_likelihood_less_the_divergence(plain: Plain) -> None:
    context = Context(plain.model, plain.batch)
    mean = plain.x.flatten(1) @ plain.E.T
    prior = 0.5 * mean.square().sum(1)  # with unit variances
    image = mean @ plain.D.T + 0.5
    goal = plain.target.flatten(1)
    gaussian = torch.distributions.Normal(image, 0.5).log_prob(goal).sum(1)
    found = TargetELBO("gaussian", 0.5)(plain.x, context)
    torch.testing.assert_close(found, prior - gaussian)
    image = image.clamp(1e-6, 1 - 1e-6)
    bernoulli = (goal * image.log() + (1 - goal) * (1 - image).log()).sum(1)
    torch.testing.assert_close(TargetELBO()(plain.x, context), prior - bernoulli)
    # E ||x_t - D z - 1/2||^2 over draws has the mean's error plus the trace of D D^T.
    drawn = TargetELBO("gaussian", 0.5, draws=3000)(plain.x[:1], context[torch.tensor([0])])
    expected = prior[0] - gaussian[0] + 0.5 * plain.D.square().sum() / 0.5**2
    assert float(drawn) == pytest.approx(float(expected), rel=0.03)


def test_kuzinas_probe_attack_fools_a_linear_probe(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    from genrobust.metrics.latent import fit_probe

    model, judge = shipped
    arguments = given("targeted", judge)
    found = genrobust.attack(
        "kuzina", model, digits(COUNT), objective="clf", eps=0.3, steps=60, **arguments
    )
    with torch.no_grad():
        images, labels = arguments["references"]
        probe = fit_probe(model.encode(images).vector(), labels)
        chosen = probe.labels(model.encode(found.x_adv).vector())
    assert torch.equal(chosen, arguments["target_labels"])


# Optimizers


def test_plateau_halves_as_torch_does_and_each_sample_alone() -> None:
    losses = torch.tensor([5.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5])
    mine = Plateau(2, losses, 1.0, patience=2)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2, factor=0.5)
    for step, loss in enumerate(losses):
        mine.update(torch.tensor([1]), loss[None])
        optimizer.step()
        theirs.step(loss)
        assert mine.rates.tolist() == [1.0, optimizer.param_groups[0]["lr"]], step
    assert mine.rates[1] < 0.5


def test_sgd_steps_along_the_gradient_and_stops_when_its_rate_is_spent(plain: Plain) -> None:
    context = Context(plain.model, plain.batch)
    row = 0.01 * torch.randn(16, generator=generator("row"))
    threat = ThreatModel("linf", 0.3)
    problem = Problem.of(lambda x_adv, _: x_adv.flatten(1) @ row, context)
    found = sgd(problem, plain.x, threat, 3, 0.5, patience=5)
    wanted = threat.project(plain.x - 1.5 * row.view(1, 1, 4, 4), plain.x)
    torch.testing.assert_close(found.x, wanted)
    flat = Problem.of(lambda x_adv, _: 0 * x_adv.flatten(1).sum(1) + 1, context)
    found = sgd(flat, plain.x, threat, 100, 1.0, patience=0, smallest=0.1)
    # 1, then 1/2, 1/4, 1/8 and 1/16 after a step each without gain.
    assert flat.backwards.tolist() == [5] * COUNT
    assert torch.equal(found.x, plain.x)


def test_adam_with_patience_is_torchs_with_its_scheduler(plain: Plain) -> None:
    only = torch.tensor([0])
    context = Context(plain.model, plain.batch)[only]
    row = torch.randn(16, generator=generator("row"))
    loss = lambda x: (3 * (x.flatten(1) @ row) - 1).abs()  # noqa: E731
    x = plain.x[:1].clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.02)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    for _ in range(15):
        optimizer.zero_grad()
        value = loss(x).sum()
        value.backward()
        optimizer.step()
        scheduler.step(value.detach())
    assert optimizer.param_groups[0]["lr"] < 0.01
    problem = Problem.of(lambda x_adv, _: loss(x_adv), context)
    found = adam(problem, plain.x[:1], ThreatModel("linf", 5.0), 15, 0.02, patience=1, free=True)
    torch.testing.assert_close(found.x, x.detach().clamp(0, 1), atol=1e-5, rtol=0)


def test_pgds_steps_fall_evenly(plain: Plain) -> None:
    problem = Problem.of(
        lambda x_adv, _: x_adv.flatten(1).sum(1), Context(plain.model, plain.batch)
    )
    found = pgd(problem, plain.x, ThreatModel("linf", 0.25), 4, 0.04, final_share=0.0)
    gone = 0.04 * (1 + 0.75 + 0.5 + 0.25)
    torch.testing.assert_close(found.x, plain.x - gone, atol=1e-6, rtol=0)

"""Defences: each keeps what it certifies, and is attacked by attacks that know it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from linear_problems import Plain, linear_judge
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, norm
from torch import Tensor, nn

import genrobust
from genrobust.defences import (
    center,
    center_bound,
    center_smoothed,
    certified_error,
    certified_radius,
    hmc_defended,
    lipschitz_constants,
    lipschitz_margin,
    smoothed,
)
from genrobust.defences.center import _center
from genrobust.defences.sampling import _Chain
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.metrics import certified_margin, encoder_jacobian, robust_probability
from genrobust.models.lipschitz import GroupSort, Orthonormal
from genrobust.models.networks import ConvVAE, NetworkSpec, initialised
from genrobust.posterior import Gaussian, Posterior
from genrobust.seeding import generator, seeded

CPU = torch.device("cpu")


# Input smoothing


def test_the_certified_radius_of_a_plane_is_the_distance_to_it_but_for_few_draws() -> None:
    x = torch.full((3, 1, 2, 2), 0.5) + torch.tensor([0.4, -0.2, 0.001]).view(3, 1, 1, 1)

    def side(images: Tensor) -> Tensor:
        return (images.sum((1, 2, 3)) > 2).long()

    found = certified_radius(side, x, 0.5, sample_ids=[0, 1, 2], draws=4000)
    assert found.labels.tolist() == [1, 0, -1]
    true = torch.tensor([0.8, 0.4, 0.002])  # |sum - 2| / sqrt(4)
    assert (found.radius <= true).all()
    torch.testing.assert_close(found.radius[:2], true[:2], rtol=0.15, atol=0)
    assert found.radius[2] == 0
    again = certified_radius(side, x[1:2], 0.5, sample_ids=[1], draws=4000, batch_size=77)
    assert again.radius[0] == pytest.approx(float(found.radius[1]), abs=0.05)


def test_its_bound_is_that_of_clopper_and_pearson() -> None:
    seen: list[int] = []

    def every_fifth_otherwise(images: Tensor) -> Tensor:
        labels = (torch.arange(len(images)) % 5 == 0).long()
        seen.append(int((labels == 0).sum()))
        return labels

    x = torch.zeros(1, 1, 1, 1)
    found = certified_radius(every_fifth_otherwise, x, 0.3, sample_ids=[0], draws=200, alpha=0.01)
    low = binomtest(seen[-1], 200, alternative="greater").proportion_ci(0.99, "exact").low
    assert float(found.radius) == pytest.approx(0.3 * norm.ppf(low), rel=1e-5)


def test_the_noise_that_chooses_a_class_is_not_that_which_bounds_its_share() -> None:
    """Nor is it another image's, or in two batches the same."""
    seen: list[Tensor] = []

    def classify(images: Tensor) -> Tensor:
        seen.append(images.flatten(1))
        return torch.zeros(len(images), dtype=torch.int64)

    x = torch.zeros(2, 1, 1, 2)
    sizes = {"selection": 30, "draws": 50, "batch_size": 20}
    certified_radius(classify, x, 0.3, sample_ids=[4, 5], **sizes)
    drawn = torch.cat(seen)
    assert len(drawn) == 160
    assert len(drawn.unique(dim=0)) == 160
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.15)


def test_where_most_draws_have_no_class_nothing_is_certified() -> None:
    found = certified_radius(
        lambda images: torch.full((len(images),), -1), torch.zeros(1, 1, 1, 1), 0.3, sample_ids=[0]
    )
    assert (found.labels.tolist(), found.radius.tolist()) == ([-1], [0])


def test_no_change_within_the_certified_radius_moves_the_vote_of_a_ball() -> None:
    """The worst change of a ball's class is outwards, whose vote is looked at with many draws."""
    center = torch.full((1, 1, 2, 2), 0.5)

    def inside(images: Tensor) -> Tensor:
        return ((images - center).flatten(1).norm(dim=1) < 1).long()

    x = center + torch.tensor([0.2, 0.0, 0.0, 0.0]).view(1, 1, 2, 2)
    found = certified_radius(inside, x, 0.25, sample_ids=[0], draws=3000)
    assert found.labels.tolist() == [1]
    assert float(found.radius) > 0.2
    out = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2) * found.radius
    draws = torch.randn(20_000, 1, 2, 2, generator=generator("vote"))
    assert float(inside(x + out + 0.25 * draws).double().mean()) > 0.5


def test_noise_goes_into_a_deployment_of_its_own(tiny_vae: genrobust.GenerativeModel) -> None:
    seen: list[Tensor] = []

    def deploy(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    x = torch.full((2, *tiny_vae.input_shape), 0.5)
    model = genrobust.wrap(tiny_vae.module, deploy=lambda x: deploy(x) * 0.5 + 0.2)
    seen.clear()
    smoothed(model, 0.3).reconstruct(x)
    assert float((torch.cat(seen) - 0.5).std()) == pytest.approx(0.3, rel=0.1)


# Center smoothing


def test_the_center_is_one_amid_most_whatever_the_others_are() -> None:
    class Outliers(nn.Module):
        """Two of five noisy images lead far away."""

        input_shape = (1, 1, 1)

        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1)

        def decode(self, z: Tensor) -> Tensor:
            return torch.where(z > 0.84 * 0.1 + 0.5, 1.0, 0.5 + 0 * z).view(-1, 1, 1, 1)

    model = genrobust.wrap(Outliers(), differentiable=False)
    x = torch.full((4, 1, 1, 1), 0.5)
    with seeded(CPU, "center"):
        assert (center_smoothed(model, 0.1, samples=64).reconstruct(x) == 0.5).all()


def test_the_bound_of_the_identity_is_three_quantiles_of_the_noise() -> None:
    class Same(nn.Module):
        input_shape = (1, 1, 1)

        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1)

        def decode(self, z: Tensor) -> Tensor:
            return z.view(-1, 1, 1, 1)

    model = genrobust.wrap(Same())
    x = torch.full((1, 1, 1, 1), 0.5)
    found = center_bound(model, x, 0.1, 0.05, sample_ids=[3], samples=400, draws=20_000)
    held = 0.5
    while binom.sf(200, 400, held) < 0.995:  # above half of the samples
        held += 0.0005
    mass = norm.cdf(norm.ppf(held) + 0.5)
    away = float(found.center) - 0.5
    radius = 0.0
    while norm.cdf((away + radius) / 0.1) - norm.cdf((away - radius) / 0.1) < mass:
        radius += 1e-4
    assert float(found.bound) == pytest.approx(3 * radius, rel=0.03)
    few = center_bound(model, x, 0.1, 0.5, sample_ids=[3], draws=50)
    assert math.isinf(float(few.bound))


@pytest.mark.parametrize("images", [[0.0, 1, 2, 10, 11], [0.0, 1, 2, 10]])
def test_the_center_has_the_smallest_ball_that_holds_more_than_half(images: list[float]) -> None:
    given = torch.tensor(images).view(1, -1, 1, 1, 1)
    assert _center(given).flatten().tolist() == [1]
    assert _center(given.flip(1)).flatten().tolist() == [1]


@pytest.mark.parametrize(("samples", "eps", "alpha"), [(9, 0.02, 0.02), (10, 0.05, 0.2)])
def test_the_bound_is_three_times_the_distance_that_holds_enough_of_the_draws(
    samples: int, eps: float, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Same(nn.Module):
        input_shape = (1, 1, 2)

        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1)

        def decode(self, z: Tensor) -> Tensor:
            return z.view(-1, 1, 1, 2)

    model, seen = genrobust.wrap(Same()), list[Tensor]()
    noise = center.keyed_noise

    def noted(*given: Any) -> Iterator[Tensor]:
        seen.append(torch.cat([*noise(*given)]))
        yield seen[-1]

    monkeypatch.setattr(center, "keyed_noise", noted)
    x = torch.full((1, 1, 1, 2), 0.5)
    how: dict[str, Any] = {"sample_ids": [3], "samples": samples, "alpha": alpha}
    found = center_bound(model, x, 0.1, eps, draws=500, **how)
    amid, drawn = seen
    assert (len(amid), len(drawn)) == (samples, 500)
    assert not (amid[:, None] == drawn[None]).any()
    assert torch.equal(found.center, _center(amid[None]))
    # As Cohen et al. 2019: what a share of ``held`` at x' can be at x, at worst.
    held = brentq(lambda q: binom.sf(samples // 2, samples, q) - (1 - alpha / 2), 1e-9, 1 - 1e-9)
    mass = norm.cdf(norm.ppf(held) + eps / 0.1)
    place = next(k for k in range(501) if binom.cdf(k, 500, mass) >= 1 - alpha / 2)
    assert place < 500
    apart = (drawn - found.center).flatten(1).norm(dim=1).sort().values
    assert float(found.bound) == pytest.approx(3 * float(apart[place]), rel=1e-5)


def test_no_center_within_the_radius_leaves_the_bound(plain: Plain) -> None:
    """The worst change of a linear model is along its first singular vector."""
    x, eps = plain.x, 0.1
    found = center_bound(plain.model, x, 0.1, eps, sample_ids=range(4), samples=16, alpha=0.02)
    assert found.bound.isfinite().all()
    worst = torch.linalg.svd(plain.D @ plain.E).Vh[0].view(1, 1, 4, 4)
    defended = center_smoothed(plain.model, 0.1, samples=16)
    with seeded(CPU, "bound"):
        for sign in (1, -1):
            moved = (x + sign * eps * worst).repeat(50, 1, 1, 1)
            centers = defended.reconstruct(moved).unflatten(0, (50, 4))
            apart = (centers - found.center).flatten(2).norm(dim=2)
            assert float((apart <= found.bound).double().mean()) >= 0.98
            assert float(apart.mean()) > 0.01  # it did move


# Known slopes


def test_orthonormal_maps_and_sorted_pairs_keep_lengths() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 8)
    for outputs in (12, 8, 4):
        layer = Orthonormal(8, outputs, 1.5)
        gram = layer.map() @ layer.map().T if outputs < 8 else layer.map().T @ layer.map()
        torch.testing.assert_close(gram, 2.25 * torch.eye(len(gram)), atol=1e-5, rtol=0)
    layer = Orthonormal(8, 8, 1.0)
    torch.testing.assert_close(layer(x).norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(GroupSort()(x).norm(dim=1), x.norm(dim=1))


@pytest.fixture(scope="module")
def steep() -> genrobust.GenerativeModel:
    spec = NetworkSpec(input_shape=(1, 6, 6), gaussian=3, layers="dense", lipschitz=4.0)
    network = initialised(spec, 0)
    with torch.no_grad():
        network.encoder[-1].bias[3:] = -4.0  # narrow posteriors, as training leaves them
    return genrobust.wrap(network, encode=network.encode, decode=network.decode)


def test_no_slope_is_above_its_constant(steep: genrobust.GenerativeModel) -> None:
    constants = lipschitz_constants(steep)
    assert constants.mean == pytest.approx(4, rel=1e-4)
    x = torch.rand(4, 1, 6, 6, generator=generator("slope"))
    jacobian = encoder_jacobian(steep, x)
    assert (torch.linalg.matrix_norm(jacobian.flatten(2).double(), 2) <= constants.mean).all()
    code = 2 * torch.randn(4, 3, generator=generator("code"))
    decoded = torch.autograd.functional.jacobian(lambda z: steep.decode(z).flatten(1).sum(0), code)
    norms = torch.linalg.matrix_norm(decoded.transpose(0, 1).double(), 2)
    assert (norms <= constants.decoder).all()


@pytest.mark.slow
def test_attacks_within_the_certified_margin_leave_most_draws_near(
    steep: genrobust.GenerativeModel,
) -> None:
    x = torch.rand(4, 1, 6, 6, generator=generator("margin"))
    r = 0.4
    margin = lipschitz_margin(steep, x, r)
    assert (margin > 0.01).all()
    for i in range(2):
        one, eps = x[i : i + 1], float(margin[i])
        found = genrobust.attack("camuto", steep, one, eps=eps, norm="l2", restarts=1)
        assert float((found.x_adv - one).norm()) > 0.5 * eps
        near = robust_probability(steep, one, found.x_adv, r, sample_ids=[i], draws=200)
        assert float(near) >= 0.5


def test_the_margin_is_that_of_the_constants_and_of_the_deviations_length(
    steep: genrobust.GenerativeModel,
) -> None:
    x = torch.rand(3, 1, 6, 6, generator=generator("margin"))
    (part,) = steep.encode(x).parts
    assert isinstance(part, Gaussian)
    margins = lipschitz_margin(steep, x, 0.4)
    for logvar, margin in zip(part.logvar.double(), margins, strict=True):
        length = float(logvar.exp().sum().sqrt())
        constants = vars(lipschitz_constants(steep))
        assert float(margin) == pytest.approx(certified_margin(length, 0.4, **constants))


@pytest.mark.filterwarnings("ignore:.*may be misread")
@pytest.mark.parametrize(
    ("certify", "lipschitz", "said"),
    [
        pytest.param(*(lipschitz_constants, 2.0, "no Lipschitz constants"), marks=pytest.mark.slow),
        (lambda model: certified_error(model, torch.rand(1, 1, 6, 6), 0.1), None, "no bounds of"),
    ],
    ids=["Lipschitz", "boxes"],
)
def test_what_is_known_of_a_network_is_not_said_of_a_model_that_does_more(
    certify: Callable[[genrobust.GenerativeModel], object], lipschitz: float | None, said: str
) -> None:
    class Louder(ConvVAE):
        def encode(self, x: Tensor) -> Posterior:
            return super().encode(10 * x)

    spec = NetworkSpec(input_shape=(1, 6, 6), gaussian=3, layers="dense", lipschitz=lipschitz)
    network = initialised(spec, 0)
    bare = genrobust.wrap(network)
    assert certify(bare) is not None
    for model in (
        genrobust.wrap(network, value_range=(-1, 1)),
        genrobust.wrap(network, encode=lambda x: network.encode(10 * x)),
        genrobust.wrap(network, decode=lambda z: network.decode(10 * z)),
        genrobust.wrap(network, deploy=lambda x: network.decode(network.encode(10 * x).mode())),
        genrobust.wrap(Louder(spec)),
        smoothed(bare, 0.1),
    ):
        with pytest.raises(GenrobustError, match=said):
            certify(model)


@pytest.mark.parametrize(
    "spec",
    [
        {"layers": "dense", "lipschitz": 2.0},
        {"deterministic": True},
        {"top": 2},
        {"categorical": (3,)},
        {"gaussian": 0, "codebook": (8, 4)},
    ],
    ids=str,
)
def test_boxes_are_sent_through_plain_layers_and_gaussians(
    spec: dict[str, Any],
) -> None:
    model = genrobust.wrap(initialised(NetworkSpec(**{"input_shape": (1, 8, 8), **spec}), 0))
    with pytest.raises(GenrobustError, match="no bounds of"):
        certified_error(model, torch.rand(1, 1, 8, 8), 0.1)
    if "lipschitz" not in spec:
        with pytest.raises(GenrobustError, match="no Lipschitz constants"):
            lipschitz_constants(model)


# HMC


def test_the_chain_draws_from_the_posterior_of_a_linear_gaussian_model(plain: Plain) -> None:
    std = 0.4
    model = hmc_defended(
        plain.model,
        steps=24,
        leapfrog=4,
        step_size=0.15,
        likelihood="gaussian",
        std=std,
        through=True,
    )
    precision = torch.eye(3) + plain.D.T @ plain.D / std**2
    covariance = precision.inverse()
    mean = covariance @ plain.D.T @ (plain.x[0].flatten() - 0.5) / std**2
    with seeded(CPU, "chain"), torch.no_grad():
        drawn = model.encode(plain.x[:1].repeat(4000, 1, 1, 1)).mode()
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.06, rtol=0)
    start = (plain.E @ plain.x[0].flatten() - mean).norm()
    assert float(start) > 0.2  # the encoder alone is elsewhere


@pytest.mark.parametrize(
    ("chance", "factor"), [(0.92, 1.02), (0.88, 0.98), (1.0, 1.02), (math.nan, 0.98)]
)
def test_a_chain_learns_its_step_in_the_first_half_for_nine_in_ten(
    chance: float, factor: float
) -> None:
    """Where every move has the same chance of being accepted."""
    sizes, densities = list[float](), 0

    class Even(_Chain):
        def _move(self, code: Tensor, momentum: Tensor, size: Tensor, *_: Any) -> Any:
            sizes.append(float(size[0]))
            return code + 1, momentum

        def _log_density(self, code: Tensor, *_: Any) -> Tensor:
            nonlocal densities
            densities += 1  # of the moved code, then of that before
            return torch.full((len(code),), math.log(chance) if densities % 2 else 0.0)

    posterior = Posterior((Gaussian(torch.zeros(1, 3), torch.full((1, 3), -60.0)),))
    model: Any = SimpleNamespace(encode=lambda x: posterior)
    with seeded(CPU, "even"):
        code = Even(model, 6, 1, 0.1, None)(torch.zeros(1, 1, 1, 3))
    assert sizes == pytest.approx([0.1 * factor ** min(step, 3) for step in range(6)], rel=1e-5)
    if chance == 1 or math.isnan(chance):  # to a density that is no number nothing moves
        assert code[0].tolist() == pytest.approx([6.0 if chance == 1 else 0.0] * 3, abs=1e-6)


@pytest.mark.parametrize("std", [None, 0.3])
def test_a_chains_steps_are_reversible_and_its_density_is_the_posteriors(
    std: float | None, plain: Plain
) -> None:
    x, code = plain.x, 0.5 * torch.ones_like(plain.model.encode(plain.x).mode())
    chain, shape = _Chain(plain.model, 1, 5, 0.1, std), code.shape[1:]
    image = plain.model.decode(code)
    likelihood = (
        -0.5 * ((image - x) / std).square()
        if std
        else x * image.clamp(0, 1).log().clamp_min(-100)
        + (1 - x) * (1 - image.clamp(0, 1)).log().clamp_min(-100)
    )
    expected = likelihood.flatten(1).sum(1) - 0.5 * code.square().flatten(1).sum(1)
    torch.testing.assert_close(chain._log_density(code.flatten(1), x, shape), expected)
    size, momentum = torch.full((len(x), 1), 0.02), torch.ones_like(code.flatten(1))
    moved, end = chain._move(code.flatten(1), momentum, size, x, shape)
    assert not torch.allclose(moved, code.flatten(1), atol=1e-2)
    back, start = chain._move(moved.detach(), -end.detach(), size, x, shape)
    torch.testing.assert_close(back, code.flatten(1), rtol=0, atol=1e-4)
    torch.testing.assert_close(start, -momentum, rtol=0, atol=1e-3)


def test_gradients_go_through_the_chain(plain: Plain) -> None:
    model = hmc_defended(plain.model, steps=2, leapfrog=3, likelihood="gaussian", through=True)
    x = plain.x.double().requires_grad_()

    def output(images: Tensor) -> Tensor:
        with seeded(CPU, "same"):
            return model.surrogate(images, "deployed").sum()

    (slope,) = torch.autograd.grad(output(x), x)
    step = torch.randn(x.shape, generator=generator("step")).double()
    with torch.no_grad():
        change = output(x + 1e-5 * step) - output(x - 1e-5 * step)
    assert float(change / 2e-5) == pytest.approx(float((slope * step).sum()), rel=1e-3)


# All of them


DEFENCES: dict[str, Callable[[genrobust.GenerativeModel], genrobust.GenerativeModel]] = {
    "smoothed": lambda model: smoothed(model, 0.05, draws=8),
    "center": lambda model: center_smoothed(model, 0.05, samples=8, draws=3),
    "hmc": lambda model: hmc_defended(model, steps=2, leapfrog=2, draws=2),
    "hmc through": lambda model: hmc_defended(model, steps=2, leapfrog=2, draws=2, through=True),
}


def vote(model: genrobust.GenerativeModel, x: Tensor, judge: Judge) -> Tensor:
    with seeded(CPU, "vote"), torch.no_grad():
        return torch.stack([judge.labels(model.reconstruct(x)) for _ in range(31)]).mode(0).values


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFENCES)
def test_standard_takes_each_of_them_and_moves_their_vote(
    name: str, plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = (("noise", {}), ("classifier", {"steps": 8}), ("square", {"queries": 5}))
    monkeypatch.setattr("genrobust.attacks.standard.MEMBERS", {"untargeted": members})
    model, judge = DEFENCES[name](plain.model), linear_judge(16, classes=4)
    genrobust.models.check_model(model)
    assert model.fingerprint() != plain.model.fingerprint()
    labels = vote(model, plain.x, judge)
    found = genrobust.attack(
        "standard",
        model,
        plain.x,
        labels=labels,
        judge=judge,
        references=(plain.x, labels),
        eps=0.6,
    )
    assert (vote(model, found.x_adv, judge) != labels).float().mean() >= 0.5


def test_what_cannot_be_defended_so_is_told(
    plain: Plain, tiny_vae: genrobust.GenerativeModel
) -> None:
    model, x = plain.model, plain.x
    told: list[tuple[str, Callable[[], object]]] = [
        ("draws random numbers already", lambda: smoothed(smoothed(model, 0.1), 0.1)),
        ("needs 2 or more", lambda: smoothed(model, 0.1, draws=1)),
        ("must be a finite number above 0", lambda: smoothed(model, 0.0)),
        ("a center is amid 3 or more", lambda: center_smoothed(model, 0.1, samples=2)),
        ("give 'bernoulli' or", lambda: hmc_defended(model, likelihood="poisson")),  # type: ignore[arg-type]
        (
            "other latents than Gaussian",
            lambda: hmc_defended(tiny_vae).reconstruct(torch.rand(1, 1, 32, 32)),
        ),
        ("one each", lambda: center_bound(model, x, 0.1, 0.1, sample_ids=[0])),
        ("a chance between", lambda: certified_radius(len, x, 0.1, sample_ids=range(4), alpha=1)),  # type: ignore[arg-type]
        (
            "without its defence",
            lambda: center_bound(smoothed(model, 0.1), x, 0.1, 0.1, sample_ids=range(4)),
        ),
    ]
    for said, call in told:
        with pytest.raises(GenrobustError, match=said):
            call()


@pytest.mark.parametrize(
    ("classify", "words"),
    [
        (lambda x: x.flatten(1), r"what classify gives are torch.float32; give classes"),
        (lambda x: (x.flatten(1) > 0).long(), r"classify gives \(7, 4\) for 7 images; let it"),
        (lambda x: (x.mean((1, 2, 3)) > 0).long().repeat(2), r"classify gives \(14,\) for 7"),
        (lambda x: x.mean((1, 2, 3)), "are torch.float32; give classes"),
        (lambda x: 3, r"classify gives \(\) for 7 images"),
        (lambda x: None, "what classify gives is None"),
    ],
)
def test_what_is_no_class_an_image_is_not_certified(
    classify: Callable[[Tensor], Tensor], words: str
) -> None:
    x = torch.full((1, 1, 2, 2), 0.8)
    with pytest.raises(GenrobustError, match=words):
        certified_radius(classify, x, 0.5, sample_ids=[0], selection=7, draws=7)

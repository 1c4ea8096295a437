"""r-robustness on linear Gaussian models, where every probability has a closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, ncx2
from torch import Tensor, nn

import genrobust
from genrobust import GenrobustError, metrics

LATENTS, PIXELS, STD = 3, 9, 0.2


class LinearGaussian(nn.Module):
    """mean = E x, fixed standard deviation, x_hat = D z + 1/2; D has orthonormal columns."""

    input_shape = (1, 3, 3)

    def __init__(self, gain: float = 1.0, std: float = STD) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        q, _ = torch.linalg.qr(torch.randn(PIXELS, PIXELS, generator=draws).double())
        self.E = nn.Parameter(gain * q[:, :LATENTS].T)
        self.D = nn.Parameter(q[:, -LATENTS:])
        self.std = std

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.flatten(1) @ self.E.to(x).T
        return mean, torch.full_like(mean, 2 * math.log(self.std))

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.D.to(z).T + 0.5).view(-1, 1, 3, 3)


class Ignorant(LinearGaussian):
    """An encoder that hardly looks at the image."""

    def __init__(self) -> None:
        super().__init__(gain=1e-9)


def unclipped(module: nn.Module) -> genrobust.GenerativeModel:
    """The model without the clip to [0, 1], which would bend its reconstructions."""
    return replace(genrobust.wrap(module, clamp=True), clamp=False)


@pytest.fixture(scope="module")
def model() -> genrobust.GenerativeModel:
    return unclipped(LinearGaussian())


def closed_form(r: float, moved: float) -> float:
    """P(||moved e + sqrt(2) std n|| <= r) for a standard normal n in 3 dimensions."""
    scale = 2 * STD**2
    return float(
        ncx2.cdf(r**2 / scale, LATENTS, moved**2 / scale)
        if moved
        else chi2.cdf(r**2 / scale, LATENTS)
    )


def worst(model: genrobust.GenerativeModel, radius: float) -> Tensor:
    """A change of that length which moves the means by as much."""
    return radius * model.module.get_parameter("E")[:1].view(1, 1, 3, 3).float()


@pytest.mark.parametrize(("r", "radius"), [(0.5, 0.0), (0.5, 0.3), (0.9, 0.3), (0.9, 0.8)])
def test_the_probability_is_the_noncentral_chi_squares(
    model: genrobust.GenerativeModel, r: float, radius: float
) -> None:
    samples, draws = 200, 20
    x = torch.full((samples, 1, 3, 3), 0.5)
    found = metrics.robust_probability(
        model, x, x + worst(model, radius), r, sample_ids=range(samples), draws=draws
    )
    expected = closed_form(r, radius)
    error = 4 * math.sqrt(0.25 / (samples * draws))
    assert float(found.mean()) == pytest.approx(expected, abs=error)


def test_probabilities_do_not_depend_on_the_batch(model: genrobust.GenerativeModel) -> None:
    x = torch.rand(3, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    x_adv = x + worst(model, 0.4)
    whole = metrics.robust_probability(model, x, x_adv, 0.6, sample_ids=[5, 6, 7])
    alone = metrics.robust_probability(model, x[1:2], x_adv[1:2], 0.6, sample_ids=[6])
    assert whole[1] == alone[0]
    other = metrics.robust_probability(model, x, x_adv, 0.6, sample_ids=[5, 6, 7], seed=1)
    assert not torch.equal(whole, other)


@pytest.mark.slow
def test_bound_margin_and_truth_are_in_order(model: genrobust.GenerativeModel) -> None:
    """The first-order bound is exact here, and the best attack is known."""
    r = 0.9
    x = torch.full((2, 1, 3, 3), 0.5)
    grid = np.arange(0.05, 2, 0.05)
    truth = max(radius for radius in np.linspace(0, 2, 2001) if closed_form(r, radius) > 0.5)

    def attack(x: Tensor, radius: float, restart: int) -> Tensor:
        return x + worst(model, radius)

    found = metrics.robustness_margin(
        model, x, attack, r, radii=grid.tolist(), sample_ids=[0, 1], draws=2000
    )
    bound = metrics.first_order_margin(model, x, r, sample_ids=[0, 1], draws=4000)
    certain = STD * math.sqrt(LATENTS)
    certified = metrics.certified_margin(certain, r, decoder=1.0, mean=1.0)
    exact = metrics.certified_margin_fixed_std(STD, LATENTS, r, decoder=1.0, mean=1.0)
    p = closed_form(r, 0.0)
    norm = math.sqrt(LATENTS)
    quantile = float(torch.special.ndtri(torch.tensor(p)))
    assert found.tolist() == pytest.approx([truth] * 2, abs=0.1)
    assert bound.tolist() == pytest.approx([STD * quantile / norm] * 2, rel=0.1)
    assert bool((bound < truth).all())
    assert 0 <= certified < truth
    assert 0 < exact < truth


def test_the_margin_counts_the_radii_before_the_first_that_breaks(
    model: genrobust.GenerativeModel,
) -> None:
    x = torch.full((2, 1, 3, 3), 0.5)
    radii = [0.1, 0.2, 0.4, 0.8]

    def attack(x: Tensor, radius: float, restart: int) -> Tensor:
        """The second sample is attacked at 0.8 in the second restart only."""
        strength = torch.tensor([radius, radius if radius > 0.5 and restart == 1 else 0.0])
        return x + strength.view(2, 1, 1, 1) * worst(model, 1.0)

    def margin(r: float, restarts: int) -> list[float]:
        return metrics.robustness_margin(
            model, x, attack, r, radii=radii, sample_ids=[0, 1], restarts=restarts, draws=100
        ).tolist()

    assert margin(r=0.7, restarts=1) == pytest.approx([0.4, 0.8])
    assert margin(r=0.7, restarts=2) == pytest.approx([0.4, 0.4])
    assert margin(r=0.01, restarts=1) == [0, 0]
    assert margin(r=50.0, restarts=2) == pytest.approx([0.8, 0.8])


def test_the_first_order_bound_at_its_ends(model: genrobust.GenerativeModel) -> None:
    x = torch.full((1, 1, 3, 3), 0.5)
    assert metrics.first_order_margin(model, x, 0.01, sample_ids=[0], draws=100).tolist() == [0]
    assert metrics.first_order_margin(model, x, 50, sample_ids=[0], draws=100) > 0
    blind = unclipped(Ignorant())
    assert metrics.first_order_margin(blind, x, 0.9, sample_ids=[0], draws=100) > 1e6


@given(st.floats(0, 2), st.floats(0.1, 10), st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0, 3))
def test_the_certified_margin_solves_its_inequality(
    sigma: float, r: float, a: float, b: float, c: float
) -> None:
    def left_side(rho: float) -> float:
        return (c**2 + b**2) * rho**2 + 4 * c * sigma * rho + 4 * sigma**2

    rho = metrics.certified_margin(sigma, r, decoder=a, mean=b, std=c)
    limit = r**2 / (2 * a**2)
    if sigma >= r / (a * math.sqrt(8)):
        assert rho == 0
    else:
        assert left_side(rho) == pytest.approx(limit)


@pytest.mark.parametrize("m", [2, 3, 10, 64, 500, 2048])
def test_the_fixed_std_margin_is_a_little_below_the_exact_tails(m: int) -> None:
    gamma, r, a, b = 0.1, 40.0, 1.5, 0.8
    found = metrics.certified_margin_fixed_std(gamma, m, r, decoder=a, mean=b)
    u = (r / a - b * found) ** 2 / (2 * gamma**2)
    assert chi2.sf(u, m) <= 0.5
    exact = (r / a - gamma * math.sqrt(2 * chi2.isf(0.5, m))) / b
    assert 0.9 * exact < found <= exact
    log_bound = 0.5 * (m - (m - 1) * math.log(m)) - 0.5 * math.log(math.pi)
    log_bound += m / 2 * math.log(u) - u / 2 - math.log(u - m + 2)
    assert log_bound == pytest.approx(math.log(0.5), abs=1e-6)
    assert metrics.certified_margin_fixed_std(100.0, m, r, decoder=a, mean=b) == 0


def test_impossible_margins_are_refused(
    model: genrobust.GenerativeModel, tiny_vae: genrobust.GenerativeModel
) -> None:
    x = torch.full((1, 1, 3, 3), 0.5)

    def far(x: Tensor, radius: float, restart: int) -> Tensor:
        return x + 2 * radius

    def margin(radii: list[float], restarts: int = 1) -> None:
        metrics.robustness_margin(
            model, x, far, 1.0, radii=radii, sample_ids=[0], restarts=restarts
        )

    with pytest.raises(GenrobustError, match="project"):
        margin([0.1])
    with pytest.raises(GenrobustError, match="increasing"):
        margin([0.2, 0.1])
    with pytest.raises(GenrobustError, match="at least once"):
        margin([0.1], restarts=0)
    with pytest.raises(GenrobustError, match="r is -1"):
        metrics.robust_probability(model, x, x, -1, sample_ids=[0])
    with pytest.raises(GenrobustError, match="only Gaussian latents"):
        metrics.first_order_margin(tiny_vae, torch.zeros(1, 1, 32, 32), 1.0, sample_ids=[0])
    with pytest.raises(GenrobustError, match="from 0 up"):
        metrics.certified_margin(-1, 1, decoder=1, mean=1)
    with pytest.raises(GenrobustError, match="from 2 up"):
        metrics.certified_margin_fixed_std(1, 1, 1, decoder=1, mean=1)

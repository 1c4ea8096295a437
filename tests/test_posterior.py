"""Posteriors against torch.distributions, scipy, Monte Carlo and the published formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn
from torch.distributions import Normal, OneHotCategorical

from genrobust.errors import GenrobustError
from genrobust.posterior import Categorical, Gaussian, Part, Point, Posterior
from genrobust.seeding import generator


def numbers(shape: tuple[int, ...], size: float = 4.0) -> st.SearchStrategy[Tensor]:
    return arrays(np.float64, shape, elements=st.floats(-size, size)).map(torch.from_numpy)


def gaussians(batch: int = 3, latents: int = 2) -> st.SearchStrategy[Gaussian]:
    return st.builds(Gaussian, numbers((batch, latents)), numbers((batch, latents)))


def categoricals(batch: int = 3, classes: int = 4) -> st.SearchStrategy[Categorical]:
    return st.builds(Categorical, numbers((batch, classes)))


def posteriors() -> st.SearchStrategy[Posterior]:
    return st.builds(lambda *parts: Posterior(parts), gaussians(), categoricals())


def one(part: Part) -> Posterior:
    return Posterior((part,))


# KL divergences


@given(gaussians())
def test_the_kl_of_a_gaussian_to_the_prior_is_the_published_formula(q: Gaussian) -> None:
    # Kingma & Welling 2014, appendix B.
    expected = 0.5 * (q.mean**2 + q.logvar.exp() - q.logvar - 1)
    torch.testing.assert_close(one(q).kl_to_prior(), expected, atol=1e-9, rtol=1e-9)


@given(gaussians(), gaussians())
def test_the_kl_between_gaussians_is_the_textbook_formula(q: Gaussian, p: Gaussian) -> None:
    ratio = (q.logvar - p.logvar).exp()
    shift = (q.mean - p.mean) ** 2 / p.logvar.exp()
    expected = 0.5 * (ratio + shift - 1 - ratio.log()).sum(1)
    torch.testing.assert_close(one(q).kl(one(p)), expected, atol=1e-9, rtol=1e-9)


@given(categoricals(), categoricals())
def test_the_kl_between_categoricals_is_scipys(q: Categorical, p: Categorical) -> None:
    expected = scipy.stats.entropy(q.logits.softmax(1), p.logits.softmax(1), axis=1)
    np.testing.assert_allclose(one(q).kl(one(p)), expected, atol=1e-9)


@given(categoricals())
def test_the_kl_of_a_categorical_to_the_prior_is_log_k_minus_entropy(q: Categorical) -> None:
    expected = math.log(4) - scipy.stats.entropy(q.logits.softmax(1), axis=1)
    np.testing.assert_allclose(one(q).kl_to_prior()[:, 0], expected, atol=1e-9)


def test_the_kl_is_the_mean_log_ratio_of_draws() -> None:
    q = Posterior(
        (
            Gaussian(torch.tensor([[0.5, -1.0]]), torch.tensor([[-1.0, 0.3]])),
            Categorical(torch.tensor([[0.0, 1.0, -2.0]])),
        )
    )
    p = Posterior(
        (
            Gaussian(torch.tensor([[0.0, 0.2]]), torch.tensor([[0.0, -0.5]])),
            Categorical(torch.tensor([[0.4, 0.0, 0.1]])),
        )
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        total = torch.zeros(200_000)
        for a, b in zip(q.parts, p.parts, strict=True):
            if isinstance(a, Gaussian):
                one_a, one_b = (Normal(g.mean[0], g.logvar[0].exp().sqrt()) for g in (a, b))
                draws = one_a.sample((200_000,))
                total += (one_a.log_prob(draws) - one_b.log_prob(draws)).sum(1)
            else:
                hot_a, hot_b = (OneHotCategorical(logits=c.logits[0]) for c in (a, b))
                draws = hot_a.sample((200_000,))
                total += hot_a.log_prob(draws) - hot_b.log_prob(draws)
    error = float(total.std()) / math.sqrt(len(total))
    assert float(q.kl(p)) == pytest.approx(float(total.mean()), abs=5 * error)


@given(posteriors(), posteriors())
def test_kl_is_never_negative_and_symmetric_kl_is_symmetric(q: Posterior, p: Posterior) -> None:
    assert (q.kl(p) >= -1e-9).all()
    assert (q.kl_to_prior() >= -1e-9).all()
    torch.testing.assert_close(q.symmetric_kl(p), p.symmetric_kl(q))
    torch.testing.assert_close(q.symmetric_kl(p) * 2, q.kl(p) + p.kl(q))
    assert torch.equal(q.kl(q), torch.zeros(3, dtype=torch.float64))


def test_kl_to_prior_has_a_column_for_each_gaussian_latent_and_each_categorical() -> None:
    q = Posterior((Gaussian(torch.zeros(2, 3), torch.zeros(2, 3)), Categorical(torch.zeros(2, 5))))
    assert q.kl_to_prior().shape == (2, 4)
    assert one(Point(torch.zeros(2, 3))).kl_to_prior().shape == (2, 0)


def test_a_sure_categorical_with_a_huge_logit_has_finite_divergences() -> None:
    q = one(Categorical(torch.tensor([[200.0, 0.0, 0.0]])))
    uniform = one(Categorical(torch.zeros(1, 3)))
    assert float(q.kl(uniform)) == pytest.approx(math.log(3))
    assert float(q.wasserstein2(uniform)) == pytest.approx(math.sqrt(4 / 3))


def test_a_point_has_no_kl_and_says_what_to_use_instead() -> None:
    q = one(Point(torch.zeros(2, 3)))
    with pytest.raises(GenrobustError, match=r"needs a density.*'latent'"):
        q.kl(q)


def test_posteriors_of_different_make_cannot_be_compared() -> None:
    gaussian, point = Gaussian(torch.zeros(1, 2), torch.zeros(1, 2)), Point(torch.zeros(1, 2))
    for compare in (Posterior.kl, Posterior.wasserstein2):
        with pytest.raises(TypeError, match="Gaussian with a Point"):
            compare(one(gaussian), one(point))
        with pytest.raises(ValueError, match="zip"):
            compare(one(gaussian), Posterior((gaussian, gaussian)))
    with pytest.raises(ValueError, match="at least one part"):
        Posterior(())


# Wasserstein distances


@given(gaussians(), gaussians())
def test_wasserstein_of_gaussians_is_the_closed_form(q: Gaussian, p: Gaussian) -> None:
    # For commuting covariances: |m1 - m2|^2 + |s1 - s2|^2.
    spread = q.logvar.exp().sqrt() - p.logvar.exp().sqrt()
    expected = torch.hypot((q.mean - p.mean).norm(dim=1), spread.norm(dim=1))
    torch.testing.assert_close(one(q).wasserstein2(one(p)), expected, atol=1e-7, rtol=1e-7)


def test_wasserstein_in_one_dimension_is_the_distance_of_scipys_quantiles() -> None:
    q, p = scipy.stats.norm(0.3, 0.5), scipy.stats.norm(-1.0, 2.0)
    levels = (np.arange(200_000) + 0.5) / 200_000
    expected = np.sqrt(np.mean((q.ppf(levels) - p.ppf(levels)) ** 2))
    ours = [
        one(Gaussian(torch.tensor([[d.mean()]]), torch.tensor([[math.log(d.var())]])))
        for d in (q, p)
    ]
    assert float(ours[0].wasserstein2(ours[1])) == pytest.approx(expected, rel=1e-4)


@given(categoricals(batch=1), categoricals(batch=1))
def test_wasserstein_of_categoricals_is_the_cheapest_transport(
    q: Categorical, p: Categorical
) -> None:
    classes = q.logits.shape[1]
    cost = 2.0 * (1 - np.eye(classes))  # one-hot codes lie sqrt(2) apart
    rows = np.kron(np.eye(classes), np.ones(classes))
    columns = np.kron(np.ones(classes), np.eye(classes))
    plan = scipy.optimize.linprog(
        cost.ravel(),
        A_eq=np.vstack([rows, columns]),
        b_eq=np.concatenate([q.logits[0].softmax(0), p.logits[0].softmax(0)]),
    )
    assert float(one(q).wasserstein2(one(p))) ** 2 == pytest.approx(plan.fun, abs=1e-6)


def test_sure_categoricals_lie_the_distance_of_their_modes_apart() -> None:
    q = one(Categorical(100 * torch.eye(3)))
    p = one(Categorical(100 * torch.eye(3).roll(1, 0)))
    between_modes = (q.mode() - p.mode()).norm(dim=1)
    torch.testing.assert_close(q.wasserstein2(p), between_modes.double())
    torch.testing.assert_close(between_modes, torch.full((3,), math.sqrt(2)))


def test_wasserstein_of_points_is_their_distance_and_parts_add_up_squared() -> None:
    q = Posterior((Point(torch.zeros(1, 2)), Point(torch.zeros(1, 1))))
    p = Posterior((Point(torch.tensor([[2.0, 3.0]])), Point(torch.tensor([[6.0]]))))
    assert float(q.wasserstein2(p)) == pytest.approx(7)


# Codes


@given(categoricals())
def test_the_mode_is_the_one_hot_of_the_largest_logit(q: Categorical) -> None:
    mode = one(q).mode()
    assert set(mode.flatten().tolist()) <= {0.0, 1.0}
    assert torch.equal(mode.sum(1), torch.ones(3, dtype=mode.dtype))
    assert torch.equal((mode * q.logits).sum(1), q.logits.amax(1))


def test_the_relaxed_code_is_the_softmax_and_tends_to_the_mode_as_it_cools() -> None:
    q = one(Categorical(torch.tensor([[0.1, 0.3, -2.0], [5.0, 4.9, 4.0]])))
    torch.testing.assert_close(q.relaxed(), q.parts[0].vector().softmax(1))
    gaps = [float((q.relaxed(t) - q.mode()).abs().max()) for t in (1.0, 0.1, 0.03, 0.001)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-6


def test_straight_through_is_the_mode_forward_and_the_softmax_backward() -> None:
    logits = torch.tensor([[0.2, 1.0, -0.5]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    hard = one(Categorical(logits)).straight_through()
    torch.testing.assert_close(hard, torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))
    (ours,) = torch.autograd.grad((hard * weights).sum(), logits)
    p = logits.detach()[0].softmax(0)
    jacobian = torch.diag(p) - torch.outer(p, p)
    torch.testing.assert_close(ours[0], jacobian @ weights)


def test_the_code_of_one_spatial_part_keeps_its_shape() -> None:
    mean = torch.arange(2 * 4 * 3 * 3.0).view(2, 4, 3, 3)
    q = one(Gaussian(mean, torch.zeros_like(mean)))
    noise = q.draw_noise(generator(0))
    codes = (q.mode(), q.relaxed(), q.straight_through(), q.rsample(noise), q.sample(noise))
    assert all(code.shape == (2, 4, 3, 3) for code in codes)
    assert q.size == 36
    assert q.vector().shape == (2, 36)
    assert q.kl(q).shape == q.wasserstein2(q).shape == (2,)


def test_several_parts_are_flattened_side_by_side_in_their_order() -> None:
    spatial = torch.arange(8.0).view(2, 1, 2, 2)
    q = Posterior(
        (
            Gaussian(spatial, torch.zeros_like(spatial)),
            Categorical(torch.tensor([[0.0, 3.0], [2.0, 1.0]])),
            Point(torch.tensor([[9.0], [8.0]])),
        )
    )
    expected = torch.tensor([[0.0, 1, 2, 3, 0, 1, 9], [4, 5, 6, 7, 1, 0, 8]])
    assert torch.equal(q.mode(), expected)
    assert q.size == 7
    assert len(q) == 2
    assert torch.equal(q.vector()[:, 4:6], torch.tensor([[-1.5, 1.5], [0.5, -0.5]]))
    assert q.rsample(q.draw_noise(generator(0))).shape == (2, 7)


def test_the_vector_is_the_same_from_logits_and_from_their_softmax() -> None:
    logits = 5 * torch.randn(6, 10, generator=generator("gauge"))
    from_softmax = Categorical(logits.softmax(1).log()).vector()
    torch.testing.assert_close(Categorical(logits).vector(), from_softmax, atol=1e-4, rtol=0)
    torch.testing.assert_close(Categorical(logits + 3).vector(), from_softmax, atol=1e-4, rtol=0)


def test_only_a_categorical_makes_a_posterior_discrete() -> None:
    gaussian = Gaussian(torch.zeros(1, 2), torch.zeros(1, 2))
    assert Posterior((gaussian, Categorical(torch.zeros(1, 2)))).is_discrete
    assert not Posterior((gaussian, Point(torch.zeros(1, 2)))).is_discrete


@pytest.mark.parametrize(
    "index",
    [torch.tensor([2, 0]), torch.tensor([True, False, True]), torch.tensor([], dtype=torch.long)],
    ids=["positions", "mask", "none"],
)
def test_indexing_takes_samples_of_every_part(index: Tensor) -> None:
    mean, logvar, logits = (torch.arange(3.0 * n).view(3, n) for n in (2, 2, 4))
    q = Posterior((Gaussian(mean, logvar), Categorical(logits)))
    chosen = q[index]
    assert torch.equal(chosen.mode(), q.mode()[index])
    assert torch.equal(chosen.vector(), q.vector()[index])
    assert len(chosen) == len(q.mode()[index])


def test_detach_cuts_every_part_from_its_gradients() -> None:
    weights = nn.Parameter(torch.ones(1, 2))
    q = Posterior((Gaussian(weights, 2 * weights), Categorical(3 * weights))).detach()
    assert not any(t.requires_grad for t in (q.mode(), q.vector(), q.kl_to_prior(), q.relaxed()))


# Draws


def test_gaussian_draws_have_the_mean_and_the_spread() -> None:
    count = 50_000
    mean, logvar = torch.tensor([1.5, -2.0]), torch.tensor([0.0, -2.0])
    q = one(Gaussian(mean.expand(count, 2), logvar.expand(count, 2)))
    draws = q.sample(q.draw_noise(generator("draws")))
    for column in range(2):
        law = scipy.stats.norm(float(mean[column]), math.exp(0.5 * float(logvar[column])))
        assert scipy.stats.kstest(draws[:, column].numpy(), law.cdf).pvalue > 1e-3


def test_categorical_draws_are_one_hot_and_follow_the_probabilities() -> None:
    count = 50_000
    logits = torch.tensor([1.0, 0.0, -1.5, 0.5])
    q = one(Categorical(logits.expand(count, 4)))
    draws = q.sample(q.draw_noise(generator("draws")))
    assert torch.equal(draws.amax(1), torch.ones(count))
    assert torch.equal(draws.sum(1), torch.ones(count))
    found, expected = draws.sum(0).numpy(), (count * logits.double().softmax(0)).numpy()
    assert scipy.stats.chisquare(found, expected).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.4, 0.67, 2.0])
def test_relaxed_draws_follow_the_concrete_law(temperature: float) -> None:
    # Of two classes: temperature * logit(y) is logistic around the difference of the logits.
    q = one(Categorical(torch.tensor([[0.7, -0.4]], dtype=torch.float64).expand(20_000, 2)))
    y = q.rsample(q.draw_noise(generator("concrete")), temperature)[:, 0]
    law = scipy.stats.logistic(loc=1.1)
    assert scipy.stats.kstest((temperature * y.logit()).numpy(), law.cdf).pvalue > 1e-3


def test_a_cold_relaxed_draw_is_the_exact_draw_of_the_same_noise() -> None:
    q = one(Categorical(torch.randn(200, 6, generator=generator("logits"))))
    noise = q.draw_noise(generator("noise"))
    assert torch.equal(q.rsample(noise, 1e-5).round(), q.sample(noise))


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_the_ends_of_the_uniform_noise_give_finite_draws_and_gradients(extreme: float) -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]], requires_grad=True)
    noise = torch.tensor([[extreme, 0.5, extreme]])
    code = one(Categorical(logits)).rsample([noise])
    (gradient,) = torch.autograd.grad(code[0, 1], logits)
    assert code.isfinite().all()
    assert gradient.isfinite().all()


def test_draws_are_differentiable_in_every_parameter() -> None:
    mean, logvar, logits = (torch.zeros(2, 3, requires_grad=True) for _ in range(3))
    q = Posterior((Gaussian(mean, logvar), Categorical(logits)))
    weights = torch.arange(1.0, 7.0)
    total = (q.rsample(q.draw_noise(generator(1))) * weights).sum()
    gradients = torch.autograd.grad(total, (mean, logvar, logits))
    assert all(g.abs().sum() > 0 for g in gradients)


def test_a_point_is_its_own_draw() -> None:
    q = one(Point(torch.tensor([[1.0, 2.0]])))
    assert torch.equal(q.sample(q.draw_noise(generator(0))), q.mode())


def test_one_generator_gives_parts_different_noise_and_one_seed_the_same() -> None:
    gaussian = Gaussian(torch.zeros(2, 3), torch.zeros(2, 3))
    q = Posterior((gaussian, gaussian))
    first, second = q.draw_noise(generator("a"))
    assert not torch.equal(first, second)
    again = q.draw_noise(generator("a"))
    assert torch.equal(again[0], first)
    assert torch.equal(again[1], second)

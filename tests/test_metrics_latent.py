"""Displacements, likelihoods, probes and geometry against torch.distributions, NumPy and SciPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import genrobust
from genrobust import Categorical, Gaussian, GenrobustError, Point, Posterior, metrics
from genrobust.metrics.draws import keyed_draws
from genrobust.metrics.geometry import Spectrum


def random(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def gaussian(seed: int, batch: int = 3, latents: int = 4) -> Posterior:
    return Posterior((Gaussian(random(seed, batch, latents), random(seed + 1, batch, latents)),))


class Curved(nn.Module):
    """An encoder whose mean and standard deviation both bend, and a decoder in (0, 1)."""

    input_shape = (1, 3, 3)

    def __init__(self, latents: int = 4, constant_std: bool = False) -> None:
        super().__init__()
        self.mean = nn.Parameter(random(0, latents, 9))
        self.spread = nn.Parameter(random(1, latents, 9) * (not constant_std))
        self.back = nn.Parameter(random(2, 9, latents))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.flatten(1)
        return (flat @ self.mean.to(x).T).tanh(), (flat @ self.spread.to(x).T).sin() - 1

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.back.to(z).T).sigmoid().view(-1, 1, 3, 3)


class Linear(nn.Module):
    """mean = E x, standard deviation 1."""

    def __init__(self, E: Tensor, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.E, self.input_shape = nn.Parameter(E), shape

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.flatten(1) @ self.E.to(x).T
        return mean, torch.zeros_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.E.to(z)).sigmoid().view(-1, *self.input_shape)


def test_displacement_is_the_distance_of_means() -> None:
    q, p = gaussian(0), gaussian(2)
    change = (p.vector() - q.vector()).numpy()
    std = (0.5 * q.parts[0].logvar).exp().numpy()  # type: ignore[attr-defined]
    assert np.allclose(metrics.latent_displacement(q, p), np.linalg.norm(change, axis=1))
    scaled = np.sqrt((change**2 / std**2).sum(1))
    assert np.allclose(metrics.mahalanobis_displacement(q, p), scaled)


@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_only_mahalanobis_ignores_the_scale_of_a_latent(seed: int, scale: float) -> None:
    def rescaled(q: Posterior) -> Posterior:
        part = q.parts[0]
        assert isinstance(part, Gaussian)
        return Posterior((Gaussian(scale * part.mean, part.logvar + 2 * math.log(scale)),))

    q, p = gaussian(seed), gaussian(seed + 2)
    plain, unit = metrics.latent_displacement, metrics.mahalanobis_displacement
    assert torch.allclose(unit(rescaled(q), rescaled(p)), unit(q, p))
    assert torch.allclose(plain(rescaled(q), rescaled(p)), scale * plain(q, p))


def test_symmetric_kl_is_the_mean_of_both_closed_forms() -> None:
    q, p = gaussian(0), gaussian(2)
    a, b = q.parts[0], p.parts[0]
    assert isinstance(a, Gaussian)
    assert isinstance(b, Gaussian)
    square = (a.mean - b.mean) ** 2
    va, vb = a.logvar.exp(), b.logvar.exp()
    expected = 0.25 * (((va + square) / vb + (vb + square) / va) - 2).sum(1)
    assert torch.allclose(metrics.symmetric_kl(q, p), expected)
    assert torch.allclose(metrics.symmetric_kl(p, q), metrics.symmetric_kl(q, p))


def test_categorical_parts_displace_by_logits_and_have_no_standard_deviation() -> None:
    up = random(5, 3, 1)
    first, second = torch.cat([up, -up], 1), torch.cat([-2 * up, 2 * up], 1)
    q = Posterior((*gaussian(0).parts, Categorical(first)))
    p = Posterior((*gaussian(0).parts, Categorical(second)))
    expected = 3 * math.sqrt(2) * up[:, 0].abs()
    assert torch.allclose(metrics.latent_displacement(q, p), expected)
    assert metrics.mahalanobis_displacement(q, p).tolist() == [0, 0, 0]
    point = Posterior((Point(random(0, 3, 2)),))
    with pytest.raises(GenrobustError, match="only parts of kind Point"):
        metrics.mahalanobis_displacement(point, point)
    with pytest.raises(GenrobustError, match="one shape"):
        metrics.latent_displacement(q, point)


def test_draws_depend_on_the_sample_alone() -> None:
    q = Posterior((*gaussian(0, 4).parts, Categorical(random(5, 4, 3))))
    whole = torch.stack(list(keyed_draws(q, [3, 1, 4, 15], 5, 0, "a")))
    some = torch.stack(list(keyed_draws(q[torch.tensor([2, 0])], [4, 3], 3, 0, "a")))
    assert torch.equal(whole[:3, [2, 0]], some)
    other = torch.stack(list(keyed_draws(q, [3, 1, 4, 15], 5, 0, "b")))
    assert not bool((whole[..., :4] == other[..., :4]).any())
    for ids, draws, message in (([1], 1, "give one each"), ([1, 2, 3, 4], 0, "at least once")):
        with pytest.raises(GenrobustError, match=message):
            list(keyed_draws(q, ids, draws))


def test_the_targets_likelihood_is_that_of_torch_distributions() -> None:
    model = genrobust.wrap(Curved())
    x, target = random(3, 5, 1, 3, 3).sigmoid(), random(4, 5, 1, 3, 3).sigmoid()
    mean = model.reconstruct(x)
    binary = target.round()
    found = metrics.target_log_likelihood(model, x, binary)
    assert torch.allclose(found, Bernoulli(mean).log_prob(binary).flatten(1).sum(1))
    found = metrics.target_log_likelihood(model, x, target, "gaussian", std=0.3)
    assert torch.allclose(found, Normal(mean, 0.3).log_prob(target).flatten(1).sum(1))


def test_drawn_likelihoods_are_means_over_keyed_draws() -> None:
    model = genrobust.wrap(Curved())
    x, target = random(3, 5, 1, 3, 3).sigmoid(), random(4, 5, 1, 3, 3).sigmoid()
    whole = metrics.target_log_likelihood(model, x, target, draws=7, sample_ids=range(5))
    alone = metrics.target_log_likelihood(model, x[2:3], target[2:3], draws=7, sample_ids=[2])
    assert torch.allclose(whole[2:3], alone)
    assert not torch.allclose(whole, metrics.target_log_likelihood(model, x, target))
    fewer = metrics.target_log_likelihood(model, x, target, draws=6, sample_ids=range(5))
    assert not torch.allclose(whole, fewer)


def test_impossible_likelihoods_are_refused() -> None:
    model, x = genrobust.wrap(Curved()), torch.zeros(1, 1, 3, 3)
    with pytest.raises(GenrobustError, match="unknown likelihood 'bernouli'"):
        metrics.target_log_likelihood(model, x, x, "bernouli")  # type: ignore[arg-type]
    with pytest.raises(GenrobustError, match=r"leaves \[0, 1\]"):
        metrics.target_log_likelihood(model, x, x - 1)
    with pytest.raises(GenrobustError, match="sample_ids"):
        metrics.target_log_likelihood(model, x, x, draws=2)
    with pytest.raises(GenrobustError, match="std is 0"):
        metrics.target_log_likelihood(model, x, x, "gaussian", std=0)


def test_a_probe_is_scikit_learns_on_standardised_vectors() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    for classes in (2, 4):
        labels = torch.arange(80) % classes
        vectors = random(0, 80, 5) * torch.tensor([1.0, 10, 0.1, 1, 1]) + labels[:, None] * 0.7
        probe = metrics.fit_probe(vectors, labels)
        peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        peer.fit(vectors.numpy(), labels.numpy())
        expected = peer.predict_proba(vectors.numpy())
        assert np.allclose(probe.logits(vectors).softmax(1), expected, atol=1e-6)
        assert np.array_equal(probe.labels(vectors), peer.predict(vectors.numpy()))
        score = peer.score(vectors.numpy(), labels.numpy())
        assert metrics.probe_accuracy(probe, vectors, labels) == pytest.approx(score)


def test_a_constant_latent_does_not_break_the_probe_and_gradients_reach_the_vectors() -> None:
    vectors = torch.cat([random(0, 20, 1), torch.ones(20, 1)], 1).float()
    labels = (vectors[:, 0] > 0).long()
    probe = metrics.fit_probe(vectors, labels)
    assert metrics.probe_accuracy(probe, vectors, labels) == 1
    v = vectors.clone().requires_grad_()
    [gradient] = torch.autograd.grad(probe.logits(v)[:, 1].sum(), v)
    assert torch.equal(gradient, probe.weight[1].expand(20, 2))


def test_agreement_is_with_the_clean_prediction_not_with_the_truth() -> None:
    probe = metrics.Probe(torch.tensor([[-1.0], [1.0]]), torch.zeros(2))
    clean, moved = torch.tensor([[-1.0], [1.0], [2.0]]), torch.tensor([[-1.0], [-1.0], [1.0]])
    assert metrics.probe_agreement(probe, clean, clean) == 1
    assert metrics.probe_agreement(probe, clean, moved) == pytest.approx(2 / 3)
    assert metrics.probe_accuracy(probe, moved, torch.tensor([1, 1, 0])) == 0


def test_of_vectors_that_are_none_a_probe_reads_no_class() -> None:
    probe = metrics.Probe(torch.eye(2), torch.zeros(2))
    vectors, labels = torch.tensor([[1.0, 0.0], [torch.nan, 0.0]]), torch.tensor([0, 0])
    with pytest.raises(GenrobustError, match="scores are NaN"):
        metrics.probe_accuracy(probe, vectors, labels)
    with pytest.raises(GenrobustError, match="scores are NaN"):
        metrics.probe_agreement(probe, vectors[:1], vectors[1:])


def test_probes_that_cannot_be_fitted_are_refused() -> None:
    vectors = random(0, 4, 2)
    with pytest.raises(GenrobustError, match=r"classes \[0, 2\]"):
        metrics.fit_probe(vectors, torch.tensor([0, 0, 2, 2]))
    with pytest.raises(GenrobustError, match=r"classes \[0\]"):
        metrics.fit_probe(vectors, torch.zeros(4).long())
    with pytest.raises(GenrobustError, match=r"\(N, n\)"):
        metrics.fit_probe(vectors, torch.zeros(3).long())
    with pytest.raises(GenrobustError, match="strength"):
        metrics.fit_probe(vectors, torch.tensor([0, 0, 1, 1]), strength=0)


def test_the_jacobian_is_that_of_torch_func() -> None:
    model = genrobust.wrap(Curved())
    x = random(3, 5, 1, 3, 3).sigmoid()

    def statistic(image: Tensor, index: int) -> Tensor:
        mean, logvar = model.module.encode(image[None])  # type: ignore[operator]
        return [mean, (0.5 * logvar).exp()][index][0]

    for index, of in enumerate(("mean", "std")):
        with torch.no_grad():
            found = metrics.encoder_jacobian(model, x, of)  # type: ignore[arg-type]
        jacrev = torch.func.jacrev(statistic)
        expected = torch.func.vmap(jacrev, in_dims=(0, None))(x, index).flatten(2)
        assert torch.allclose(found, expected)
    with pytest.raises(GenrobustError, match="not of 'var'"):
        metrics.encoder_jacobian(model, x, "var")  # type: ignore[arg-type]


def test_a_constant_statistic_has_no_jacobian() -> None:
    for module in (Curved(constant_std=True), Linear(torch.eye(9), (1, 3, 3))):
        model = genrobust.wrap(module)
        assert not bool(metrics.encoder_jacobian(model, torch.zeros(1, 1, 3, 3), "std").any())


@pytest.mark.parametrize(("latents", "side"), [(3, 4), (16, 4), (20, 4)])
def test_a_linear_encoders_spectrum_is_its_svd(latents: int, side: int) -> None:
    E = random(7, latents, side * side)
    E[-1] = E[0]  # one eigenvalue is 0
    model = genrobust.wrap(Linear(E, (1, side, side)))
    found = metrics.pullback_spectrum(model, random(8, 2, 1, side, side))
    _, singular, directions = np.linalg.svd(E.numpy(), full_matrices=False)
    k = min(latents, side * side)
    assert found.directions.shape == (2, k, 1, side, side)
    for b in range(2):
        values = found.eigenvalues[b].numpy()
        assert np.allclose(values, singular[:k] ** 2, rtol=1e-6, atol=1e-9)
        real = values > 1e-6
        u = found.directions[b].flatten(1).numpy()
        assert np.allclose(u[real] @ u[real].T, np.eye(real.sum()), atol=1e-7)
        cosine = np.abs((u[real] * directions[:k][real]).sum(1))
        assert np.allclose(cosine, 1)
        assert not u[values == 0].any()


def test_the_spectrum_with_standard_deviations_is_that_of_the_whole_metric() -> None:
    model = genrobust.wrap(Curved())
    x = random(3, 4, 1, 3, 3).sigmoid()
    mean, std = (metrics.encoder_jacobian(model, x, of) for of in ("mean", "std"))
    metric = mean.mT @ mean + std.mT @ std
    found = metrics.pullback_spectrum(model, x, with_std=True)
    k = found.eigenvalues.shape[1]
    assert k == 8
    values = torch.linalg.eigvalsh(metric).flip(1)
    assert torch.allclose(found.eigenvalues, values[:, :k], atol=1e-9)
    u = found.directions.flatten(2)
    assert torch.allclose(u @ metric, found.eigenvalues[..., None] * u, atol=1e-9)
    assert torch.allclose(metrics.largest_eigenvalue(found), values[:, 0])


@given(st.integers(0, 1000))
def test_no_small_change_moves_the_means_more_than_the_first_direction(seed: int) -> None:
    model = genrobust.wrap(Curved())
    x = random(seed, 1, 1, 3, 3).sigmoid()
    found = metrics.pullback_spectrum(model, x)
    step = 1e-5
    d = random(seed + 1, 1, 1, 3, 3)
    d = step * d / d.norm()

    def moved(change: Tensor) -> float:
        return float((model.encode(x + change).mode() - model.encode(x).mode()).norm())

    bound = step * float(metrics.largest_eigenvalue(found).sqrt())
    assert moved(d) <= bound * (1 + 1e-3)
    assert moved(step * found.directions[:, 0]) == pytest.approx(bound, rel=1e-3)


def test_the_entropy_divides_by_the_largest_eigenvalue() -> None:
    def entropy(*values: float) -> float:
        row = torch.tensor([values], dtype=torch.float64)
        return float(metrics.von_neumann_entropy(Spectrum(row, torch.zeros(1))))

    assert entropy(3.0, 3.0) == 0
    assert entropy(5.0, 0.0, 0.0) == 0
    assert entropy(0.0, 0.0) == 0
    assert entropy(4.0, 2.0, 1.0) == pytest.approx(0.5 * math.log(2) + 0.25 * math.log(4))
    assert entropy(8.0, 4.0, 2.0) == pytest.approx(entropy(4.0, 2.0, 1.0))


def _normal(count: int, latents: int) -> Posterior:
    return Posterior((Gaussian(torch.zeros(count, latents), torch.zeros(count, latents)),))


@pytest.mark.parametrize(
    "other", [_normal(1, 4), _normal(3, 5), Posterior((Point(torch.ones(3, 4)),))]
)
def test_a_divergence_is_of_posteriors_of_as_many_images_by_one_model(other: Posterior) -> None:
    for pair in ((_normal(3, 4), other), (other, _normal(3, 4))):
        with pytest.raises(GenrobustError, match=r"images and adversarial .*; give what one model"):
            metrics.symmetric_kl(*pair)


@pytest.mark.parametrize(
    "measure",
    [
        metrics.symmetric_kl,
        metrics.latent_displacement,
        metrics.mahalanobis_displacement,
        metrics.token_flip_rate,
    ],
)
def test_what_is_no_posterior_is_named(measure: Any) -> None:
    with pytest.raises(GenrobustError, match=r"clean is a tuple; give a posterior, such as what"):
        measure((torch.zeros(1, 2), torch.zeros(1, 2)), _normal(1, 2))
    with pytest.raises(GenrobustError, match="adversarial is a Tensor; give a posterior"):
        measure(_normal(1, 2), torch.zeros(1, 2))


def test_a_probe_reads_vectors_of_the_length_that_it_was_fitted_on() -> None:
    probe = metrics.Probe(torch.eye(2), torch.zeros(2))
    with pytest.raises(GenrobustError, match=r"vectors are \(5, 3\) and the probe reads \(B, 2\)"):
        metrics.probe_accuracy(probe, torch.zeros(5, 3), torch.zeros(5).long())


@pytest.mark.parametrize("ids", [None, 3, ["a", "b"], [0.5, 1.5]])
def test_ids_that_are_none_are_one_sentence(ids: Any) -> None:
    with pytest.raises(GenrobustError, match=r"sample_ids.* is .*; give a (list|whole number)"):
        list(keyed_draws(_normal(2, 3), ids, 1))

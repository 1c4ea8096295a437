"""How far an attack moves the posterior, and what a linear probe still reads from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.arguments import classes, floats, real
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import require_same_shape, same_shape
from genrobust.posterior import Gaussian, Posterior, exponential, wide


def latent_displacement(clean: Posterior, adversarial: Posterior) -> Tensor:
    r"""The Euclidean distance of latent means: :math:`\|\mu(x') - \mu(x)\|_2`.

    Of a categorical part it takes the centred logits, as latent attacks do; of a plain
    autoencoder the point.

    Args:
        clean: q(code | x) of B images.
        adversarial: q(code | x') of their adversarial images.

    Returns:
        (B,) float64, in latent units: compare models only where their latents have one scale.

    Raises:
        GenrobustError: the posteriors differ in size.

    Example:
        >>> q = Posterior((Gaussian(torch.zeros(1, 2), torch.zeros(1, 2)),))
        >>> p = Posterior((Gaussian(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)),))
        >>> latent_displacement(q, p)
        tensor([5.], dtype=torch.float64)
    """
    _require_posteriors(clean=clean, adversarial=adversarial)
    a, b = wide(clean.vector()), wide(adversarial.vector())
    require_same_shape(clean=a, adversarial=b)
    return torch.linalg.vector_norm(b - a, dim=1)


def mahalanobis_displacement(clean: Posterior, adversarial: Posterior) -> Tensor:
    r"""The distance of latent means in units of the clean posterior's standard deviation.

    .. math:: \Bigl(\sum_j (\mu_j(x') - \mu_j(x))^2 / \sigma_j^2(x)\Bigr)^{1/2}

    It does not change when a latent is rescaled. Above :math:`\sqrt n` for n latents, the
    adversarial mean is farther away than a draw of the clean posterior typically is.

    Args:
        clean: q(code | x) of B images; its Gaussian parts are measured.
        adversarial: q(code | x') of their adversarial images.

    Returns:
        (B,) float64, from 0, without units.

    Raises:
        GenrobustError: the posterior has no Gaussian part, or the posteriors differ in size.

    Example:
        >>> q = Posterior((Gaussian(torch.zeros(1, 1), torch.full((1, 1), 0.25).log()),))
        >>> p = Posterior((Gaussian(torch.ones(1, 1), torch.zeros(1, 1)),))
        >>> mahalanobis_displacement(q, p)
        tensor([2.0000], dtype=torch.float64)
    """
    _require_posteriors(clean=clean, adversarial=adversarial)
    mean, std = gaussian_moments(clean)
    moved, _ = gaussian_moments(adversarial)
    require_same_shape(clean=mean, adversarial=moved)
    return torch.linalg.vector_norm((moved - mean) / std, dim=1)


def symmetric_kl(clean: Posterior, adversarial: Posterior) -> Tensor:
    r"""Half the sum of both KL divergences between clean and adversarial posterior.

    .. math:: \tfrac12 \mathrm{KL}(q(z|x) \| q(z|x')) + \tfrac12 \mathrm{KL}(q(z|x') \| q(z|x))

    Kuzina, Welling & Tomczak 2021 call it Omega.

    Args:
        clean: q(code | x) of B images.
        adversarial: q(code | x') of their adversarial images.

    Returns:
        (B,) float64, in nats, from 0.

    Raises:
        GenrobustError: the encoder gives a point, which has no density; the posteriors differ in
            kind or size.

    Example:
        >>> q = Posterior((Gaussian(torch.zeros(1, 2), torch.zeros(1, 2)),))
        >>> p = Posterior((Gaussian(torch.ones(1, 2), torch.zeros(1, 2)),))
        >>> symmetric_kl(q, p)
        tensor([1.], dtype=torch.float64)
    """
    _require_posteriors(clean=clean, adversarial=adversarial)
    shapes = [[(type(p), p.vector().shape) for p in q.parts] for q in (clean, adversarial)]
    if shapes[0] != shapes[1]:
        raise GenrobustError(
            f"clean is {clean.describe()} of {len(clean)} images and adversarial "
            f"{adversarial.describe()} of {len(adversarial)}; give what one model says of as many"
        )
    return clean.symmetric_kl(adversarial)


def token_flip_rate(clean: Posterior, adversarial: Posterior) -> Tensor:
    r"""The share of discrete choices that an attack changed: categories, entries of codebooks.

    .. math:: \tfrac1T \#\{t : k_t(x') \ne k_t(x)\}

    A residual quantiser's levels count each, and so do the channels of a fixed grid.

    Args:
        clean: q(code | x) of B images.
        adversarial: q(code | x') of their adversarial images.

    Returns:
        (B,) float64 in [0, 1]; NaN for a posterior without a discrete part.

    Raises:
        GenrobustError: the posteriors differ in size.

    Example:
        >>> from genrobust.posterior import Categorical
        >>> q = Posterior((Categorical(torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])),))
        >>> p = Posterior((Categorical(torch.tensor([[[0.0, 9.0], [0.0, 1.0]]])),))
        >>> token_flip_rate(q, p)
        tensor([0.5000], dtype=torch.float64)
    """
    _require_posteriors(clean=clean, adversarial=adversarial)
    before, after = clean.tokens(), adversarial.tokens()
    require_same_shape(clean=before, adversarial=after)
    return (before != after).double().mean(1)


def _require_posteriors(**given: object) -> None:
    for name, posterior in given.items():
        if not isinstance(posterior, Posterior):
            raise GenrobustError(
                f"{name} is a {type(posterior).__name__}; give a posterior, such as what "
                "model.encode(x) gives"
            )


def gaussian_total_correlation(codes: Tensor) -> float:
    r"""How much the latents tell of one another over a data set, as if they were Gaussian.

    .. math:: \tfrac12 \Bigl(\sum_j \log \Sigma_{jj} - \log \det \Sigma\Bigr)

    with the covariance of the codes: the unsupervised score of disentanglement of Locatello et al.
    2019. Latents that do not move (variance below 1e-8) are left out: they carry nothing.

    Args:
        codes: (N, L), one code a sample, such as posterior means.

    Returns:
        In nats, from 0 (no pair correlates); NaN without a latent that moves, or with fewer than
        two samples for each.

    Example:
        >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> gaussian_total_correlation(corners)
        0.0
    """
    spread = codes.double() - codes.double().mean(0)
    spread = spread[:, spread.square().mean(0) > 1e-8]
    count, latents = spread.shape
    if not latents or count < 2 * latents:
        return float("nan")
    correlation = torch.corrcoef(spread.T).reshape(latents, latents)
    # A determinant of 1 up to rounding is no correlation, not a negative one.
    return max(0.0, float(-0.5 * torch.linalg.slogdet(correlation).logabsdet))


def gaussian_moments(posterior: Posterior) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of the Gaussian parts, (B, n) float64 each.

    No standard deviation is 0 or infinite: see :func:`genrobust.posterior.exponential`.

    Raises:
        GenrobustError: there is no Gaussian part.

    Example:
        >>> gaussian_moments(Posterior((Gaussian(torch.ones(1, 2), torch.zeros(1, 2)),)))
        (tensor([[1., 1.]], dtype=torch.float64), tensor([[1., 1.]], dtype=torch.float64))
    """
    parts = [part for part in posterior.parts if isinstance(part, Gaussian)]
    if not parts:
        kinds = ", ".join(type(part).__name__ for part in posterior.parts)
        raise GenrobustError(
            f"this needs a standard deviation, and the posterior has only parts of kind {kinds}; "
            "use latent_displacement, or a model with Gaussian latents"
        )
    mean = torch.cat([wide(part.mean).flatten(1) for part in parts], 1)
    logvar = torch.cat([wide(part.logvar).flatten(1) for part in parts], 1)
    return mean, exponential(logvar, 0.5)


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier of latent vectors, differentiable in them.

    Args:
        weight: (classes, n).
        bias: (classes,).

    Example:
        >>> probe = Probe(weight=torch.eye(2), bias=torch.zeros(2))
        >>> probe.labels(torch.tensor([[3.0, 1.0], [0.0, 2.0]]))
        tensor([0, 1])
    """

    weight: Tensor
    bias: Tensor

    def logits(self, vectors: Tensor) -> Tensor:
        """Unnormalised scores of vectors (B, n): (B, classes).

        Raises:
            GenrobustError: vectors of another length than those that it was fitted on.
        """
        vectors = floats("vectors", vectors)
        if vectors.shape[1:] != self.weight.shape[1:]:
            raise GenrobustError(
                f"vectors are {tuple(vectors.shape)} and the probe reads (B, "
                f"{self.weight.shape[1]}); give those of the model that it was fitted on"
            )
        return vectors @ self.weight.to(vectors).T + self.bias.to(vectors)

    def labels(self, vectors: Tensor) -> Tensor:
        """The most likely class of vectors (B, n): (B,) int64.

        Raises:
            GenrobustError: a score is NaN, of which no class is the most likely.
        """
        logits = self.logits(vectors)
        if logits.isnan().any():
            raise GenrobustError(
                "the probe's scores are NaN; give vectors of finite numbers, without the images "
                "for which the encoder fails"
            )
        return logits.argmax(1)


def fit_probe(vectors: Tensor, labels: Tensor, strength: float = 1.0) -> Probe:
    r"""Fit multinomial logistic regression on latent vectors, as scikit-learn does.

    It minimises :math:`\sum_i -\log p(y_i | v_i) + \|W\|^2 / (2 C)` over standardised vectors;
    the standardisation is folded into the probe's weights.

    Args:
        vectors: latent vectors such as ``model.encode(x).vector()``, (N, n); gradients stop here.
        labels: their classes, (N,) int64: 0 to K - 1, each at least once.
        strength: C, the inverse of the regularisation; above 0.

    Returns:
        The probe, in the vectors' precision and on their device.

    Raises:
        GenrobustError: shapes do not fit, a class is missing, there are fewer than two, or the
            strength is not above 0.

    Example:
        >>> probe = fit_probe(torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]),
        ...                   torch.tensor([0, 0, 1, 1]))
        >>> probe.labels(torch.tensor([[-0.5], [0.5]]))
        tensor([0, 1])
    """
    vectors, labels = floats("vectors", vectors), classes("labels", labels)
    if vectors.ndim != 2 or labels.shape != vectors.shape[:1]:
        raise GenrobustError(
            f"vectors are {tuple(vectors.shape)} and labels {tuple(labels.shape)}; give (N, n) and "
            "(N,)"
        )
    found = labels.unique().tolist()
    if len(found) < 2 or found != list(range(len(found))):
        raise GenrobustError(
            f"the labels hold the classes {found}; a probe needs two or more, numbered from 0 "
            "without a gap"
        )
    if not vectors.isfinite().all():
        raise GenrobustError(
            "vectors hold NaN or infinite numbers; a probe is fitted to finite ones"
        )
    if not real("strength", strength) > 0:
        raise GenrobustError(f"strength is {strength}; it must be above 0, such as 1")
    from sklearn.linear_model import LogisticRegression

    data = vectors.detach().double().cpu()
    mean, std = data.mean(0), data.std(0, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    fitted = LogisticRegression(C=strength, max_iter=2000)
    fitted.fit(((data - mean) / std).numpy(), labels.cpu().numpy())
    weight, bias = torch.from_numpy(fitted.coef_), torch.from_numpy(fitted.intercept_)
    if len(found) == 2:  # scikit-learn keeps only the second of two classes
        weight = torch.cat([torch.zeros_like(weight), weight])
        bias = torch.cat([torch.zeros_like(bias), bias])
    weight = weight / std
    return Probe(weight.to(vectors), (bias - weight @ mean).to(vectors))


def probe_accuracy(probe: Probe, vectors: Tensor, labels: Tensor) -> float:
    r"""How often the probe reads the true class from (adversarial) latent vectors.

    .. math:: \frac1B \#\{i : f(\mu(x'_i)) = y_i\}

    The downstream accuracy of Cemgil et al. 2020.

    Args:
        probe: fitted on clean training vectors.
        vectors: latent vectors, (B, n).
        labels: the sources' classes, (B,) int64.

    Returns:
        A number in [0, 1]; NaN without samples.

    Raises:
        GenrobustError: fewer or more labels than vectors, or vectors that are NaN.

    Example:
        >>> probe = Probe(torch.tensor([[-1.0], [1.0]]), torch.zeros(2))
        >>> probe_accuracy(probe, torch.tensor([[-1.0], [2.0]]), torch.tensor([0, 0]))
        0.5
    """
    seen, labels = probe.labels(vectors), classes("labels", labels)
    require_same_shape(predicted=seen, labels=labels)
    return float((seen == labels).double().mean())


def probe_agreement(probe: Probe, clean: Tensor, adversarial: Tensor) -> float:
    r"""How often the probe reads the same class from clean and adversarial latent vectors.

    .. math:: \frac1B \#\{i : f(\mu(x'_i)) = f(\mu(x_i))\}

    What Kuzina, Welling & Tomczak 2022 publish as adversarial accuracy: it is 1 without an
    attack, even for a probe that is mostly wrong.

    Args:
        probe: fitted on clean training vectors.
        clean: latent vectors of the sources, (B, n).
        adversarial: latent vectors of their adversarial images, (B, n).

    Returns:
        A number in [0, 1]; NaN without samples.

    Raises:
        GenrobustError: the shapes differ, or a vector is NaN.

    Example:
        >>> probe = Probe(torch.tensor([[-1.0], [1.0]]), torch.zeros(2))
        >>> probe_agreement(probe, torch.tensor([[-1.0], [2.0]]), torch.tensor([[-3.0], [-1.0]]))
        0.5
    """
    clean, adversarial = same_shape(floats, clean=clean, adversarial=adversarial)
    return probe_accuracy(probe, adversarial, probe.labels(clean))

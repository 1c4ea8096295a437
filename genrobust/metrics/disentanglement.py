"""How well single latents stand for single known factors: six scores, each in [0, 1].

All take codes (N, n), one row an image, and its factors (N, f), whole numbers from 0. They answer
different questions, and agree only at the ends: a code that is the factors scores 1 in nearly all.
Bins, readers and batches are as in the study of Locatello et al. 2019. The unit of the codes does
not matter, as long as it is one for all latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrobust.arguments import classes, floats, real, whole, whole_seed
from genrobust.data.base import Images
from genrobust.errors import GenrobustError
from genrobust.models.inputs import require_model
from genrobust.models.model import GenerativeModel
from genrobust.posterior import Posterior
from genrobust.seeding import generator

Matrix = NDArray[np.float64]
#: Seeds of scikit-learn are below it.
_WORD = 2**32
#: Codes that differ by less than this share of their size do not vary.
STILL = 1e-6


def mig(codes: Tensor, factors: Tensor, bins: int = 20) -> float:
    """Mutual information gap (Chen et al. 2018): how far the best latent of a factor leads.

    For each factor the two greatest mutual informations with a latent are subtracted and divided by
    the factor's entropy; the mean over factors.

    Args:
        codes: (N, n).
        factors: (N, f), whole numbers.
        bins: of equal width, over each latent's range.

    Returns:
        In [0, 1]; 1 where each factor is in one latent.

    Raises:
        GenrobustError: shapes or numbers that cannot be; a factor with one value.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        >>> round(mig(factors.float(), factors), 4)
        1.0
    """
    z, v = _checked(codes, factors)
    ranked = np.sort(_information(z, v, bins), axis=0)
    second = ranked[-2] if len(ranked) > 1 else 0.0
    return float(np.mean((ranked[-1] - second) / _entropies(v)))


def modularity(codes: Tensor, factors: Tensor, bins: int = 20) -> float:
    """Modularity (Ridgeway & Mozer 2018): whether each latent is of one factor at most.

    For each latent, 1 less the squared information on all factors but its best, over the squared
    information on its best and the number of other factors; the mean over latents that carry any
    information. Two latents may be of one factor.

    Args:
        codes: (N, n).
        factors: (N, f), whole numbers, at least two factors.
        bins: of equal width, over each latent's range.

    Returns:
        In [0, 1]; 1 where each latent tells of one factor.

    Raises:
        GenrobustError: shapes or numbers that cannot be; fewer than two factors; no latent that
            varies.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(4)).repeat(20, 1)
        >>> round(modularity(factors.float(), factors), 4)
        1.0
    """
    z, v = _checked(codes, factors, least=2)
    squared = _information(z, v, bins) ** 2
    best = squared.max(1)
    told = best > 1e-18
    if not told.any():
        raise GenrobustError(
            "no latent carries information on a factor, so that modularity is undefined; give "
            "codes that vary"
        )
    rest = squared.sum(1) - best
    return float(np.mean(1 - rest[told] / (best[told] * (v.shape[1] - 1))))


def sap(codes: Tensor, factors: Tensor, seed: int = 0) -> float:
    """Separated attribute predictability (Kumar et al. 2018): the best classifier's lead.

    A linear support vector machine reads each factor from each latent alone; on the second half of
    the rows the two best accuracies are subtracted; the mean over factors.

    Args:
        codes: (N, n).
        factors: (N, f), whole numbers.
        seed: of the shuffle and the machines.

    Returns:
        In [0, 1]; 1 where one latent alone predicts each factor.

    Raises:
        GenrobustError: shapes or numbers that cannot be; a factor with one value.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(80, 1)
        >>> 0.4 < sap(factors.float(), factors) < 0.6  # the other latent guesses half of them
        True
    """
    from sklearn.svm import LinearSVC  # slow to import

    z, v = _checked(codes, factors)
    seed = whole_seed(seed)
    train, test = _halves(len(z), seed)
    z = (z - z[train].mean(0)) / np.maximum(z[train].std(0), 1e-12)
    gaps = []
    for factor in v.T:
        scores = sorted(
            _fitted(
                LinearSVC(C=0.01, class_weight="balanced", random_state=seed % _WORD),
                z[train, i : i + 1],
                factor[train],
            ).score(z[test, i : i + 1], factor[test])
            for i in range(z.shape[1])
        )
        gaps.append(scores[-1] - (scores[-2] if len(scores) > 1 else 0.0))
    return float(np.mean(gaps))


def dci(codes: Tensor, factors: Tensor, seed: int = 0) -> tuple[float, float, float]:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Boosted trees read each factor from all latents; their importances say how much of a latent goes
    to one factor (disentanglement) and of a factor to one latent (completeness), by entropy;
    informativeness is the accuracy on the second half of the rows.

    Args:
        codes: (N, n).
        factors: (N, f), whole numbers.
        seed: of the shuffle and the trees.

    Returns:
        Disentanglement, completeness and informativeness, each in [0, 1]. A single latent is
        complete whatever it says.

    Raises:
        GenrobustError: shapes or numbers that cannot be; a factor with one value; fewer than two
            factors, of which any code is disentangled.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(4)).repeat(20, 1)
        >>> [round(score, 4) for score in dci(factors.float(), factors)]
        [1.0, 1.0, 1.0]
    """
    from sklearn.ensemble import GradientBoostingClassifier  # slow to import

    z, v = _checked(codes, factors, least=2)
    seed = whole_seed(seed)
    train, test = _halves(len(z), seed)
    models = [
        _fitted(
            GradientBoostingClassifier(n_estimators=20, random_state=seed % _WORD),
            z[train],
            f[train],
        )
        for f in v.T
    ]
    importance = np.stack([model.feature_importances_ for model in models], 1)
    read = [m.score(z[test], f[test]) for m, f in zip(models, v.T, strict=True)]
    return _purity(importance), _purity(importance.T), float(np.mean(read))


def factor_score(codes: Tensor, factors: Tensor, votes: int = 800, seed: int = 0) -> float:
    """The FactorVAE score (Kim & Mnih 2018): whether the calmest latent tells the factor held.

    Each vote draws a factor, a value of it and 64 rows that have it; the latent of the least
    variance, in shares of its own over all rows, votes for the factor. The accuracy of the majority
    over the second half of the votes, by what the first half taught. Latents that do not vary, by a
    hundred-thousandth of the others, never vote.

    Args:
        codes: (N, n).
        factors: (N, f), whole numbers, at least two factors.
        votes: how many, half to learn and half to score.
        seed: of the draws.

    Returns:
        In [0, 1]: the share of votes that name the factor that was held.

    Raises:
        GenrobustError: shapes or numbers that cannot be; a factor with one value; fewer than two
            factors; no latent that varies.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(4)).repeat(20, 1)
        >>> factor_score(factors.float(), factors)
        1.0
    """
    z, v = _checked(codes, factors, least=2)
    votes = whole("votes", votes, 2)
    spread = z.var(0)
    alive = spread > 1e-10
    if not alive.any():
        raise GenrobustError("no latent varies, so that none can vote; give codes that vary")
    z = z[:, alive] / np.sqrt(spread[alive])
    draws = np.random.default_rng(_key("factor score", whole_seed(seed)))
    table = np.zeros((2, z.shape[1], v.shape[1]))
    for vote in range(votes):
        factor = draws.integers(v.shape[1])
        rows = _rows_of(v[:, factor], draws.choice(v[:, factor]), 64, draws)
        table[vote % 2, z[rows].var(0).argmin(), factor] += 1
    majority = table[0].argmax(1)
    return float(table[1][np.arange(len(majority)), majority].sum() / table[1].sum())


def beta_score(codes: Tensor, factors: Tensor, pairs: int = 800, seed: int = 0) -> float:
    """The beta-VAE score (Higgins et al. 2017): whether the mean change of codes tells the factor.

    Each point is the mean absolute difference of 64 pairs of rows that share one factor's value; a
    logistic regression learns the factor on the first half of the points, and its accuracy on the
    second is the score.

    Args:
        codes: (N, n).
        factors: (N, f), whole numbers, at least two factors.
        pairs: how many points, half to learn and half to score.
        seed: of the draws.

    Returns:
        In [0, 1]: the share of pairs whose shared factor is told.

    Raises:
        GenrobustError: shapes or numbers that cannot be; fewer than two factors.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(4)).repeat(20, 1)
        >>> beta_score(factors.float(), factors)
        1.0
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    z, v = _checked(codes, factors, least=2)
    pairs = whole("pairs", pairs, 4 * v.shape[1])
    z = z / np.maximum(z.std(0), 1e-12)
    draws = np.random.default_rng(_key("beta score", whole_seed(seed)))
    points, held = np.zeros((pairs, z.shape[1])), np.arange(pairs) % v.shape[1]
    for factor, column in enumerate(v.T):
        of_it = held == factor
        first = draws.integers(len(v), size=(of_it.sum(), 64))
        second = np.empty_like(first)
        for value in np.unique(column):
            alike = column[first] == value
            second[alike] = _rows_of(column, value, int(alike.sum()), draws)
        points[of_it] = np.abs(z[first] - z[second]).mean(1)
    half = pairs // 2
    model = _fitted(LogisticRegression(max_iter=1000), points[:half], held[:half])
    return float(model.score(points[half:], held[half:]))


def active_latents(kl: Tensor, threshold: float = 0.01) -> int:
    """How many latents are used: those whose KL to the prior, the mean over images, is above.

    The active units of Burda et al. 2016, who go by the variance of the mean.

    Args:
        kl: (N, n) in nats, as :meth:`genrobust.posterior.Posterior.kl_to_prior` gives it.
        threshold: in nats.

    Returns:
        Their number.

    Raises:
        GenrobustError: kl is no matrix of numbers, or holds NaN.

    Example:
        >>> active_latents(torch.tensor([[1.0, 0.0], [2.0, 0.001]]))
        1
    """
    found = floats("kl", kl)
    if found.ndim != 2 or not len(found):
        raise GenrobustError(f"kl is {tuple(found.shape)}; give (N, latents) of at least one image")
    if found.isnan().any():
        raise GenrobustError("kl holds NaN, which is no KL; give that of a sound model")
    return int((found.mean(0) > real("threshold", threshold)).sum())


@dataclass(frozen=True)
class Disentanglement:
    """The scores of one model's codes, each in [0, 1]; a count of its active latents.

    Named as the functions of this module (Locatello et al. 2019 compare them); the three of
    :func:`dci` apart.

    Example:
        >>> from dataclasses import asdict
        >>> scores = Disentanglement(0.1, 0.1, 0.2, 0.2, 0.9, 0.6, 0.8, 0.7, 10)
        >>> asdict(scores)["mig"]
        0.1
    """

    mig: float
    sap: float
    disentanglement: float
    completeness: float
    informativeness: float
    factor_score: float
    beta_score: float
    modularity: float
    active_latents: int


@torch.no_grad()
def disentanglement_of(
    model: GenerativeModel, images: Images, *, seed: int = 0, batch_size: int = 200
) -> Disentanglement:
    """All scores of this module (Locatello et al. 2019) for a trained model.

    A code is the posterior's means, shape (N, n), and the choice of each categorical, which has no
    mean, as one number.

    Args:
        model: any that :func:`genrobust.load_model` or :func:`genrobust.wrap` gives.
        images: of known factors, such as ``genrobust.load_images("sprites")``.
        seed: of shuffles, readers and draws.
        batch_size: how many images are encoded at once.

    Returns:
        The scores of the model's codes.

    Raises:
        GenrobustError: the images' factors are not known, or one has a single value among them;
            images of another shape; a model without latents.

    Example:
        >>> import genrobust
        >>> class Oracle(torch.nn.Module):
        ...     input_shape = (1, 1, 2)
        ...     def encode(self, x): return x.flatten(1)
        ...     def decode(self, z): return z.view(-1, 1, 1, 2)
        >>> factors = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(50, 1)
        >>> images = Images(factors.float().view(-1, 1, 1, 2), None, (1, 2), factors)
        >>> found = disentanglement_of(genrobust.wrap(Oracle()), images)
        >>> round(found.mig, 3), found.factor_score, found.beta_score
        (1.0, 1.0, 1.0)
    """
    require_model(model)
    if not isinstance(images, Images):
        raise GenrobustError(
            f"images are a {type(images).__name__}; give genrobust.load_images('sprites'), or "
            "genrobust.data.Images(raw, labels, size, factors)"
        )
    if images.factors is None:
        raise GenrobustError(
            "these images have no known factors; give those of a data set that has, such as "
            "'sprites', or Images(raw, labels, size, factors)"
        )
    if images.shape != model.input_shape:
        raise GenrobustError(
            f"the images are {images.shape} and '{model.name}' takes {model.input_shape}; give "
            "those that it was trained on"
        )
    seed = whole_seed(seed)  # before the model has worked
    batches = torch.arange(len(images)).split(whole("batch_size", batch_size, 1))
    posteriors = [model.encode(images.take(ids).to(model.device)) for ids in batches]
    codes = torch.cat([_codes(posterior) for posterior in posteriors]).cpu()
    kl = torch.cat([posterior.kl_to_prior() for posterior in posteriors])
    factors = images.factors
    return Disentanglement(
        mig(codes, factors),
        sap(codes, factors, seed),
        *dci(codes, factors, seed),
        factor_score=factor_score(codes, factors, seed=seed),
        beta_score=beta_score(codes, factors, seed=seed),
        modularity=modularity(codes, factors),
        active_latents=active_latents(kl),
    )


def _codes(posterior: Posterior) -> Tensor:
    means = [part.means() for part in posterior.parts]
    parts = zip(posterior.parts, means, strict=True)
    return torch.cat([m if m.shape[1] else p.tokens().float() for p, m in parts], 1)


def _checked(codes: Tensor, factors: Tensor, least: int = 1) -> tuple[Matrix, NDArray[np.int64]]:
    """Both as arrays, the codes in a unit of their own; of ``least`` factors or more."""
    z, v = floats("codes", codes), classes("factors", factors)
    if z.ndim != 2 or v.ndim != 2 or len(z) != len(v) or not z.numel() or not v.numel():
        raise GenrobustError(
            f"codes are {tuple(z.shape)} and factors {tuple(v.shape)}; give (N, latents) and "
            "(N, factors) of the same images"
        )
    if not z.isfinite().all():
        raise GenrobustError("codes hold numbers that are not finite; give those of a sound model")
    fixed = [i for i in range(v.shape[1]) if v[:, i].unique().numel() < 2]
    if fixed:
        raise GenrobustError(
            f"factor {fixed[0]} has one value in these images; leave its column out, or give more"
        )
    if v.shape[1] < least:
        raise GenrobustError("factors has one column, and the score needs two; give more factors")
    return _in_own_unit(z.detach().cpu().double().numpy()), v.cpu().numpy()


def _in_own_unit(z: Matrix) -> Matrix:
    """Codes of which the widest latent is from 4 to 8 wide, as in a trained VAE.

    Readers have limits of their own: trees tell nothing apart below 1e-7, and read in float32. By
    a power of two nothing is rounded. What rounding alone may have left is not spread out.
    """
    widest = float(np.ptp(z, 0).max())
    if not STILL * float(np.abs(z).max()) < widest < np.inf:
        return z
    found: Matrix = np.ldexp(z, 3 - math.frexp(widest)[1])
    return found


def _information(z: Matrix, v: NDArray[np.int64], bins: int) -> Matrix:
    """Mutual information in nats of each latent, in bins, with each factor, (n, f)."""
    from sklearn.metrics import mutual_info_score  # slow to import

    bins = whole("bins", bins, 2)
    cut = [np.digitize(column, np.histogram_bin_edges(column, bins)[1:-1]) for column in z.T]
    return np.array([[mutual_info_score(c, f) for f in v.T] for c in cut])


def _entropies(v: NDArray[np.int64]) -> Matrix:
    from sklearn.metrics import mutual_info_score  # slow to import

    return np.array([mutual_info_score(factor, factor) for factor in v.T])


def _purity(importance: Matrix) -> float:
    """How far rows lie in one column: 1 - entropy in its most, weighted by the rows' sums."""
    if importance.shape[1] == 1:
        return 1.0
    rows = importance.sum(1)
    if not rows.sum():
        return 0.0
    share = importance / np.maximum(rows, 1e-300)[:, None]
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum(1) / np.log(share.shape[1])
    return float(((1 - entropy) * rows).sum() / rows.sum())


def _halves(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if count < 4:
        raise GenrobustError(f"{count} images cannot be halved to learn and to score; give more")
    order = torch.randperm(count, generator=generator("disentanglement", seed)).numpy()
    return order[: count // 2], order[count // 2 :]


def _fitted(model: Any, z: Matrix, v: NDArray[np.int64]) -> Any:
    if len(np.unique(v)) < 2:
        raise GenrobustError(
            "one half of the images shows a factor at one value alone; give more images"
        )
    return model.fit(z, v)


def _rows_of(
    factor: NDArray[np.int64], value: int, count: int, draws: np.random.Generator
) -> NDArray[np.int64]:
    return draws.choice(np.flatnonzero(factor == value), count)


def _key(what: str, seed: int) -> int:
    return int(torch.randint(2**31, (), generator=generator(what, seed)))

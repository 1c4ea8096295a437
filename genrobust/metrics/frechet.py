"""The Fréchet distance between sets of images, in a named feature space (Heusel et al. 2017)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from genrobust.arguments import floats, whole
from genrobust.errors import GenrobustError
from genrobust.judges.judge import Judge
from genrobust.metrics.checks import pictures
from genrobust.models.weights import read_state_dict


@dataclass(frozen=True, eq=False)
class Features:
    """What describes an image.

    Args:
        name: which features these are: distances compare only under one name.
        extract: images (B, C, H, W) in [0, 1] to features (B, d).

    Example:
        >>> Features("mean", lambda images: images.mean((2, 3))).extract(torch.ones(2, 3, 8, 8))
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """

    name: str
    extract: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FID:
    """A Fréchet distance with what it depends on.

    It is biased upwards on few images, more so the more features there are: compare only values
    with equal counts and equal features.

    Example:
        >>> print(FID(12.34, 500, 500, "digits/lenet"))
        12.3 (n=500 and 500, features digits/lenet)
    """

    value: float
    n_real: int
    n_generated: int
    features: str

    def __str__(self) -> str:
        counts = f"n={self.n_real} and {self.n_generated}"
        return f"{self.value:.3g} ({counts}, features {self.features})"


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    r"""The squared Fréchet (2-Wasserstein) distance of two Gaussians.

    .. math:: \|m_a - m_b\|^2 + \mathrm{tr}(S_a) + \mathrm{tr}(S_b)
              - 2\, \mathrm{tr}\bigl((S_a^{1/2} S_b S_a^{1/2})^{1/2}\bigr)

    Both square roots are of symmetric matrices and taken by eigenvalues, so that singular
    covariances, as of fewer images than features, need no correction.

    Args:
        mean_a: (d,).
        cov_a: (d, d), symmetric and positive semi-definite.
        mean_b: (d,).
        cov_b: (d, d), likewise.

    Returns:
        A number from 0; computed in float64.

    Raises:
        GenrobustError: the shapes do not fit, or a number is not finite.

    Example:
        >>> one = torch.eye(2)
        >>> round(frechet_distance(torch.zeros(2), one, torch.ones(2), 4 * one), 6)
        4.0
    """
    d = len(mean_a)
    shapes = [tuple(t.shape) for t in (mean_a, cov_a, mean_b, cov_b)]
    if shapes != [(d,), (d, d), (d,), (d, d)]:
        raise GenrobustError(
            f"means and covariances are {shapes}; give (d,), (d, d), (d,) and (d, d)"
        )
    mean_a, cov_a, mean_b, cov_b = (t.double() for t in (mean_a, cov_a, mean_b, cov_b))
    if not all(t.isfinite().all() for t in (mean_a, cov_a, mean_b, cov_b)):
        raise GenrobustError(
            "means or covariances hold NaN or infinite numbers; give those of finite features"
        )
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    product = root @ cov_b @ root
    overlap = torch.linalg.eigvalsh((product + product.mT) / 2).clamp_min(0).sqrt().sum()
    spread = cov_a.trace() + cov_b.trace() - 2 * overlap
    return max(0.0, float((mean_a - mean_b).square().sum() + spread))


def feature_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and unbiased covariance (d, d) of features (n, d), in float64.

    Raises:
        GenrobustError: the features are not (n, d) with n at least 2.

    Example:
        >>> feature_statistics(torch.tensor([[0.0], [2.0]]))
        (tensor([1.], dtype=torch.float64), tensor([[2.]], dtype=torch.float64))
    """
    if features.ndim != 2 or len(features) < 2:
        raise GenrobustError(f"features are {tuple(features.shape)}; give (n, d) with n at least 2")
    data = features.double()
    mean = data.mean(0)
    centred = data - mean
    return mean, centred.mT @ centred / (len(data) - 1)


@torch.no_grad()
def fid(real: Tensor, generated: Tensor, features: Features, batch_size: int = 64) -> FID:
    """The Fréchet distance between two sets of images.

    Args:
        real: images, (N, C, H, W) in [0, 1].
        generated: images, (M, C, H, W) in [0, 1], such as samples or reconstructions.
        features: from :func:`inception_features`, :func:`judge_features`, or your own.
        batch_size: images passed through the features at once.

    Returns:
        The distance with the counts and the features' name.

    Raises:
        GenrobustError: fewer than two images of a kind, pixels outside [0, 1], a batch size below
            1, or features that are not (B, d) or not finite.

    Example:
        >>> pixels = Features("pixels", lambda images: images.flatten(1))
        >>> images = torch.rand(32, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> print(fid(images / 2, images / 2 + 0.5, pixels))
        1 (n=32 and 32, features pixels)
    """
    if whole("batch_size", batch_size) < 1:
        raise GenrobustError(f"batch_size is {batch_size}; it must be at least 1")
    statistics: list[Tensor] = []
    if not isinstance(features, Features):
        raise GenrobustError(
            f"features is a {type(features).__name__}; give Features(name, extract), or what "
            "judge_features or inception_features gives"
        )
    real, generated = pictures("real", real).float(), pictures("generated", generated).float()
    for images in (real, generated):
        found = torch.cat([_extracted(features, part) for part in images.split(batch_size)])
        statistics += feature_statistics(found)
    value = frechet_distance(*statistics)
    return FID(value, len(real), len(generated), features.name)


def _extracted(features: Features, images: Tensor) -> Tensor:
    found = floats(f"what the features '{features.name}' give", features.extract(images))
    if found.ndim != 2 or len(found) != len(images):
        raise GenrobustError(
            f"the features '{features.name}' give {tuple(found.shape)} for {len(images)} images; "
            "let extract give (B, d)"
        )
    if not found.isfinite().all():
        raise GenrobustError(
            f"the features '{features.name}' hold NaN or infinite numbers; repair extract, and no "
            "distance can be told"
        )
    return found.double().cpu()


def judge_features(judge: Judge) -> Features:
    """What enters a judge's last layer: small features that know the dataset.

    Args:
        judge: a judge whose module is an ``nn.Sequential`` that ends in a linear layer, as those
            that ship with genrobust.

    Returns:
        The features, named after the judge and its weights.

    Raises:
        GenrobustError: it is built otherwise.

    Example:
        >>> import genrobust
        >>> features = judge_features(genrobust.load_judge("digits", "lenet"))
        >>> features.extract(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 128])
    """
    module = judge.module
    if not isinstance(module, nn.Sequential) or not isinstance(module[-1], nn.Linear):
        raise GenrobustError(
            f"the judge '{judge.name}' is a {type(module).__name__}, of which the last layer is "
            "not known; give Features(name, extract) with a function of your own"
        )
    body = nn.Sequential(*list(module)[:-1])
    return Features(f"{judge.name}@{judge.sha256[:12]}", lambda images: body(images).flatten(1))


def inception_features(weights: str | Path, device: torch.device | str = "cpu") -> Features:
    """The 2048 pooled features of pytorch-fid's Inception, the ones FIDs are published with.

    Images of one channel are repeated to three; all are resized to 299x299. Nothing is downloaded
    and nothing in the file is executed.

    Args:
        weights: the file ``pt_inception-2015-12-05-6726825d.pth`` from pytorch-fid's releases.
        device: where to compute.

    Returns:
        The features, named with the beginning of the file's sha256.

    Raises:
        GenrobustError: the file is missing, damaged, or of another network.

    Example:
        >>> inception_features("missing.pth")
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: there is no weights file 'missing.pth'; check the path
    """
    path = Path(weights)
    state = read_state_dict(path)
    network = _inception(state, path).eval().to(device)

    def extract(images: Tensor) -> Tensor:
        colour = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        pooled: Tensor = network(colour.float().to(device))[0]
        return pooled.flatten(1)

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Features(f"inception@{digest[:12]}", extract)


def _inception(state: dict[str, Tensor], path: Path) -> nn.Module:
    from genrobust.data.torchvision_datasets import torchvision_datasets

    torchvision_datasets()  # makes torchvision importable, which pytorch-fid imports
    from pytorch_fid import inception

    # pytorch-fid knows only how to download its weights: give it the file's where it would.
    download = inception.load_state_dict_from_url
    inception.load_state_dict_from_url = lambda *_, **__: state
    try:
        network: nn.Module = inception.InceptionV3()
    except RuntimeError as problem:
        raise GenrobustError(
            f"'{path}' does not hold the weights of pytorch-fid's Inception; take "
            "pt_inception-2015-12-05-6726825d.pth from its releases"
        ) from problem
    finally:
        inception.load_state_dict_from_url = download
    return network

"""Distances against NumPy; SSIM and MS-SSIM against a direct float64 computation."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from genrobust import GenrobustError, metrics

Array = NDArray[np.float64]
WANG = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def images(seed: int, *shape: int) -> Tensor:
    """Random images with structure at several scales, in [0, 1], float64."""
    noise = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    coarse = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    return (noise + 3 * coarse) / 4


@given(st.integers(0, 1000), st.integers(1, 3))
def test_norms_are_numpys(seed: int, channels: int) -> None:
    x, y = images(seed, 2, channels, 3, 4), images(seed + 1, 2, channels, 3, 4)
    change = (y - x).flatten(1).numpy()
    assert np.allclose(metrics.l2(x, y), np.linalg.norm(change, axis=1))
    assert np.allclose(metrics.linf(x, y), np.linalg.norm(change, np.inf, axis=1))
    assert np.allclose(metrics.rmse(x, y), np.sqrt((change**2).mean(1)))
    assert np.array_equal(metrics.l0(x, y, 0.1), (np.abs(change) > 0.1).sum(1))


def test_what_an_8_bit_image_cannot_hold_is_no_change() -> None:
    x = torch.zeros(1, 1, 1, 3)
    y = torch.tensor([0.4, 0.6, 5.0]).view(1, 1, 1, 3) / 255
    assert metrics.l0(x, y).tolist() == [2]
    assert metrics.l0(x, y, tolerance=0).tolist() == [3]
    with pytest.raises(GenrobustError, match=r"x is \(1, 1, 1, 3\), x_adv is \(1, 1, 1, 2\)"):
        metrics.l0(x, y[..., :2])


def direct_terms(x: Array, y: Array, window: int, sigma: float) -> tuple[Array, Array]:
    """Luminance and contrast-structure maps of one channel, by a two-dimensional correlation."""
    axis = np.arange(window) - window // 2
    kernel = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    cut = slice(window // 2, -(window // 2))

    def mean(values: Array) -> Array:
        return ndimage.correlate(values, kernel, mode="constant")[cut, cut]

    mx, my = mean(x), mean(y)
    vx, vy, c = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    luminance = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
    return luminance, (2 * c + 0.03**2) / (vx + vy + 0.03**2)


def direct_ms_ssim(x: Array, y: Array, scales: int) -> float:
    score = 1.0
    for s, weight in enumerate(WANG[:scales] / WANG[:scales].sum()):
        luminance, contrast = direct_terms(x, y, 7, 1.5)
        term = contrast if s < scales - 1 else luminance * contrast
        score *= max(term.mean(), 0.0) ** weight
        h, w = x.shape[0] // 2, x.shape[1] // 2
        x, y = (v[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean((1, 3)) for v in (x, y))
    return score


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (7, 1.5), (5, 0.8)])
def test_ssim_is_that_of_a_direct_computation(window: int, sigma: float) -> None:
    x, y = images(0, 2, 3, 20, 24), images(1, 2, 3, 20, 24)
    found = metrics.ssim(x, y, window, sigma)
    for b in range(2):
        maps = [direct_terms(x[b, c].numpy(), y[b, c].numpy(), window, sigma) for c in range(3)]
        expected = np.mean([(luminance * contrast).mean() for luminance, contrast in maps])
        assert float(found[b]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("side", "scales"), [(7, 1), (13, 1), (14, 2), (28, 3), (32, 3), (55, 3), (56, 4), (64, 4)]
)
def test_ms_ssim_small_is_that_of_a_direct_computation(side: int, scales: int) -> None:
    x = images(2, 2, 2, side, side + 3)
    y = (0.7 * x + 0.3 * images(3, *x.shape)).clamp(0, 1)
    found = metrics.ms_ssim_small(x, y)
    for b in range(2):
        each = [direct_ms_ssim(x[b, c].numpy(), y[b, c].numpy(), scales) for c in range(2)]
        assert float(found[b]) == pytest.approx(np.mean(each), abs=1e-12)
        assert 0 < found[b] < 1


@given(st.integers(0, 1000))
def test_similarity_is_one_only_to_itself_and_symmetric(seed: int) -> None:
    x, y = images(seed, 1, 1, 28, 28), images(seed + 1, 1, 1, 28, 28)
    for metric in (metrics.ssim, metrics.ms_ssim_small):
        assert float(metric(x, x)) == pytest.approx(1, abs=1e-12)
        assert torch.allclose(metric(x, y), metric(y, x))
        assert float(metric(x, y)) < 1


def test_similarity_falls_with_noise() -> None:
    x = images(4, 4, 1, 32, 32)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    for metric in (metrics.ssim, metrics.ms_ssim_small):
        scores = torch.stack(
            [metric(x, (x + s * noise).clamp(0, 1)) for s in (0.0, 0.02, 0.05, 0.1, 0.3)]
        )
        assert bool((scores.diff(dim=0) < 0).all())


def test_float32_is_good_to_five_digits() -> None:
    x, y = images(5, 2, 1, 32, 32), images(6, 2, 1, 32, 32)
    for metric in (metrics.ssim, metrics.ms_ssim_small):
        assert torch.allclose(metric(x.float(), y.float()).double(), metric(x, y), atol=1e-5)


@pytest.mark.parametrize("metric", [metrics.ssim, metrics.ms_ssim_small])
@pytest.mark.parametrize("other", ["bytes", "from -1", "NaN"])
def test_pixels_on_another_scale_are_no_pictures(
    metric: Callable[[Tensor, Tensor], Tensor], other: str
) -> None:
    """The constants of SSIM are of [0, 1]: on bytes as floats it is another number."""
    x = images(0, 1, 1, 32, 32)
    y = {"bytes": 255 * x, "from -1": 2 * x - 1, "NaN": x / 0}[other]
    with pytest.raises(GenrobustError, match=r"^y has .*\[0, 1\]"):
        metric(x, y)
    assert float(metric(x, x + 0.4 / 255)) > 0.99


def test_a_pixel_that_is_no_number_is_a_changed_one() -> None:
    assert metrics.l0(torch.zeros(1, 4), torch.tensor([[torch.nan, 0.0, 1.0, 0.0]])).tolist() == [2]


def test_images_that_cannot_be_compared_are_refused() -> None:
    small = torch.zeros(1, 1, 6, 6)
    with pytest.raises(GenrobustError, match="smaller than the 7x7 window"):
        metrics.ms_ssim_small(small, small)
    with pytest.raises(GenrobustError, match="odd number"):
        metrics.ssim(small, small, window=4)
    with pytest.raises(GenrobustError, match=r"give \(B, C, H, W\)"):
        metrics.ssim(small[0], small[0])
    with pytest.raises(GenrobustError, match="one shape"):
        metrics.ssim(small, small[..., :5])


def test_a_similarity_that_is_trained_on_has_a_gradient_and_no_warning() -> None:
    x = torch.rand(2, 1, 16, 16, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.ssim(x, 1 - x.detach()).sum()
    (gradient,) = torch.autograd.grad(found, x)
    assert gradient.abs().max() > 0

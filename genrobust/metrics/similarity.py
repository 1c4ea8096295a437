"""How alike two images look: SSIM, and a multi-scale SSIM for small images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.arguments import whole
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import pictures, require_positive, same_shape

#: The weights of scales 1 (finest) to 5 of Wang, Simoncelli & Bovik 2003.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

#: The side of ``ms_ssim_small``'s window.
SMALL_WINDOW = 7

_C1, _C2 = 0.01**2, 0.03**2


def ssim(x: Tensor, y: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    r"""Structural similarity of images in [0, 1] (Wang, Bovik, Sheikh & Simoncelli 2004).

    .. math::
        \frac{(2\mu_x\mu_y + C_1)(2\sigma_{xy} + C_2)}
             {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)},
        \quad C_1 = 0.01^2,\ C_2 = 0.03^2

    with means, variances and covariance under a Gaussian window, averaged over the positions at
    which the window lies inside the image, and over channels.

    Args:
        x: images, (B, C, H, W) in [0, 1].
        y: images of the same shape; the measure is symmetric.
        window: the window's side in pixels, odd.
        sigma: the Gaussian's standard deviation in pixels.

    Returns:
        (B,) in [-1, 1]: 1 for equal images.

    Raises:
        GenrobustError: shapes differ or are not (B, C, H, W), a pixel is not in [0, 1], or the
            image is smaller than the window.

    Example:
        >>> x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> float(ssim(x, x)), bool(ssim(x, 1 - x) < 0)
        (1.0, True)
    """
    x, y = _pictures(x, y, whole("window", window))
    luminance, contrast = _terms(x, y, _gaussian(window, sigma, x))
    return (luminance * contrast).mean((1, 2, 3))


def ms_ssim_small(x: Tensor, y: Tensor) -> Tensor:
    r"""Multi-scale structural similarity for images from 7 pixels up, such as 28 to 64.

    The standard measure (Wang, Simoncelli & Bovik 2003) halves the image four times under an
    11-pixel window and so needs more than 160 pixels. This one keeps its form,

    .. math:: \mathrm{ssim}_S^{\,w_S} \prod_{s < S} \mathrm{cs}_s^{\,w_s},

    and is defined as follows. The window is a Gaussian of 7 pixels, sigma 1.5, inside the image
    only. Scale s + 1 is scale s averaged over 2x2 blocks (an odd last row or column is dropped).
    There are as many scales S, up to 5, as have a smaller side of at least 7 pixels: 3 at 28 and
    32 pixels, 4 at 64. The weights w are the first S of the published ones, divided by their sum.
    :math:`\mathrm{cs}_s` is the mean over positions of
    :math:`(2\sigma_{xy} + C_2) / (\sigma_x^2 + \sigma_y^2 + C_2)`, :math:`\mathrm{ssim}_S` that of
    SSIM at the coarsest scale; negative means are set to 0, as Kuzina, Welling & Tomczak 2022 do.
    Channels are scored apart and averaged.

    Its values compare only with its own: other windows, scales or weights give other numbers.

    Args:
        x: images, (B, C, H, W) in [0, 1], each side at least 7 pixels.
        y: images of the same shape; the measure is symmetric.

    Returns:
        (B,) in [0, 1]: 1 for equal images.

    Raises:
        GenrobustError: shapes differ or are not (B, C, H, W), a pixel is not in [0, 1], or a side
            has fewer than 7 pixels.

    Example:
        >>> x = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        >>> float(ms_ssim_small(x, x)), float(ms_ssim_small(x, 1 - x))
        (1.0, 0.0)
    """
    return multi_scale(*_pictures(x, y, SMALL_WINDOW))


def multi_scale(x: Tensor, y: Tensor) -> Tensor:
    """:func:`ms_ssim_small` of images of one shape that may leave [0, 1], as some models' do."""
    kernel = _gaussian(SMALL_WINDOW, 1.5, x)
    scales = _scales(min(x.shape[-2:]))
    weights = torch.tensor(SCALE_WEIGHTS[:scales], dtype=torch.float64)
    weights = (weights / weights.sum()).to(x)
    score = x.new_ones(x.shape[:2])
    for s in range(scales):
        luminance, contrast = _terms(x, y, kernel)
        term = contrast if s < scales - 1 else luminance * contrast
        score = score * term.mean((2, 3)).relu() ** weights[s]
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return score.mean(1)


def _scales(side: int) -> int:
    count = 1
    while count < len(SCALE_WEIGHTS) and side // 2**count >= SMALL_WINDOW:
        count += 1
    return count


def _gaussian(window: int, sigma: float, like: Tensor) -> Tensor:
    require_positive(window=window, sigma=sigma)
    if window % 2 == 0:
        raise GenrobustError(f"the window is {window} pixels wide; give an odd number, such as 11")
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    weights = (-(offsets**2) / (2 * sigma**2)).exp()
    return (weights / weights.sum()).to(like)


def _terms(x: Tensor, y: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of SSIM's luminance term and of its contrast-structure term, (B, C, h, w)."""
    smooth = _smooth(torch.cat([x, y, x * x, y * y, x * y], 1), kernel)
    mean_x, mean_y, xx, yy, xy = smooth.chunk(5, 1)
    variances = xx - mean_x**2 + yy - mean_y**2
    covariance = xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _smooth(images: Tensor, kernel: Tensor) -> Tensor:
    """A separable filter over rows and columns, each channel by itself, without padding."""
    C = images.shape[1]
    down = F.conv2d(images, kernel.view(1, 1, -1, 1).expand(C, 1, -1, 1), groups=C)
    return F.conv2d(down, kernel.view(1, 1, 1, -1).expand(C, 1, 1, -1), groups=C)


def _pictures(x: Tensor, y: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Both in one precision."""
    x, y = same_shape(pictures, x=x, y=y)
    precision = torch.promote_types(x.dtype, y.dtype)
    if min(x.shape[-2:]) < window:
        raise GenrobustError(
            f"the images are {x.shape[-2]}x{x.shape[-1]}, smaller than the {window}x{window} "
            "window; give larger images, or to ssim a smaller window"
        )
    return x.to(precision), y.to(precision)

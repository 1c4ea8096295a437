"""The encoder's geometry at an image: which small changes move the latents most.

Khan & Storkey 2023 pull the latent space's metric back to the image through the encoder; the
directions in which it is largest are those an attacker would take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genrobust.arguments import floats
from genrobust.errors import GenrobustError
from genrobust.metrics.latent import gaussian_moments
from genrobust.models.inputs import inputs
from genrobust.models.model import GenerativeModel
from genrobust.modes import plain_modes


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The metric's non-zero part at each image.

    Args:
        eigenvalues: (B, k) from largest to smallest, from 0.
        directions: their unit eigenvectors in image space, (B, k, C, H, W), orthogonal to each
            other; all zero where the eigenvalue is 0.
    """

    eigenvalues: Tensor
    directions: Tensor


@plain_modes()
def encoder_jacobian(
    model: GenerativeModel, x: Tensor, of: Literal["mean", "std"] = "mean"
) -> Tensor:
    r"""The Jacobian of the encoder at each image, :math:`J_{jp} = \partial h_j / \partial x_p`.

    It takes one backward pass a latent over the whole batch, which asks nothing of the encoder
    but that its samples do not depend on each other.

    Args:
        model: the model.
        x: images, (B, C, H, W).
        of: ``"mean"``: means (centred logits of a categorical part, values of a plain autoencoder);
            ``"std"``: the standard deviations of the Gaussian parts.

    Returns:
        (B, n, C * H * W) for n latents.

    Raises:
        GenrobustError: ``of`` is neither, or the standard deviations of a model without Gaussian
            parts are asked for.

    Example:
        >>> import genrobust
        >>> class Double(torch.nn.Module):
        ...     input_shape = (1, 1, 2)
        ...     def encode(self, x): return 2 * x.flatten(1)
        ...     def decode(self, z): return z.view(-1, 1, 1, 2)
        >>> encoder_jacobian(genrobust.wrap(Double()), torch.zeros(1, 1, 1, 2))
        tensor([[[2., 0.],
                 [0., 2.]]])
    """
    if of not in ("mean", "std"):
        raise GenrobustError(f"the Jacobian is that of 'mean' or of 'std', not of '{of}'")
    x = inputs("x", x, model)
    x = x.detach().requires_grad_()
    posterior = model.encode(x)
    statistic = posterior.vector() if of == "mean" else gaussian_moments(posterior)[1]
    totals = statistic.sum(0)  # a sample's row is its own: the others have no gradient there
    if not totals.requires_grad:  # a constant, such as a fixed standard deviation
        return x.new_zeros(len(x), len(totals), x[0].numel())
    rows = [torch.autograd.grad(t, x, retain_graph=True, materialize_grads=True)[0] for t in totals]
    return torch.stack(rows, 1).flatten(2)


def pullback_spectrum(model: GenerativeModel, x: Tensor, with_std: bool = False) -> Spectrum:
    r"""Eigenvalues and eigenvectors of the metric that the encoder induces on images.

    .. math:: G(x) = J_\mu^\top J_\mu \;(+\; J_\sigma^\top J_\sigma), \qquad
              \|\mu(x + d) - \mu(x)\|^2 \approx d^\top G(x)\, d

    with the Jacobians of :func:`encoder_jacobian` (written transposed by Khan & Storkey 2023).
    G is as large as an image squared, but with the Jacobians stacked to J its non-zero
    eigenvalues are those of the small :math:`J J^\top`, and where that has the eigenvector v, G
    has :math:`J^\top v / \sqrt\lambda`.

    Args:
        model: the model.
        x: images, (B, C, H, W).
        with_std: add the metric of the standard deviations: the expected change of a draw.

    Returns:
        k eigenpairs a sample: k is the number of latents, twice that for Gaussian parts with
        ``with_std``, and at most the number of values in an image. Eigenvalues are in squared
        latent units a squared pixel unit.

    Raises:
        GenrobustError: ``with_std`` for a model without Gaussian parts.

    Example:
        >>> import genrobust
        >>> class Stretch(torch.nn.Module):
        ...     input_shape = (1, 1, 2)
        ...     def encode(self, x): return x.flatten(1) * torch.tensor([1.0, 3.0])
        ...     def decode(self, z): return z.view(-1, 1, 1, 2)
        >>> found = pullback_spectrum(genrobust.wrap(Stretch()), torch.zeros(1, 1, 1, 2))
        >>> found.eigenvalues, found.directions.abs().flatten(1)
        (tensor([[9., 1.]]), tensor([[0., 1., 1., 0.]]))
    """
    x = inputs("x", x, model)
    J = encoder_jacobian(model, x)
    if with_std:
        J = torch.cat([J, encoder_jacobian(model, x, "std")], 1)
    k = min(J.shape[1:])
    values, vectors = torch.linalg.eigh(J @ J.mT)  # ascending
    eigenvalues = values.flip(1)[:, :k].clamp_min(0)
    images = vectors.flip(2)[:, :, :k].mT @ J
    # What rounding alone could have left of an eigenvalue 0 has no direction.
    floor = eigenvalues[:, :1] * J.shape[1] * torch.finfo(J.dtype).eps
    real = eigenvalues > floor
    lengths = torch.where(real, eigenvalues, torch.ones_like(eigenvalues)).sqrt()
    directions = images / lengths[..., None] * real[..., None]
    return Spectrum(
        eigenvalues=torch.where(real, eigenvalues, torch.zeros_like(eigenvalues)),
        directions=directions.view(len(x), k, *x.shape[1:]),
    )


def largest_eigenvalue(spectrum: Spectrum) -> Tensor:
    r"""The spectral radius of the pulled-back metric, :math:`\lambda_{\max}`.

    A change of length :math:`\rho` moves the latent means by at most about
    :math:`\rho \sqrt{\lambda_{\max}}`. Khan & Storkey 2023 find that it falls as beta grows.

    Args:
        spectrum: from :func:`pullback_spectrum`.

    Returns:
        (B,), in squared latent units a squared pixel unit; lower is more robust.

    Example:
        >>> largest_eigenvalue(Spectrum(torch.tensor([[3.0, 1.0]]), torch.zeros(1, 2, 1, 1, 1)))
        tensor([3.])
    """
    return floats("eigenvalues", spectrum.eigenvalues)[:, 0]


def von_neumann_entropy(spectrum: Spectrum) -> Tensor:
    r"""How evenly the metric's eigenvalues are spread, as Khan & Storkey's code computes it.

    .. math:: -\sum_i s_i \log s_i, \qquad s_i = \lambda_i / \max_j \lambda_j

    The division is by the largest eigenvalue, not by their sum, so that this is not the entropy
    of a density matrix. :math:`0 \log 0` is 0.

    Args:
        spectrum: from :func:`pullback_spectrum`.

    Returns:
        (B,), in nats, from 0 (all eigenvalues are equal or 0) to (k - 1) / e for k of them.

    Example:
        >>> spectrum = Spectrum(torch.tensor([[2.0, 1.0, 0.0]]), torch.zeros(1, 3, 1, 1, 1))
        >>> von_neumann_entropy(spectrum)
        tensor([0.3466])
    """
    eigenvalues = floats("eigenvalues", spectrum.eigenvalues)
    largest = eigenvalues.amax(1, keepdim=True)
    share = eigenvalues / torch.where(largest > 0, largest, torch.ones_like(largest))
    return torch.special.entr(share).sum(1)

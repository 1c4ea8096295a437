"""Dense layers whose slope is known: orthonormal maps and sorted pairs (Barrett et al. 2022).

Anil, Lucas & Grosse 2019 have them orthonormal by Björck's iteration; here it is the one QR
decomposition whose R has a positive diagonal, which needs no number of iterations.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Orthonormal(nn.Module):
    """``x -> scale * W x + b`` with rows or columns of W orthonormal: no longer than scale * x.

    Example:
        >>> layer = Orthonormal(6, 3, 2.0)
        >>> torch.allclose(layer.map() @ layer.map().T, 4 * torch.eye(3), atol=1e-5)
        True
    """

    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=1 / math.sqrt(max(inputs, outputs)))

    def map(self) -> Tensor:
        """scale * W, (outputs, inputs)."""
        tall = self.weight if len(self.weight) >= self.weight.shape[1] else self.weight.T
        q, r = torch.linalg.qr(tall)
        q = q * r.diagonal().sign()  # which of the two signs it finds is the library's affair
        return self.scale * (q if tall is self.weight else q.T)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.map(), self.bias)


class GroupSort(nn.Module):
    """Sorts each two neighbours of (B, n), n even: a nonlinearity that keeps lengths.

    Example:
        >>> GroupSort()(torch.tensor([[3.0, 1.0, 0.0, 2.0]]))
        tensor([[1., 3., 0., 2.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, 2)).sort(2).values.flatten(1)


def slope(layers: nn.Module) -> float:
    """How many times longer a change can become: the product of the maps' largest singular values.

    Of the maps as they are computed, whose rounding leaves them orthonormal to 1e-6 or so.
    """
    norms = [
        float(torch.linalg.matrix_norm(layer.map().detach().double(), 2))
        for layer in layers.modules()
        if isinstance(layer, Orthonormal)
    ]
    return math.prod(norms) * (1 + 1e-6)

"""Linear-Gaussian problems, whose worst changes are those of bounded least squares."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import lsq_linear
from torch import Tensor, nn

import genrobust
from genrobust.batch import Batch
from genrobust.judges import Judge
from genrobust.seeding import generator

#: Samples of a problem.
COUNT = 4
#: Of the decoder, so that no reconstruction leaves the box.
SMALL = 0.2


class Plain:
    """x_hat = D E x + 1/2 on 4x4 images with three latents of variance 1; sources and targets."""

    def __init__(self, build: Callable[[Tensor, Tensor], genrobust.GenerativeModel]) -> None:
        self.E = 0.3 * torch.randn(3, 16, generator=generator("E"))
        self.D = 0.3 * torch.randn(16, 3, generator=generator("D"))
        self.model = build(self.E, self.D)
        self.x = 0.3 + 0.4 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
        self.target = torch.rand(COUNT, 1, 4, 4, generator=generator("t"))
        self.batch = Batch(self.x, tuple(range(COUNT)), target_x=self.target)

    def least(self, A: Tensor, b: Tensor, eps: float, weight: float = 0.0) -> Tensor:
        """min over d of ||A d - b_i||^2 + weight * ||d||^2 in ball and box, (COUNT,)."""
        x = self.x.flatten(1).double().numpy()
        stacked = np.concatenate([A.double().numpy(), math.sqrt(weight) * np.eye(16)])
        found = []
        for i in range(COUNT):
            bounds = (np.maximum(-x[i], -eps) - 1e-12, np.minimum(1 - x[i], eps) + 1e-12)
            wanted = np.concatenate([b[i].double().numpy(), np.zeros(16)])
            solved = lsq_linear(stacked, wanted, bounds, method="bvls", tol=1e-14)
            found.append(2 * solved.cost)
        return torch.tensor(found)

    @property
    def latent_gap(self) -> Tensor:
        return (self.target - self.x).flatten(1) @ self.E.T

    @property
    def output_gap(self) -> Tensor:
        return (self.target - 0.5).flatten(1) - self.x.flatten(1) @ (self.D @ self.E).T


def linear_judge(pixels: int, classes: int = 10) -> Judge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))
    return Judge("linear", module.eval().requires_grad_(False), "0")


def close(ours: Tensor, best: Tensor, atol: float = 1e-6) -> None:
    """Within 1% of the optimum, and never below it."""
    torch.testing.assert_close(ours.double(), best, rtol=0.01, atol=atol)
    assert (ours.double() >= best * (1 - 1e-4) - 1e-6).all()

"""Penalties on the KL to the prior: VAE, beta-VAE, capacity, JointVAE; and none, an autoencoder."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from genrobust.posterior import Categorical, Posterior
from genrobust.training.losses.base import TrainingLoss, Weight, WeightedKL


class Beta(WeightedKL):
    """beta * KL: the ELBO at beta = 1 (Kingma & Welling 2014; thesis eq. 2.5), the beta-VAE above
    it (Higgins et al. 2017; eq. 2.11). A categorical's KL is the analytic one (eq. 2.10)."""

    kind: Literal["beta"] = "beta"


class Capacity(TrainingLoss):
    """gamma * |KL - C| with C raised linearly from 0, per kind of latent.

    Burgess et al. 2018 (thesis eq. 2.13) for Gaussians alone; JointVAE (Dupont 2018; eq. 2.14)
    with a second capacity for the categoricals, capped at the most they can carry, sum log K.
    """

    kind: Literal["capacity"] = "capacity"
    gamma: Weight
    gaussian: Weight
    categorical: Weight = 0.0
    ramp_steps: Annotated[int, Field(strict=True, ge=1, le=10**9)]

    def __call__(self, posterior: Posterior, step: int) -> Tensor:
        wanted = self.capacities(posterior, step)
        kl = posterior.kl_to_prior().mean(0)
        discrete = torch.tensor([c for part in posterior.parts for c in _is_categorical(part)])
        penalty = self.gamma * (kl[~discrete].sum() - wanted["gaussian"]).abs()
        if "categorical" in wanted:
            penalty = penalty + self.gamma * (kl[discrete].sum() - wanted["categorical"]).abs()
        return penalty

    def capacities(self, posterior: Posterior, step: int) -> dict[str, float]:
        """The capacities in nats at this step."""
        share = min(1.0, step / self.ramp_steps)
        wanted = {"gaussian": share * self.gaussian}
        sizes = [p.logits.shape[1] for p in posterior.parts if isinstance(p, Categorical)]
        if sizes:
            most = sum(math.log(size) for size in sizes)
            wanted["categorical"] = min(share * self.categorical, most)
        return wanted


def _is_categorical(part: object) -> list[bool]:
    columns = part.kl_to_prior().shape[1]  # type: ignore[attr-defined]
    return [isinstance(part, Categorical)] * columns

"""DC-IGN: minibatches in which one known factor varies, and latents that may not."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from genrobust.data.base import DATASETS
from genrobust.errors import GenrobustError
from genrobust.models.networks import NetworkSpec
from genrobust.training.losses.base import Count, OfGaussians, Sampler, Step, Weight, bce


class Clamped(OfGaussians):
    """DC-IGN (Kulkarni et al. 2015): a latent for each factor, taught by what varies in a batch.

    In the batch of step t all images are alike but for the factor t modulo ``factors``. All latents
    but that factor's are clamped to the batch's mean before decoding, and drawn to that mean with
    ``invariance``, the paper's share of 1/100. The first factor has all latents that the others
    leave, as a face's identity has in the paper; each of the others has one. Batches come from all
    images that the factors allow, those of the test split among them.
    """

    kind: Literal["dc-ign"] = "dc-ign"
    factors: Count = 5
    invariance: Weight = 0.01

    def loss(self, at: Step) -> Tensor:
        mean = at.gaussian.mean
        free = self.free(at.number, mean.shape[1]).to(mean.device)
        code = torch.where(free, at.code, at.code.mean(0).detach())
        moved = (mean - mean.mean(0).detach()).square()[:, ~free].sum(1).mean()
        seen = bce(at.network.decode(code), at.x)
        return seen + self(at.posterior, at.number) + 0.5 * self.invariance * moved

    def free(self, step: int, latents: int) -> Tensor:
        """Which latents are of the factor that varies at this step, (latents,) bool."""
        owner = torch.arange(latents) + 1
        return torch.where(owner < self.factors, owner, 0) == step % self.factors

    def sampler(self, dataset: str) -> Sampler:
        """Batches of images alike but for one factor.

        Raises:
            GenrobustError: the data set cannot draw images of given factors, or has more or fewer.
        """
        found = DATASETS.get(dataset)
        sizes, render = getattr(found, "factors", {}), getattr(found, "render", None)
        if render is None or len(sizes) != self.factors:
            raise GenrobustError(
                f"dc-ign learns from batches in which one of {self.factors} factors varies, and "
                f"'{dataset}' cannot draw such; choose 'sprites', or a data set with factors and "
                "render (docs/plugins.md), and set penalty.factors to how many it has"
            )

        def sample(step: int, count: int, draws: torch.Generator) -> Tensor:
            drawn = [torch.randint(size, (count,), generator=draws) for size in sizes.values()]
            factors = torch.stack([drawn[k][:1].expand(count) for k in range(len(drawn))], 1)
            varied = step % self.factors
            factors[:, varied] = drawn[varied]
            images: Tensor = render(factors).float() / 255
            return images

        return sample

    def unfit(self, spec: NetworkSpec) -> str | None:
        if spec.gaussian < self.factors:
            return f"dc-ign needs a latent for each of {self.factors} factors; give more gaussian"
        return super().unfit(spec)

"""Inference-time HMC: codes moved from the encoder's to the model's own posterior (Kuzina 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.arguments import whole
from genrobust.defences.base import defended
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import require_positive
from genrobust.models.inputs import require_model
from genrobust.models.model import GenerativeModel
from genrobust.posterior import Gaussian, Point, Posterior


def hmc_defended(
    model: GenerativeModel,
    *,
    steps: int = 50,
    leapfrog: int = 20,
    step_size: float = 0.1,
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
    std: float = 0.3,
    draws: int = 4,
    through: bool = False,
) -> GenerativeModel:
    r"""The model that decodes a draw of :math:`p(z|x) \propto p(x|z) p(z)` (Kuzina et al. 2022).

    A Hamiltonian Monte Carlo chain starts from a draw of q(z|x) and ends with the code that is
    decoded; nothing is trained. In the first half of its steps each image's step size is moved
    towards an acceptance of 0.9, the paper's. The paper has 500 steps on MNIST.

    Args:
        model: one whose latents are all Gaussian, with a standard normal prior.
        steps: of the chain, at least 1.
        leapfrog: of each step, at least 1.
        step_size: at the start, above 0.
        likelihood: ``"bernoulli"`` of pixels, or ``"gaussian"`` with ``std``.
        std: of the Gaussian likelihood, in pixel units; above 0.
        draws: how many chains make a score.
        through: whether attacks differentiate through the chain, over as many draws: the attack
            that knows the defence, at the cost of all its steps. Else the chain is what is scored,
            and attacks follow the encoder and the decoder.

    Raises:
        GenrobustError: a number out of its range; a model with other latents, another deployment,
            or that is random already.

    Example:
        >>> import genrobust
        >>> model = hmc_defended(genrobust.load_model("vae"), steps=2, leapfrog=2, draws=2)
        >>> model.reconstruct(genrobust.load_images("digits").take([0, 1])).shape
        torch.Size([2, 1, 32, 32])
    """
    require_model(model)
    require_positive(step_size=step_size, std=std)
    for name, count in {"steps": steps, "leapfrog": leapfrog}.items():
        if whole(name, count, 20) < 1:
            raise GenrobustError(f"{name} is {count}; give 1 or more")
    if likelihood not in ("bernoulli", "gaussian"):
        raise GenrobustError(f"likelihood is {likelihood!r}; give 'bernoulli' or 'gaussian'")
    if model.deploy is not None:
        raise GenrobustError(
            f"'{model.name}' deploys something else than its decoded code; wrap it without deploy="
        )
    chain = _Chain(model, steps, leapfrog, step_size, std if likelihood == "gaussian" else None)
    what = f"HMC of {steps} x {leapfrog} from {step_size:g} under {likelihood} {std:g}"
    if through:
        return defended(model, what, draws, encoder=lambda x: Posterior((Point(chain(x)),)))
    return defended(model, what, draws, deploy=lambda x: model.decode(chain(x)))


@dataclass(frozen=True, eq=False)
class _Chain:
    model: GenerativeModel
    steps: int
    leapfrog: int
    step_size: float
    std: float | None

    def __call__(self, x: Tensor) -> Tensor:
        """The chain's last code, (B, n), with the gradient to x where gradients are on."""
        posterior = self.model.encode(x)
        if not all(isinstance(part, Gaussian) for part in posterior.parts):
            raise GenrobustError(
                f"'{self.model.name}' has other latents than Gaussian ones, and HMC moves those "
                "alone; give a model such as 'vae'"
            )
        noise = [torch.randn_like(part.mode()) for part in posterior.parts]
        code, shape = posterior.rsample(noise).flatten(1), posterior.mode().shape[1:]
        size = torch.full((len(x), 1), self.step_size, device=x.device)
        for step in range(self.steps):
            momentum = torch.randn_like(code)
            moved, end = self._move(code, momentum, size, x, shape)
            change = self._log_density(moved, x, shape) - self._log_density(code, x, shape)
            kinetic = 0.5 * (momentum.square().sum(1) - end.square().sum(1))
            accepted = (change + kinetic).detach().clamp(max=0).exp()[:, None]
            accepted = accepted.nan_to_num(0)
            code = torch.where(torch.rand_like(accepted) < accepted, moved, code)
            if step < self.steps // 2:
                size = size * torch.where(accepted > 0.9, 1.02, 0.98)
        return code.unflatten(1, shape)

    def _move(
        self, code: Tensor, momentum: Tensor, size: Tensor, x: Tensor, shape: torch.Size
    ) -> tuple[Tensor, Tensor]:
        momentum = momentum + 0.5 * size * self._slope(code, x, shape)
        for step in range(self.leapfrog):
            code = code + size * momentum
            share = 1.0 if step < self.leapfrog - 1 else 0.5
            momentum = momentum + share * size * self._slope(code, x, shape)
        return code, momentum

    def _slope(self, code: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
        followed = torch.is_grad_enabled() and (code.requires_grad or x.requires_grad)
        with torch.enable_grad():
            code = code if code.requires_grad else code.detach().requires_grad_()
            density = self._log_density(code, x, shape).sum()
            (slope,) = torch.autograd.grad(density, code, create_graph=followed)
        return slope

    def _log_density(self, code: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
        """log p(x|z) + log p(z) up to a constant, (B,)."""
        image = self.model.decode(code.unflatten(1, shape))
        if self.std is not None:
            error = 0.5 * ((image - x) / self.std).square()
        else:
            error = F.binary_cross_entropy(image.clamp(0, 1), x, reduction="none")
        return -error.flatten(1).sum(1) - 0.5 * code.square().sum(1)

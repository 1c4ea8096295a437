"""What the discriminators of VAE-GAN and InfoGAN learn to call false."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from genrobust.models.networks import NetworkSpec, initialised
from genrobust.seeding import generator
from genrobust.training.losses import Step
from genrobust.training.losses.adversarial import VAEGAN, InfoGAN


class TakenIn(nn.Module):
    """A discriminator that calls true what is the wanted batch, and everything else false."""

    def __init__(self, wanted: Tensor, logit: float) -> None:
        super().__init__()
        self.wanted, self.logit = wanted, logit

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        same = x.shape == self.wanted.shape and torch.equal(x, self.wanted)
        return x.flatten(1), torch.full((len(x),), self.logit if same else -self.logit)


def step() -> Step:
    spec = NetworkSpec(gaussian=2, layers="dense", input_shape=(1, 4, 4))
    network, x = initialised(spec, 0), torch.rand(3, 1, 4, 4, generator=generator("x"))
    posterior = network.encode(x)
    code = posterior.rsample(posterior.draw_noise(generator("code")))
    return Step(
        network=network,
        helper=None,
        x=x,
        posterior=posterior,
        code=code,
        image=network.decode(code),
        draws=generator("step"),
        number=0,
        images=3,
        temperature=0.67,
    )


@pytest.mark.parametrize(("objective", "told"), [(VAEGAN(), True), (InfoGAN(), False)])
def test_a_discriminator_pays_for_reconstructions_where_the_paper_says(
    objective: VAEGAN | InfoGAN, told: bool
) -> None:
    at = step()
    losses = []
    for logit in (8.0, -8.0):  # reconstructions taken for data, then not
        taken = replace(at, helper=TakenIn(at.image, logit), draws=generator("same"))
        losses.append(float(objective.helper_loss(taken)))
    # The other terms: at 8 it calls the data false too, at -8 the prior's images true.
    assert losses[0] == pytest.approx(8 * (1 + told), abs=0.01)
    assert losses[1] == pytest.approx(8, abs=0.01)


def test_the_discriminators_lesson_moves_no_weight_of_the_model() -> None:
    at = step()
    at = replace(at, helper=VAEGAN().helper(at.network.spec))
    VAEGAN().helper_loss(at).backward()
    assert all(weight.grad is None for weight in at.network.parameters())
    assert at.helper is not None
    assert all(weight.grad is not None for weight in at.helper.parameters())

"""What discriminators learn to call false, and what training against attacks lowers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from genrobust.models.networks import NetworkSpec, initialised
from genrobust.seeding import generator
from genrobust.training.losses import Step
from genrobust.training.losses.adversarial import VAEGAN, InfoGAN
from genrobust.training.losses.base import bce
from genrobust.training.losses.defences import RobustEncoder, RobustOutput


class TakenIn(nn.Module):
    """A discriminator that calls true what is the wanted batch, and everything else false."""

    def __init__(self, wanted: Tensor, logit: float) -> None:
        super().__init__()
        self.wanted, self.logit = wanted, logit

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        same = x.shape == self.wanted.shape and torch.equal(x, self.wanted)
        return x.flatten(1), torch.full((len(x),), self.logit if same else -self.logit)


def step(deterministic: bool = False) -> Step:
    spec = NetworkSpec(
        gaussian=2, layers="dense", input_shape=(1, 4, 4), deterministic=deterministic
    )
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


def test_the_features_that_a_reconstruction_is_led_by_say_where_what_is() -> None:
    discriminator = VAEGAN().helper(NetworkSpec(gaussian=2))
    assert discriminator is not None
    dot = torch.zeros(1, 1, 32, 32)
    dot[..., 12:16, 12:16] = 1
    moved = dot.roll(4, 2)  # by the convolutions' stride
    with torch.no_grad():
        here, there = (discriminator(x)[0].unflatten(1, (-1, 8, 8)) for x in (dot, moved))
    assert torch.allclose(here.roll(1, 2)[..., 2:-2, 2:-2], there[..., 2:-2, 2:-2])
    assert not torch.allclose(here, there, atol=1e-2)


DEFENDED = [
    RobustEncoder(),
    RobustEncoder(distance="wasserstein2"),
    RobustOutput(),
]


@pytest.mark.parametrize("objective", DEFENDED, ids=["fare", "smooth", "adversarial"])
def test_beta_weighs_the_kl_alone(objective: RobustEncoder | RobustOutput) -> None:
    at = step()
    losses = [
        objective.model_copy(update={"beta": beta}).loss(replace(at, draws=generator("same")))
        for beta in (1.0, 0.25)
    ]
    kl = at.posterior.kl_to_prior().sum(1).mean()
    torch.testing.assert_close(losses[0] - losses[1], 0.75 * kl, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("objective", DEFENDED, ids=["fare", "smooth", "adversarial"])
def test_without_weight_training_against_attacks_is_the_elbo(
    objective: RobustEncoder | RobustOutput,
) -> None:
    at = step()
    elbo = at.bce + at.posterior.kl_to_prior().sum(1).mean()
    without = objective.model_copy(update={"weight": 0.0}).loss(at)
    torch.testing.assert_close(without, elbo)


@pytest.mark.parametrize("objective", DEFENDED, ids=["fare", "smooth", "adversarial"])
def test_the_larger_the_ball_the_more_is_lost(objective: RobustEncoder | RobustOutput) -> None:
    # The attack sees the code's mode: where codes are points, no draw hides what it does.
    at = step(deterministic=isinstance(objective, RobustOutput))
    still, moved = (
        objective.model_copy(update={"eps": eps}).loss(replace(at, draws=generator("same")))
        for eps in (1e-30, 0.2)
    )
    assert moved > still


def test_the_attacked_reconstruction_is_compared_with_the_clean_image() -> None:
    at = step()
    still = RobustOutput(weight=1.0, eps=1e-30)  # the worst point is the image itself
    loss = still.loss(replace(at, draws=generator("same")))
    draws = generator("same")
    torch.rand(at.x.shape, generator=draws)  # the attack's start
    again = at.network.decode(at.posterior.rsample(at.posterior.draw_noise(draws)))
    kl = at.posterior.kl_to_prior().sum(1).mean()
    torch.testing.assert_close(loss, bce(again, at.x) + kl)

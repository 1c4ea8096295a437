"""What networks beside the model learn, and what losses lower: terms, weights and signs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from genrobust.models.networks import NetworkSpec, initialised
from genrobust.posterior import Gaussian, Posterior
from genrobust.seeding import generator
from genrobust.training.losses import Step
from genrobust.training.losses.adversarial import VAEGAN, InfoGAN, from_prior
from genrobust.training.losses.base import bce
from genrobust.training.losses.correlation import (
    Factor,
    Predictability,
    TotalCorrelation,
    decomposed_kl,
)
from genrobust.training.losses.defences import (
    Mixup,
    RobustEncoder,
    RobustOutput,
    SelfConsistent,
    coupled_kl,
)


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


def elbo_loss(at: Step) -> Tensor:
    return at.bce + at.posterior.kl_to_prior().sum(1).mean()


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_total_correlation_alone_is_weighed(beta: float) -> None:
    at = step()
    information, correlation, each = decomposed_kl(
        at.code, at.gaussian.mean, at.gaussian.logvar, at.images
    )
    expected = at.bce + information + beta * correlation + each
    torch.testing.assert_close(TotalCorrelation(beta=beta).loss(at), expected)


def told(joint: float, product: float) -> nn.Module:
    """Of any code, the logits of being one and of being shuffled."""
    layer = nn.Linear(2, 2)
    nn.init.zeros_(layer.weight)
    layer.bias.data = torch.tensor([joint, product])
    return layer


def test_a_model_pays_for_codes_that_are_told_from_shuffled_ones() -> None:
    at = replace(step(), helper=told(2.0, 0.5))
    torch.testing.assert_close(Factor(gamma=3.0).loss(at), elbo_loss(at) + 3 * 1.5)


def test_the_discriminator_of_codes_learns_to_call_them_the_first_kind() -> None:
    at = step()
    at = replace(at, code=torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))

    class Equal(nn.Module):
        """Sure of the first kind where both latents are the same."""

        def forward(self, code: Tensor) -> Tensor:
            same = (code[:, 0] == code[:, 1]).float()
            self.share = float(same[3:].mean())
            self.columns = code[3:].sort(0).values
            return 9 * torch.stack([same, 1 - same], 1)

    for seed in range(20):
        equal = Equal()
        loss = Factor().helper_loss(replace(at, helper=equal, draws=generator("shuffle", seed)))
        assert torch.equal(equal.columns, at.code), "each latent keeps its values"
        assert float(loss) == pytest.approx(9 * equal.share / 2, abs=1e-3)


def test_latents_pay_for_the_share_that_others_explain() -> None:
    at = step()
    mean = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    at = replace(at, posterior=Posterior((Gaussian(mean, torch.zeros(3, 2)),)))

    def guess(weight: list[float]) -> nn.Linear:
        layer = nn.Linear(2, 1)
        layer.weight.data, layer.bias.data = torch.tensor([weight]), torch.zeros(1)
        return layer

    # The first is half of the second; twice the second is a guess of the second by itself.
    helper = nn.ModuleList([guess([0.0, 0.5]), guess([0.0, 1.0])])
    at = replace(at, helper=helper)
    unexplained = float(mean[:, 1].square().mean() / mean[:, 1].var(correction=0))
    expected = elbo_loss(at) + 5 * (1 + (1 - unexplained))
    torch.testing.assert_close(Predictability(gamma=5.0).loss(at), expected, rtol=1e-5, atol=1e-4)
    assert Predictability().helper_loss(at).item() == pytest.approx(unexplained, rel=1e-4)


def test_a_code_is_to_be_read_again_from_its_own_image_which_is_held() -> None:
    at, objective = step(), SelfConsistent(rho=0.5)
    again = at.network.encode(at.image).parts[0]
    expected = elbo_loss(at) + coupled_kl(*again.tensors(), at.code, 0.5)
    torch.testing.assert_close(objective.loss(at), expected)
    (led,) = torch.autograd.grad(objective.loss(at) - elbo_loss(at), at.image)
    assert not led.any()


def test_mixed_images_and_mixed_codes_belong_together() -> None:
    at = step()
    draws = generator("mixup")
    share = (torch.rand(3, generator=draws) * torch.pi / 2).sin().square()
    other = torch.randperm(3, generator=draws)
    assert not torch.equal(other, torch.arange(3))

    def mixed(values: Tensor) -> Tensor:
        return torch.stack(
            [s * one + (1 - s) * values[j] for s, one, j in zip(share, values, other, strict=True)]
        )

    x, code = mixed(at.x), mixed(at.gaussian.mean)
    posterior = at.network.encode(x)
    extra = posterior.kl_to_prior().sum(1).mean()
    extra = extra + (at.network.decode(code) - x).square().sum() / 3
    extra = extra + (posterior.vector() - code).square().sum() / 3
    found = Mixup(weight=2.0).loss(replace(at, draws=generator("mixup")))
    torch.testing.assert_close(found, elbo_loss(at) + 2 * extra)


def test_a_vae_gan_is_led_by_features_and_by_passing_for_data() -> None:
    at = step()
    at = replace(at, helper=TakenIn(at.x, 8.0))  # all that is made is called false
    kl = at.posterior.kl_to_prior().sum(1).mean()
    similar = 0.5 * (at.image - at.x).square().flatten(1).sum(1).mean()
    for gan, pixels in ((1.0, 0.0), (0.25, 2.0)):
        found = VAEGAN(gan=gan, pixels=pixels).loss(replace(at, draws=generator("same")))
        expected = kl + similar + gan * 2 * 8 + pixels * at.bce
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3, check_dtype=False)


def test_an_infogans_encoder_reads_the_code_that_was_drawn() -> None:
    at = step()
    code = from_prior(at.network.spec, 3, generator("same"))
    made = at.network.decode(code)
    mean, logvar = at.network.encode(made).parts[0].tensors()
    error = 0.5 * (logvar + (mean - code).square() / logvar.exp()).sum() / 3
    found = InfoGAN(information=0.5).loss(
        replace(at, helper=TakenIn(made, 8.0), draws=generator("same"))
    )
    torch.testing.assert_close(found, 0.5 * error, rtol=0, atol=1e-3)


def test_an_adversarial_loss_is_shared_between_clean_and_attacked() -> None:
    at = step()
    none, half, whole = (
        RobustOutput(weight=weight).loss(replace(at, draws=generator("same")))
        for weight in (0.0, 0.25, 1.0)
    )
    torch.testing.assert_close(half, 0.75 * none + 0.25 * whole)
    none, one, three = (
        RobustEncoder(weight=weight).loss(replace(at, draws=generator("same")))
        for weight in (0.0, 1.0, 3.0)
    )
    torch.testing.assert_close(three - none, 3 * (one - none))

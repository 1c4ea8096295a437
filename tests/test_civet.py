"""Boxes through networks, the support set, and what is certified by them (Xu et al. 2025)."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

import genrobust
from genrobust.defences import certified_error
from genrobust.errors import GenrobustError
from genrobust.models.intervals import code_box, support, through
from genrobust.models.networks import ConvVAE, NetworkSpec, initialised
from genrobust.seeding import generator
from genrobust.training.losses import Step
from genrobust.training.losses.base import worst_in_ball
from genrobust.training.losses.certified import Certified

SHAPE = (1, 8, 8)


def images(count: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=generator("civet"))


def linear_vae() -> ConvVAE:
    """One linear layer each way, so that what a ball can do is known exactly."""
    network = initialised(NetworkSpec(input_shape=SHAPE, gaussian=2, layers="dense"), 0)
    network.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    network.decoder = nn.Sequential(nn.Linear(2, 64), nn.Sigmoid(), nn.Unflatten(1, SHAPE))
    for number, layer in enumerate((network.encoder[1], network.decoder[0])):
        for weights in (layer.weight, layer.bias):
            drawn = torch.randn(weights.shape, generator=generator("civet", number))
            weights.data = drawn * (0.1 if number == 0 else 1.0)
    return network


def test_the_means_of_a_linear_encoder_reach_the_ends_of_their_box() -> None:
    network, x, eps = linear_vae(), images(3), 0.1
    (low, high), deviation = code_box(network, x, eps)
    weight = network.encoder[1].weight
    for latent in range(2):
        way = weight[latent].sign().view(SHAPE)
        for end, sign in ((low, -1), (high, 1)):
            reached = network.encoder((x + sign * eps * way).clamp(0, 1))[:, latent]
            torch.testing.assert_close(end[:, latent], reached)
        way = weight[2 + latent].sign().view(SHAPE)
        widest = network.encoder((x + eps * way).clamp(0, 1))[:, 2 + latent]
        torch.testing.assert_close(deviation[:, latent], (widest / 2).exp())


def test_the_support_set_holds_its_share_of_every_posterior_of_the_set() -> None:
    means, deviation = (torch.tensor([[0.0, -1.0]]), torch.tensor([[0.5, -1.0]])), torch.ones(1, 2)
    low, high = support(means, deviation, 0.9)
    held = {}
    for mean, scale in product(("low", "high"), (0.1, 0.5, 1.0)):
        posterior = Normal(means[mean == "high"], scale * deviation)
        held[mean, scale] = float((posterior.cdf(high) - posterior.cdf(low)).prod())
    assert min(held.values()) >= 0.9
    point = support((means[0], means[0]), deviation, 0.9)  # of one posterior exactly so much
    exact = Normal(means[0], deviation)
    assert float((exact.cdf(point[1]) - exact.cdf(point[0])).prod()) == pytest.approx(0.9, abs=1e-5)


def test_the_loss_is_the_worst_that_the_corners_of_the_support_set_decode_to() -> None:
    network, x = linear_vae(), images(3)
    penalty = Certified(weight=0.25, eps=0.1, confidence=0.9, ramp_steps=10)
    posterior = network.encode(x)
    code = posterior.mode()
    at = Step(
        *(network, None, x, posterior, code, network.decode(code)),
        **{"draws": torch.Generator(), "number": 5, "images": 3, "temperature": 1.0},
    )
    low, high = support(*code_box(network, x, 0.05), 0.9)  # half of the ramp
    each = torch.stack(
        [
            F.binary_cross_entropy(
                network.decode(torch.where(torch.tensor(corner), low, high)), x, reduction="none"
            )
            for corner in product((True, False), repeat=2)
        ]
    )
    worst = each.amax(0).sum() / 3  # a pixel's logit is linear in the code
    kl = posterior.kl_to_prior().sum(1).mean()
    torch.testing.assert_close(
        penalty.loss(at), 0.75 * at.bce + 0.25 * worst + kl, check_dtype=False
    )


def test_no_attack_leaves_what_is_certified_and_draws_do_so_rarely() -> None:
    network = linear_vae()
    model, x, eps = genrobust.wrap(network), images(4), 0.05
    always = certified_error(model, x, eps)
    drawn = certified_error(model, x, eps, confidence=0.95)

    def error(changed: Tensor, like: Tensor = x) -> Tensor:
        return (model.reconstruct(changed) - like).square().flatten(1).sum(1)

    attacked = worst_in_ball(x, error, eps, 10, generator("civet", "attack"))
    assert (error(attacked) <= always).all()
    assert (error(x) < always).all()
    assert (always < 1.5 * error(attacked)).all()  # nor is it that of any image
    with torch.no_grad():
        many = attacked.repeat(200, 1, 1, 1)
        posterior = network.encode(many)
        noise = posterior.draw_noise(generator("civet", "draws"))
        images_drawn = network.decode(posterior.sample(noise))
        errors = (images_drawn - x.repeat(200, 1, 1, 1)).square().flatten(1).sum(1)
    assert (errors.view(200, 4) <= drawn).double().mean(0).min() >= 0.95
    low, high = through(network.decoder, (torch.zeros(1, 2), torch.zeros(1, 2)))
    torch.testing.assert_close(low, high)


def test_what_is_certified_of_a_draw_is_the_worst_of_the_support_sets_corners() -> None:
    network, x, eps = linear_vae(), images(3), 0.05
    low, high = support(*code_box(network, x, eps), 0.95)
    corners = [torch.tensor(corner) for corner in product((True, False), repeat=2)]
    shown = torch.stack([network.decode(torch.where(corner, low, high)) for corner in corners])
    worst = (shown - x).square().amax(0).flatten(1).sum(1)  # a pixel is monotone in the code
    found = certified_error(genrobust.wrap(network), x, eps, confidence=0.95)
    torch.testing.assert_close(found, worst.double(), rtol=1e-4, atol=0)


def test_what_cannot_be_bounded_is_said() -> None:
    x = torch.rand(1, 1, 32, 32)
    told = [
        ("no bounds of", lambda: certified_error(genrobust.load_model("jointvae"), x, 0.1)),
        ("between 0 and 1", lambda: certified_error(genrobust.load_model("vae"), x, 0.1, 1.0)),
        ("above 0", lambda: certified_error(genrobust.load_model("vae"), x, 0.0)),
        ("no bounds of a Tanh", lambda: through(nn.Tanh(), (x, x))),
    ]
    for said, call in told:
        with pytest.raises(GenrobustError, match=said):
            call()
    unfit = Certified(ramp_steps=1).unfit(NetworkSpec(layers="dense", lipschitz=2.0))
    assert unfit is not None
    assert "network.lipschitz=null" in unfit

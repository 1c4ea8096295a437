"""ALMA and GRILL: one change for all samples, their damages, and layers weighed and recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from attack_cases import VARIANTS, digits
from linear_problems import COUNT, Plain
from torch import Tensor, nn

import genrobust
from genrobust.attacks import make_attack
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.objectives.universal import (
    UniversalDamage,
    condition_number,
    layer_weights,
    recorded_layers,
)
from genrobust.seeding import generator
from genrobust.threat import ThreatModel


class Layered(nn.Module):
    """A linear autoencoder of layers that torch can hook."""

    input_shape = (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.down = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 8))
            self.up = nn.Sequential(nn.Linear(4, 16), nn.Sigmoid())

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.down(x).chunk(2, 1)
        return mean, logvar

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.up(z)
        return image.view(-1, *self.input_shape)


UNIVERSAL = [key for key in VARIANTS if make_attack(VARIANTS[key][0]).couples_samples]


@pytest.mark.parametrize("key", UNIVERSAL)
def test_all_samples_share_one_change(key: str) -> None:
    name, settings = VARIANTS[key]
    model = genrobust.wrap(Layered())
    x = 0.3 + 0.4 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
    found = genrobust.attack(name, model, x, eps=0.1, **settings)
    change = found.x_adv - x
    torch.testing.assert_close(change, change[:1].expand_as(change), atol=1e-6, rtol=0)
    assert float(change.abs().max()) > 0.02
    unmoved = replace(make_attack(name, settings), passes=0)  # type: ignore[call-arg]
    start = unmoved(model, Batch(x, tuple(range(len(x)))), ThreatModel("linf", 0.1))
    assert found.loss.mean() < start.loss.mean()
    assert found.forwards.tolist() == [settings["passes"] + 1] * COUNT
    assert found.backwards.tolist() == [settings["passes"]] * COUNT
    # At the box's edge each image gets what of the change fits.
    x[0] = 1.0
    change = genrobust.attack(name, model, x, eps=0.1, **settings).x_adv - x
    torch.testing.assert_close(change[0], change[1].clamp_max(0), atol=1e-6, rtol=0)


def test_the_best_universal_change_is_close_to_the_top_right_singular_signs(plain: Plain) -> None:
    # One image: la-l2 is ||E d||^2 / 3, whose maximum over the ball is at a corner.
    x = plain.x[:1]
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 16)
    best = (0.05 * corners @ plain.E.T).square().mean(1).max()
    found = [
        -genrobust.attack(
            "alma", plain.model, x, eps=0.05, damage="la-l2", learning_rate=5e-3, seed=seed
        ).loss
        for seed in range(3)
    ]
    assert float(torch.cat(found).max()) == pytest.approx(float(best), rel=0.01)


@pytest.mark.parametrize("name", ["alma", "grill"])
def test_universal_attacks_as_published_end_in_the_ball_all_the_same(
    name: str, shipped: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    x = digits(COUNT)
    run = lambda **more: genrobust.attack(  # noqa: E731
        name, shipped[0], x, eps=0.07, passes=3, as_published=True, **more
    )
    found = run()
    ThreatModel("linf", 0.07).check(found.x_adv, x, name)
    assert found.forwards.tolist() == [8] * COUNT
    assert torch.equal(run().x_adv, found.x_adv)
    assert not torch.equal(run(seed=1).x_adv, found.x_adv)


def test_as_published_the_change_is_scaled_and_the_batch_renormalised(plain: Plain) -> None:
    attack = make_attack("alma", {"as_published": True})
    change = 0.01 * torch.randn(1, 4, 4, generator=generator("d"))
    x_adv = attack._attacked(change, plain.x, ThreatModel("linf", 0.2))  # type: ignore[attr-defined]
    moved = plain.x + 0.2 * change / change.abs().max()
    torch.testing.assert_close(x_adv, (moved - moved.min()) / (moved.max() - moved.min()))
    assert (float(x_adv.min()), float(x_adv.max())) == (0.0, 1.0)


def test_damages_are_what_they_are_called() -> None:
    model = genrobust.wrap(Layered())
    x = torch.rand(3, 1, 4, 4, generator=generator("x"))
    x_adv = (x + 0.1).clamp(0, 1)
    context = Context(model, Batch(x, (0, 1, 2)))
    q, p = model.encode(x), model.encode(x_adv)
    a, b = q.vector(), p.vector()
    code = (a - b).square().mean(1)
    image = (model.reconstruct(x) - model.reconstruct(x_adv)).flatten(1).square().mean(1)
    expected = {
        "la-l2": code,
        "la-wass": (a.sort(1)[0] - b.sort(1)[0]).abs().mean(1),
        "la-skl": q.symmetric_kl(p),
        "la-cos": 1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)),
        "oa": image,
        "lma": code * image,
    }
    for damage, value in expected.items():
        loss = UniversalDamage(damage)(x_adv, context)  # type: ignore[arg-type]
        torch.testing.assert_close(-loss, value, msg=damage)


# Layers


def test_condition_numbers_are_those_of_the_weights() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data = torch.tensor([[4.0, 0.0], [0.0, 0.5]])
    assert condition_number(linear) == pytest.approx(8)
    conv = nn.Conv2d(1, 2, 2)
    conv.weight.data = torch.tensor([[3.0, 0, 0, 0], [0, 0, 1.0, 0]]).view(2, 1, 2, 2)
    assert condition_number(conv) == pytest.approx(3)
    back = nn.ConvTranspose2d(3, 2, 2)
    rows = back.weight.data.transpose(0, 1).flatten(1)
    assert condition_number(back) == pytest.approx(float(np.linalg.cond(rows.numpy())), rel=1e-4)
    linear.weight.data = torch.ones(2, 2)
    assert condition_number(linear) > 1e6
    linear.weight.data = torch.zeros(2, 2)
    for module in (linear, nn.ReLU(), nn.BatchNorm2d(3)):
        assert condition_number(module) == 1


def test_layers_weigh_what_their_conditioning_leaves() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data = torch.tensor([[8.0, 0.0], [0.0, 1.0]])
    weights = layer_weights([linear, nn.ReLU(), nn.Sigmoid()])
    assert weights == pytest.approx([2 / 20, 9 / 20, 9 / 20])
    assert layer_weights([linear]) == [1.0]


def test_grill_is_the_weighted_sum_times_the_output() -> None:
    module = Layered()
    model = genrobust.wrap(module)
    x = torch.rand(3, 1, 4, 4, generator=generator("x"))
    x_adv = (x + 0.1).clamp(0, 1)
    loss = UniversalDamage("grill")(x_adv, Context(model, Batch(x, (0, 1, 2))))
    layers = [*module.down, *module.up]
    weights = layer_weights(layers)

    def outputs(images: Tensor) -> list[Tensor]:
        found = []
        for layer in layers:
            images = layer(images)
            found.append(images)
            if layer is module.down[-1]:
                images = images.chunk(2, 1)[0]
        return found

    errors = [(a - b).square().mean(1) for a, b in zip(outputs(x), outputs(x_adv), strict=True)]
    inner = sum(w * e for w, e in zip(weights, errors, strict=True))
    torch.testing.assert_close(-loss, inner * errors[-1])
    assert not any(layer._forward_hooks for layer in layers)


def test_layers_are_seen_before_others_overwrite_them() -> None:
    module = Layered()
    module.down[2] = nn.ReLU(inplace=True)
    model, x = genrobust.wrap(module), torch.rand(2, 1, 4, 4, generator=generator("x"))
    with torch.no_grad(), recorded_layers(model) as record:
        model.reconstruct(x)
    assert [layer for layer, _ in record] == [*module.down, *module.up]
    assert torch.equal(record[1][1], module.down[1](x.flatten(1)))
    assert float(record[1][1].min()) < 0


def test_grill_refuses_a_model_without_layers_to_hook(plain: Plain) -> None:
    with pytest.raises(GenrobustError, match="'grill' weighs layers"):
        genrobust.attack("grill", plain.model, plain.x, passes=1)
    with recorded_layers(genrobust.wrap(Layered()), wanted=False) as record:
        assert record == []

"""VQ-VAE, two layers, the bottleneck, DC-IGN: what their losses say by an independent form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.data.base import DATASETS, Images
from genrobust.errors import GenrobustError
from genrobust.models.networks import Classifier, ConvVAE, NetworkSpec, initialised
from genrobust.posterior import Codebook, Posterior
from genrobust.seeding import generator
from genrobust.training.losses import Step
from genrobust.training.losses.bottleneck import Bottleneck
from genrobust.training.losses.clamped import Clamped
from genrobust.training.losses.correlation import Seatbelt, decomposed_kl
from genrobust.training.losses.quantised import Quantised
from genrobust.training.recipes import Recipe, recipe
from genrobust.training.vae import train_vae


def step_of(network: ConvVAE, x: Tensor, objective: Any, **more: Any) -> Step:
    posterior = network.encode(x)
    code = objective.code(posterior, generator("code"), 0.67)
    at = Step(
        network=network,
        helper=None,
        x=x,
        posterior=posterior,
        code=code,
        image=network.decode(code),
        draws=generator("step"),
        number=0,
        images=len(x),
        temperature=0.67,
    )
    return replace(at, **more)


# Networks


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (3, 64, 64), (1, 11, 30)])
@pytest.mark.parametrize(
    "settings", [{}, {"gaussian": 0, "codebook": (8, 4)}, {"top": 3, "categorical": (4,)}]
)
def test_convolutions_read_and_give_images_of_any_side_from_8(
    shape: tuple[int, int, int], settings: dict[str, Any]
) -> None:
    spec = NetworkSpec(input_shape=shape, **settings)
    assert NetworkSpec.model_validate(spec.model_dump(mode="json")) == spec
    x = torch.rand(2, *shape)
    assert initialised(spec, 0)(x).shape == x.shape


@pytest.mark.parametrize(
    "settings",
    [
        {"gaussian": 0, "codebook": (8, 4), "layers": "dense"},
        {"gaussian": 3, "codebook": (8, 4)},
        {"gaussian": 0, "codebook": (1, 4)},
        {"gaussian": 0, "categorical": (3,), "top": 2},
        {"deterministic": True, "top": 2},
        {"input_shape": (1, 7, 32)},
    ],
)
def test_networks_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NetworkSpec(**settings)


def test_the_first_layer_is_noise_of_its_prior_given_the_second() -> None:
    network = initialised(NetworkSpec(gaussian=2, top=3, layers="dense"), 0)
    top = torch.tensor([[0.3, -1.0, 2.0]])
    mean, logvar = network.prior(top).chunk(2, 1)
    prior = Normal(mean, (logvar / 2).exp())
    posterior = Normal(
        mean + prior.stddev * 0.7, prior.stddev * 0.5
    )  # N(0.7, 0.5^2) relative to it
    relative = kl_divergence(Normal(0.7, 0.5), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(posterior, prior), relative.expand(1, 2))
    wanted = network.decoder(torch.cat([posterior.mean, top], 1))
    torch.testing.assert_close(network.decode(torch.cat([torch.full((1, 2), 0.7), top], 1)), wanted)


# VQ-VAE


def test_the_codebooks_loss_is_the_two_squared_errors_and_each_moves_its_own() -> None:
    book = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    features = torch.tensor([[[0.9, 0.2], [0.1, 0.0]]], requires_grad=True)
    loss = Quantised(commitment=0.25)(Posterior((Codebook(features, book),)), 0)
    assert float(loss.detach()) == pytest.approx(1.25 * (0.01 + 0.04 + 0.01))
    loss.backward()
    torch.testing.assert_close(book.grad, torch.tensor([[-0.2, 0.0], [0.2, -0.4]]))
    torch.testing.assert_close(features.grad, 0.5 * torch.tensor([[[-0.1, 0.2], [0.1, 0.0]]]))


def test_the_decoders_gradient_passes_the_choice_unchanged() -> None:
    network = initialised(NetworkSpec(input_shape=(1, 8, 8), gaussian=0, codebook=(4, 3)), 0)
    at = step_of(network, torch.rand(2, 1, 8, 8), Quantised())
    (part,) = at.posterior.parts
    assert isinstance(part, Codebook)
    torch.testing.assert_close(at.code, part.mode())
    weight = torch.rand(at.code.shape)
    (at.code * weight).sum().backward(inputs=[*network.parameters()])
    straight = [p.grad for p in network.encoder.parameters()]
    network.zero_grad()
    (network.encode(at.x).parts[0].features * weight).sum().backward()  # type: ignore[attr-defined]
    torch.testing.assert_close(straight, [p.grad for p in network.encoder.parameters()])


def test_a_codebook_learns_by_its_own_penalty_alone() -> None:
    whole = recipe("vqvae", "digits").model_dump()
    for other in ("vae", "vaegan", "fare-vae", "mixup-vae", "betavae-capacity"):
        with pytest.raises(ValidationError, match=r"codebook|Gaussian latents"):
            Recipe.model_validate({**whole, "penalty": recipe(other, "digits").penalty})
    with pytest.raises(ValidationError, match="learns a codebook"):
        Recipe.model_validate({**whole, "network": NetworkSpec()})


# Two layers


def test_seatbelt_at_one_is_the_hierarchys_elbo_with_its_kl_in_one_draw_on_top() -> None:
    network = initialised(NetworkSpec(input_shape=(1, 8, 8), gaussian=2, top=3), 0)
    at = step_of(network, torch.rand(16, 1, 8, 8), Seatbelt())
    first, second = at.posterior.parts
    draw, mean, logvar = at.code[:, 2:], *second.tensors()
    drawn_kl = Normal(mean, (logvar / 2).exp()).log_prob(draw) - Normal(0.0, 1.0).log_prob(draw)
    elbo = at.bce + first.kl_to_prior().sum(1).mean() + drawn_kl.sum(1).mean()
    torch.testing.assert_close(Seatbelt(beta=1).loss(at), elbo, check_dtype=False)
    extra = Seatbelt(beta=3).loss(at) - Seatbelt(beta=1).loss(at)
    correlation = decomposed_kl(draw, mean, logvar, at.images)[1]
    torch.testing.assert_close(extra, 2 * correlation, check_dtype=False)


# The bottleneck


def test_a_bottleneck_is_cross_entropy_and_kl_and_its_decoder_teaches_no_encoder() -> None:
    spec = NetworkSpec(input_shape=(1, 8, 8), gaussian=2, classes=3, layers="dense")
    network, labels = initialised(spec, 0), torch.tensor([0, 1, 2, 1])
    at = step_of(network, torch.rand(4, 1, 8, 8), Bottleneck(), labels=labels)
    kl = at.posterior.kl_to_prior().sum(1).mean()
    told = F.cross_entropy(network.classifier(at.code), labels) + 0.5 * kl
    torch.testing.assert_close(
        Bottleneck(beta=0.5).loss(at), told + at.bce, check_dtype=False, rtol=1e-4, atol=1e-4
    )
    told.backward(inputs=[*network.encoder.parameters()], retain_graph=True)
    alone = [p.grad.clone() for p in network.encoder.parameters() if p.grad is not None]
    network.zero_grad()
    Bottleneck(beta=0.5).loss(at).backward()
    torch.testing.assert_close(alone, [p.grad for p in network.encoder.parameters()])


def test_a_bottleneck_has_the_datas_classes_and_judges(tmp_path: Path) -> None:
    content = recipe("vib", "digits").model_dump() | {"steps": 2, "augment": False}
    train_vae("vib", "digits", Recipe.model_validate(content), tmp_path)
    model = genrobust.load_model("vib", "digits", tmp_path / "vib.safetensors")
    assert isinstance(model.module, ConvVAE)
    x = torch.rand(3, 1, 32, 32)
    logits = Classifier(model.module)(x)
    assert logits.shape == (3, 10)
    assert torch.equal(logits, model.module.classify(model.encode(x).mode()))
    assert recipe("vib", "sprites").network.classes == 3
    content["network"]["classes"] = 3
    with pytest.raises(GenrobustError, match="has 10 classes and the network reads 3"):
        train_vae("vib", "digits", Recipe.model_validate(content), tmp_path / "three")


# DC-IGN


@dataclass(frozen=True)
class Bars:
    """Two factors: where a bar is, and how bright."""

    name: str = "bars"
    classes: tuple[str, ...] = ("left", "right")
    image_shape: tuple[int, int, int] = (1, 8, 8)

    @property
    def factors(self) -> dict[str, int]:
        return {"place": 8, "light": 4}

    def render(self, factors: Tensor) -> Tensor:
        bars = F.one_hot(factors[:, 0], 8)[:, None, None] * (
            60 + 60 * factors[:, 1, None, None, None]
        )
        return bars.expand(-1, 1, 8, 8).clamp(max=255).byte()

    def load(self, split: str, root: Path | None) -> Images:
        factors = torch.cartesian_prod(torch.arange(8), torch.arange(4))
        return Images(self.render(factors), factors[:, 0] // 4, (8, 8), factors)


@pytest.fixture
def bars() -> Iterator[str]:
    DATASETS.register("bars")(Bars())
    yield "bars"
    DATASETS._registered.pop("bars")


def test_a_batch_varies_in_one_factor_and_the_others_in_turn(bars: str) -> None:
    sample = Clamped(factors=2).sampler(bars)
    assert sample is not None
    places, lights = (sample(step, 16, generator(step)) for step in (4, 5))
    assert len(places.amax((1, 2, 3)).unique()) == 1
    assert len(places.argmax(3)[:, 0, 0].unique()) > 2
    assert len(lights.argmax(3)[:, 0, 0].unique()) == 1
    assert len(lights.amax((1, 2, 3)).unique()) > 2


def test_latents_of_other_factors_are_held_at_the_mean_and_drawn_to_it() -> None:
    network = initialised(NetworkSpec(input_shape=(1, 8, 8), gaussian=4, layers="dense"), 0)
    objective = Clamped(factors=2, invariance=0.5)
    assert [objective.free(step, 4).tolist() for step in (0, 1)] == [
        [False, True, True, True],
        [True, False, False, False],
    ]
    at = step_of(network, torch.rand(6, 1, 8, 8), objective, number=1)
    mean = at.gaussian.mean
    code = torch.cat([at.code[:, :1], at.code.mean(0)[1:].expand(6, 3)], 1)
    seen = F.binary_cross_entropy(network.decode(code), at.x, reduction="sum") / 6
    spread = mean[:, 1:].var(0, unbiased=False).sum()
    wanted = seen + at.posterior.kl_to_prior().sum(1).mean() + 0.25 * spread
    torch.testing.assert_close(objective.loss(at), wanted, check_dtype=False)


def test_dc_ign_learns_where_factors_are_known_and_says_where_not(
    bars: str, tmp_path: Path
) -> None:
    words = f"train --model dc-ign --dataset {bars} --set penalty.factors=2 --set steps=3"
    done = CliRunner().invoke(app, [*words.split(), "--out", str(tmp_path / "bars")])
    assert done.exit_code == 0, done.output
    for given in ("digits", "sprites --set network.gaussian=4"):
        words = f"train --model dc-ign --dataset {given} --set steps=1 --out {tmp_path / 'no'}"
        done = CliRunner().invoke(app, words.split())
        assert done.exit_code == 2
        said = " ".join(done.output.split())
        assert "cannot draw such" in said or "a latent for each of 5 factors" in said
        assert not (tmp_path / "no").exists()

"""Families: each trains, stops and goes on; their losses by an independent form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from typer.testing import CliRunner

import genrobust
from genrobust import files
from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.models.families import FAMILIES, NETWORKS
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.posterior import Gaussian, Posterior
from genrobust.seeding import generator
from genrobust.training.changes import changed
from genrobust.training.judge import train_judge
from genrobust.training.losses.adversarial import from_prior
from genrobust.training.losses.base import worst_in_ball
from genrobust.training.losses.correlation import Covariance, decomposed_kl
from genrobust.training.losses.defences import coupled_kl
from genrobust.training.recipes import Recipe, recipe
from genrobust.training.vae import train_vae

#: DC-IGN needs a data set that draws: see test_more_families.py.
NEW = sorted(NETWORKS.keys() - FAMILIES.keys() - {"dc-ign"})
#: Of each kind one: with an adversary, with two optimizers, with tokens, with two layers.
QUICK = {"factorvae", "vaegan", "vqvae", "seatbelt"}
EACH = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in NEW]


class KilledError(Exception):
    """Stands for a kill signal."""


def tiny(family: str) -> Recipe:
    whole = recipe(family, "digits")
    network = {} if whole.network.codebook else {"layers": "dense", "gaussian": 3}
    content = {**whole.model_dump(), "steps": 3, "batch_size": 8, "augment": False}
    content["network"] = {**whole.network.model_dump(), **network}
    return Recipe.model_validate(content)


@pytest.mark.slow
@pytest.mark.parametrize("family", EACH)
def test_a_family_trains_stops_goes_on_and_loads(family: str, tmp_path: Path) -> None:
    def stop(step: int, loss: float) -> None:
        if step == 2:
            raise KilledError

    for folder in ("straight", "stopped"):
        if folder == "stopped":
            with pytest.raises(KilledError):
                train_vae(
                    family,
                    "digits",
                    tiny(family),
                    tmp_path / folder,
                    checkpoint_every=1,
                    on_step=stop,
                )
        train_vae(family, "digits", tiny(family), tmp_path / folder, checkpoint_every=1)
    ours, theirs = (
        files.read_tensors(tmp_path / folder / "checkpoint.safetensors")[0]
        for folder in ("straight", "stopped")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    for name in (f"{family}.safetensors", f"{family}.json", "log.jsonl"):
        straight, stopped = (tmp_path / f / name for f in ("straight", "stopped"))
        assert straight.read_bytes() == stopped.read_bytes(), name
    model = genrobust.load_model(family, "digits", tmp_path / "straight" / f"{family}.safetensors")
    assert model.reconstruct(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (3, 64, 64)])
def test_a_dense_network_reads_any_size(shape: tuple[int, int, int]) -> None:
    network = initialised(NetworkSpec(input_shape=shape, layers="dense"), 0)
    assert network(torch.rand(2, *shape)).shape == (2, *shape)


def test_settings_at_their_old_values_are_left_out_of_what_is_written() -> None:
    assert set(NetworkSpec().model_dump()) == {"input_shape", "gaussian", "categorical"}
    changes = ["network.layers=dense", "network.deterministic=true"]
    spec = changed(recipe("vae", "digits"), changes).network
    assert NetworkSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec.layers == "dense"


@pytest.mark.parametrize("family", ["factorvae", "betatcvae", "dipvae-i", "avae"])
def test_a_loss_that_reads_gaussians_refuses_other_latents(family: str, tmp_path: Path) -> None:
    words = f"train --model {family} --set network.categorical=[10] --out {tmp_path / 'out'}"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 2
    assert "reads Gaussian latents alone" in done.output
    assert not (tmp_path / "out").exists()


def test_an_autoencoder_claims_no_elbo(tmp_path: Path) -> None:
    card = train_vae("autoencoder", "digits", tiny("autoencoder"), tmp_path)
    assert "elbo" not in card.metrics
    assert card.metrics["kl"] == 0


@pytest.mark.parametrize("wrong", ["d\udce9j", 3])
def test_a_folder_that_no_card_could_name_is_refused_before_training(wrong: Any) -> None:
    for train in (
        lambda: train_vae("vae", "digits", tiny("vae"), wrong),
        lambda: train_judge("lenet", "digits", wrong),
    ):
        with pytest.raises(GenrobustError, match=r"out .*(not in UTF-8|give a path)"):
            train()


def test_another_familys_checkpoint_is_refused(tmp_path: Path) -> None:
    train_vae("a", "digits", tiny("factorvae"), tmp_path)
    with pytest.raises(GenrobustError, match="checkpoint of another run"):
        train_vae("a", "digits", tiny("betatcvae"), tmp_path)


# Losses


def test_the_kl_of_each_latent_is_that_of_monte_carlo() -> None:
    mean, logvar = torch.tensor([[0.7, -1.0]]), torch.tensor([[-0.5, 0.3]])
    q = Normal(mean, (logvar / 2).exp())
    torch.manual_seed(0)
    z = q.sample((200_000,))
    sampled = (q.log_prob(z) - Normal(0, 1).log_prob(z)).mean(0)
    closed = Gaussian(mean, logvar).kl_to_prior().float()
    torch.testing.assert_close(sampled, closed, atol=0.02, rtol=0)


@pytest.mark.slow
def test_the_three_terms_add_up_to_the_kl_and_find_a_known_total_correlation() -> None:
    """Posteriors so narrow that q(z) is the data's Gaussian: its TC is -log(1 - rho^2) / 2."""
    rho, count, std = 0.9, 4000, 0.25
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]])
    torch.manual_seed(0)
    inner = covariance - std**2 * torch.eye(2)
    mean = MultivariateNormal(torch.zeros(2), inner).sample((count,))
    logvar = torch.full_like(mean, 2 * math.log(std))
    code = mean + std * torch.randn_like(mean)
    information, correlation, each = decomposed_kl(code, mean, logvar, images=count)
    # Minibatch-weighted sampling is off by log(count) once for each density, which is constant:
    exact = -0.5 * math.log(1 - rho**2)
    assert float(correlation) - math.log(count) == pytest.approx(exact, abs=0.06)
    assert float(each) + 2 * math.log(count) == pytest.approx(0, abs=0.05)
    own = Normal(mean, std).log_prob(code) - Normal(0, 1).log_prob(code)
    assert float(information + correlation + each) == pytest.approx(
        float(own.sum(1).mean()), abs=1e-3
    )


@pytest.mark.parametrize("kind", [1, 2])
def test_dip_is_nothing_at_the_identity_and_its_formula_elsewhere(kind: int) -> None:
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    loss = Covariance(type=kind, off_diagonal=3, diagonal=5)

    def extra(mean: torch.Tensor, logvar: torch.Tensor) -> float:
        q = Posterior((Gaussian(mean, logvar),))
        return float(loss(q, 0) - q.kl_to_prior().sum(1).mean())

    tiny_variance = torch.full((4, 2), -40.0)
    assert extra(signs, tiny_variance) == pytest.approx(0, abs=1e-5)
    mixed = signs @ torch.tensor([[1.0, 0.5], [0.0, 2.0]])
    covariance = torch.cov(mixed.T, correction=0) + (kind == 2) * 0.5 * torch.eye(2)
    off, own = 2 * covariance[0, 1] ** 2, (covariance.diagonal() - 1).square().sum()
    logvar = torch.full((4, 2), math.log(0.5))
    assert extra(mixed, logvar) == pytest.approx(float(3 * off + 5 * own), rel=1e-5)


def test_the_avae_term_is_the_kl_of_torch() -> None:
    torch.manual_seed(0)
    mean, logvar, code = torch.randn(3, 5, 4)
    wanted = Normal(0.8 * code, math.sqrt(1 - 0.8**2))
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), wanted).sum(1).mean()
    torch.testing.assert_close(coupled_kl(mean, logvar, code, 0.8), expected)


def test_the_worst_point_lies_in_the_ball_and_is_worse_than_the_start() -> None:
    x = torch.rand(4, 1, 8, 8)

    def distance(moved: torch.Tensor) -> torch.Tensor:
        return (moved - x).flatten(1).sum(1)

    found = worst_in_ball(x, distance, 0.1, 5, generator(0))
    assert float((found - x).abs().max()) <= 0.1 + 1e-6
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(found, (x + 0.1).clamp(max=1))


def test_codes_of_the_prior_are_one_hot_where_they_choose() -> None:
    code = from_prior(NetworkSpec(gaussian=2, categorical=(4,)), 1000, generator(0))
    assert code.shape == (1000, 6)
    assert (code[:, 2:].sum(1) == 1).all()
    assert float(code[:, :2].std()) == pytest.approx(1, abs=0.06)

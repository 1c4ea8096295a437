"""A codebook that learns by moving averages (van den Oord et al. 2017, appendix A.1)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from genrobust.models.networks import NetworkSpec, initialised
from genrobust.models.weights import read_state_dict
from genrobust.posterior import Codebook, Posterior
from genrobust.training.losses import Step
from genrobust.training.losses.quantised import Quantised
from genrobust.training.recipes import Recipe
from genrobust.training.vae import train_vae

SPEC = NetworkSpec(gaussian=0, codebook=(3, 2))
GAMMA = 0.9


def test_entries_are_the_debiased_average_of_what_chose_them_and_the_others_stay() -> None:
    network, penalty = initialised(SPEC, 0), Quantised(decay=GAMMA)
    with torch.no_grad():
        network.codebook.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]]))
    averages = penalty.helper(SPEC)
    assert averages is not None
    batches = [
        torch.tensor([[[0.2, 0.0], [0.0, 0.4], [1.2, 1.0]]]),
        torch.tensor([[[0.0, 0.0], [1.0, 0.8], [1.0, 1.2]]]),
    ]
    chose = [[[0, 1], [2]], [[0], [1, 2]]]  # by batch, of the first and the second entry
    for features in batches:
        posterior = Posterior((Codebook(features, network.codebook),))
        x = torch.zeros(1, 1, 32, 32)
        told = {"draws": torch.Generator(), "number": 0, "images": 1, "temperature": 1.0}
        penalty.settle(Step(network, averages, x, posterior, posterior.mode(), x, **told))  # type: ignore[arg-type]
    for entry in (0, 1):
        count = sum(GAMMA ** (1 - t) * len(chose[t][entry]) for t in (0, 1))
        total = sum(GAMMA ** (1 - t) * batches[t][0, chose[t][entry]].sum(0) for t in (0, 1))
        torch.testing.assert_close(network.codebook[entry], total / count)
    assert network.codebook[2].tolist() == [9.0, 9.0]


def test_with_a_decay_only_the_commitment_has_a_gradient() -> None:
    book = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    features = torch.tensor([[[0.9, 0.2]]], requires_grad=True)
    posterior = Posterior((Codebook(features, book),))
    loss = Quantised(decay=GAMMA, commitment=0.5)(posterior, 0)
    assert float(loss.detach()) == pytest.approx(0.5 * 0.05)
    assert torch.autograd.grad(loss, book, allow_unused=True) == (None,)


@pytest.mark.slow
def test_a_stopped_training_ends_with_the_same_codebook(tmp_path: Path) -> None:
    plan = Recipe(network=SPEC, penalty=Quantised(decay=GAMMA), steps=4, batch_size=4)
    train_vae("vqvae", "digits", plan, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise StoppedError

    place = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        train_vae("vqvae", "digits", plan, place, checkpoint_every=2, on_step=stop)
    train_vae("vqvae", "digits", plan, place)
    whole, again = (
        read_state_dict(folder / "vqvae.safetensors") for folder in (tmp_path / "whole", place)
    )
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    by_gradient = Recipe(network=SPEC, penalty=Quantised(), steps=4, batch_size=4)
    train_vae("vqvae", "digits", by_gradient, tmp_path / "gradient")
    other = read_state_dict(tmp_path / "gradient" / "vqvae.safetensors")
    assert not torch.equal(whole["codebook"], other["codebook"])


def test_without_a_decay_recipes_are_dumped_as_before() -> None:
    assert "decay" not in Quantised().model_dump_json()
    assert Quantised(decay=GAMMA).model_dump()["decay"] == GAMMA
    with pytest.raises(ValidationError):
        Quantised(decay=1.0)

"""Disentanglement of a whole model, and beside an independent implementation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust import metrics
from genrobust.data.base import Images, load_images
from genrobust.errors import GenrobustError
from genrobust.posterior import Categorical, Gaussian, Posterior
from genrobust.seeding import seeded

FACTORS = torch.cartesian_prod(*[torch.arange(4)] * 3).repeat(12, 1)


class Oracle(nn.Module):
    """Pixels are factors: some latents are their means, the last one picks a class by it."""

    input_shape = (1, 1, 3)

    def encode(self, x: Tensor) -> Posterior:
        rows = x.flatten(1)
        choice = nn.functional.one_hot((rows[:, 2] * 3).round().long().clamp(0, 3), 4).float()
        gaussian = Gaussian(3 * rows[:, :2], torch.full_like(rows[:, :2], -4))
        return Posterior((gaussian, Categorical(9 * choice + 0 * rows.sum(1, keepdim=True))))

    def decode(self, code: Tensor) -> Tensor:
        classes = code[:, 2:] @ torch.arange(4.0).to(code)
        return torch.stack([code[:, 0], code[:, 1], classes], 1).view(-1, 1, 1, 3) / 3


def images(factors: Tensor | None) -> Images:
    return Images(FACTORS.float().view(-1, 1, 1, 3) / 3, None, (1, 3), factors)


def test_a_model_whose_codes_are_the_factors_scores_one_choices_included() -> None:
    found = metrics.disentanglement_of(genrobust.wrap(Oracle()), images(FACTORS), batch_size=50)
    scores = asdict(found)
    assert scores.pop("active_latents") == 3
    assert 0.2 < scores.pop("sap") < 1  # a line reads four values badly
    assert scores == pytest.approx(dict.fromkeys(scores, 1), abs=0.02)


def test_what_lacks_factors_or_fits_no_model_is_told() -> None:
    model = genrobust.wrap(Oracle())
    with pytest.raises(GenrobustError, match="no known factors"):
        metrics.disentanglement_of(model, images(None))
    two = Images(torch.rand(2, 1, 8, 8), None, (8, 8), FACTORS[:2])
    with pytest.raises(GenrobustError, match="that it was trained on"):
        metrics.disentanglement_of(model, two)
    for wrong in (FACTORS[:5], FACTORS[:, 0], FACTORS - 1, FACTORS[:, :0]):
        with pytest.raises(GenrobustError, match="factors"):
            images(wrong)


@pytest.mark.slow
def test_sprites_know_their_factors_and_keep_their_hash() -> None:
    sprites = load_images("sprites")
    assert sprites.factors is not None
    assert sprites.factors.shape == (len(sprites), 5)
    assert torch.equal(sprites.factors[:, 0], sprites.labels_of(range(len(sprites))))
    assert sprites.sha256 == Images(sprites.raw, sprites.labels, sprites.size).sha256


# Beside disent 0.8.0, whose codes and factors are (latents, N) and (factors, N)


@pytest.fixture(scope="module")
def disent() -> Any:
    try:
        from disent import metrics as theirs
    except Exception as problem:  # also what its own imports raise beside other versions
        pytest.skip(f"disent cannot be imported ({problem})")
    return theirs


def some_codes() -> Tensor:
    """Partly disentangled, of about unit variance."""
    torch.manual_seed(0)
    clean = (FACTORS.float() - 1.5) / 1.25**0.5
    mixed = clean @ torch.tensor([[1.0, 0.0, 0.0], [0.4, 0.9, 0.0], [0.0, 0.0, 0.3]])
    return torch.cat([mixed + 0.3 * torch.randn_like(mixed), torch.randn(len(mixed), 1)], 1)


def test_the_mutual_information_gap_is_that_of_disent(disent: Any) -> None:
    codes = some_codes()
    theirs = disent._mig._compute_mig(codes.T.double().numpy(), FACTORS.T.numpy())
    assert metrics.mig(codes, FACTORS) == pytest.approx(theirs["mig.discrete_score"], abs=1e-9)


def halves() -> tuple[Any, ...]:
    codes = some_codes().double().numpy()
    order = np.random.default_rng(0).permutation(len(codes))
    one, two = order[::2], order[1::2]
    factors = FACTORS.numpy()
    return codes[one].T, factors[one].T, codes[two].T, factors[two].T


def test_attribute_predictability_is_near_that_of_disent(disent: Any) -> None:
    theirs = disent._sap._compute_sap(*halves(), continuous_factors=False)["sap.score"]
    assert metrics.sap(some_codes(), FACTORS) == pytest.approx(theirs, abs=0.06)


def test_the_three_of_dci_are_near_those_of_disent(disent: Any) -> None:
    theirs = disent._dci._compute_dci(*halves())
    ours = metrics.dci(some_codes(), FACTORS)
    names = ("disentanglement", "completeness", "informativeness_test")
    assert ours == pytest.approx([theirs[f"dci.{name}"] for name in names], abs=0.08)


class Known:
    """As much of a data set of disent's as its FactorVAE score asks for."""

    num_factors = 3

    def __init__(self) -> None:
        self.gt_data = self
        self.draws = np.random.default_rng(0)

    def sample_factors(self, count: int) -> Any:
        return FACTORS.numpy()[self.draws.integers(len(FACTORS), size=count)]

    def dataset_batch_from_factors(self, factors: Any, mode: str) -> Any:
        rows = [self.draws.choice(np.flatnonzero((FACTORS.numpy() == f).all(1))) for f in factors]
        return some_codes()[torch.as_tensor(np.array(rows))]

    def dataset_sample_batch(self, count: int, mode: str) -> Any:
        return self.dataset_batch_from_factors(self.sample_factors(count), mode)


def test_the_factorvae_score_is_near_that_of_disent(disent: Any) -> None:
    score = disent._factor_vae.metric_factor_vae.unwrap
    counts = {"num_train": 200, "num_eval": 200, "num_variance_estimate": 500}
    with seeded(torch.device("cpu"), "disent"):
        theirs = score(Known(), lambda x: x, **counts)
    ours = metrics.factor_score(some_codes(), FACTORS, votes=800)
    assert ours == pytest.approx(theirs["factor_vae.eval_accuracy"], abs=0.08)

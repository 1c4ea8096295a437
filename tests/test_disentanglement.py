"""Disentanglement scores of codes whose score is known: perfect, mixed and random ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.metrics.disentanglement import (
    active_latents,
    beta_score,
    dci,
    factor_score,
    mig,
    modularity,
    sap,
)

FACTORS = torch.cartesian_prod(*[torch.arange(4)] * 3).repeat(20, 1)


def few_factor(codes: Tensor, factors: Tensor) -> float:
    return factor_score(codes, factors, votes=300)


def few_beta(codes: Tensor, factors: Tensor) -> float:
    return beta_score(codes, factors, pairs=150)


def disentanglement(codes: Tensor, factors: Tensor) -> float:
    return dci(codes, factors)[0]


SCORES: list[Callable[[Tensor, Tensor], float]] = [
    *(mig, modularity, disentanglement, few_factor, few_beta),
]


def random_codes() -> Tensor:
    return torch.randn(len(FACTORS), 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("score", SCORES)
def test_a_code_that_is_the_factors_in_another_order_scores_one(
    score: Callable[[Tensor, Tensor], float],
) -> None:
    codes = -2.0 * FACTORS[:, [2, 0, 1]].float()
    assert score(codes, FACTORS) == pytest.approx(1, abs=0.02)


def test_a_linear_reader_leads_on_the_factors_and_not_on_two_copies() -> None:
    two = FACTORS[:, :2] % 2
    assert sap(two.float(), two) == pytest.approx(0.5, abs=0.08)  # the other latent guesses
    assert sap(two[:, [0, 0, 1, 1]].float(), two) == pytest.approx(0, abs=1e-9)


def test_two_copies_leave_no_gap_and_each_is_modular() -> None:
    twice = FACTORS.repeat(1, 2).float()
    assert mig(twice, FACTORS) == pytest.approx(0, abs=1e-9)
    assert modularity(twice, FACTORS) == pytest.approx(1)


def test_a_code_that_mixes_two_factors_evenly_is_neither_modular_nor_pure() -> None:
    two = FACTORS[:, :2]
    mixed = torch.stack([two[:, 0] + two[:, 1], two[:, 0] - two[:, 1]], 1).float()
    assert mig(mixed, two) < 0.05
    assert modularity(mixed, two) < 0.05
    assert disentanglement(mixed, two) < 0.5


def test_random_codes_score_near_chance() -> None:
    codes = random_codes()
    assert mig(codes, FACTORS) < 0.02
    assert sap(codes, FACTORS) < 0.05
    assert disentanglement(codes, FACTORS) < 0.2
    assert few_factor(codes, FACTORS) < 0.55
    assert few_beta(codes, FACTORS) < 0.55
    assert dci(codes, FACTORS)[2] < 0.4


def test_latents_are_active_by_their_kl() -> None:
    assert active_latents(torch.tensor([[1.0, 0.0], [2.0, 0.001]])) == 1
    with pytest.raises(GenrobustError, match="holds NaN"):
        active_latents(torch.tensor([[1.0, torch.nan]]))


@pytest.mark.parametrize("score", [*SCORES, sap])
@pytest.mark.parametrize("unit", [2.0**-60, 2.0**-20, 2.0**40])
def test_no_score_depends_on_the_unit_of_the_codes(
    score: Callable[[Tensor, Tensor], float], unit: float
) -> None:
    """Trees tell nothing apart below 1e-7, and read in float32."""
    codes = FACTORS.double() + random_codes()
    assert score(unit * codes, FACTORS) == score(codes, FACTORS)


def test_codes_that_differ_by_rounding_alone_do_not_vary() -> None:
    with pytest.raises(GenrobustError, match="no latent varies"):
        factor_score(0.7 + 1e-8 * random_codes().double(), FACTORS)


@pytest.mark.parametrize("score", [modularity, dci, factor_score, beta_score])
def test_one_factor_alone_is_in_every_latent(score: Callable[[Tensor, Tensor], Any]) -> None:
    """Votes name it and importances are its own whatever the code is."""
    with pytest.raises(GenrobustError, match="factors has one column"):
        score(random_codes(), FACTORS[:, :1])


@pytest.mark.parametrize("score", [*SCORES, sap])
@pytest.mark.parametrize(
    ("codes", "factors", "said"),
    [
        (torch.rand(8, 2), torch.zeros(8, 2).long(), "one value"),
        (torch.rand(8, 2), torch.arange(14).view(7, 2), "of the same images"),
        (torch.rand(8), torch.arange(8), "of the same images"),
        (torch.full((8, 2), torch.nan), torch.arange(16).view(8, 2), "not finite"),
        (torch.rand(8, 2), torch.rand(8, 2), "whole numbers"),
    ],
)
def test_what_cannot_be_scored_is_told(
    score: Callable[[Tensor, Tensor], float], codes: Tensor, factors: Tensor, said: str
) -> None:
    with pytest.raises(GenrobustError, match=said):
        score(codes, factors)

"""The rule for what need not be a picture of its source, such as an anomaly detector's error."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust.data import load_images
from genrobust.errors import GenrobustWarning
from genrobust.records.record import Record

EPS = 0.04
#: The mean squared error above which an image is an anomaly.
THRESHOLD = 0.0043
#: More of the first: to a judge of errors each image itself is a large one, an anomaly.
NORMAL, ANOMALIES = 16, 12


class Residual(nn.Module):
    """The error of a linear autoencoder of zeros and ones, shifted into [0, 1]."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        images = load_images("digits", "train")
        ids = range(len(images))
        flat = images.take(ids)[images.labels_of(ids) <= 1].flatten(1)
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("basis", torch.linalg.svd(flat - flat.mean(0))[2][:16])

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, x: Tensor) -> Tensor:
        code = (x.flatten(1) - self.mean) @ self.basis.T
        return ((code @ self.basis + self.mean).view_as(x).clamp(0, 1) - x + 1) / 2


class AlwaysAnomalous(Residual):
    """An error that is large whatever the image is."""

    def decode(self, x: Tensor) -> Tensor:
        return 0.9 + 0.01 * super().decode(x)


def above(error: Tensor) -> Tensor:
    """How far the error is above the threshold, in logarithms, (B,)."""
    return ((2 * error - 1).square().flatten(1).mean(1) / THRESHOLD).clamp(min=1e-6).log()


class Detector(nn.Module):
    def forward(self, error: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(error)), above(error)], 1)


def pictures() -> tuple[Tensor, Tensor]:
    """Normal images and anomalies, with labels."""
    images = load_images("digits", "test")
    ids = range(len(images))
    x, labels = images.take(ids), images.labels_of(ids)
    both = torch.cat([x[labels <= 1][:NORMAL], x[labels > 1][:ANOMALIES]])
    return both, torch.tensor([0] * NORMAL + [1] * ANOMALIES)


def bench(model: nn.Module, rule: str) -> Record:
    return genrobust.bench(
        model,
        data=pictures(),
        sources=NORMAL + ANOMALIES,
        judge=[f"{Path(__file__)}:Detector"],
        rule=rule,
        eps=[EPS],
    )


@pytest.fixture(scope="module")
def record() -> Record:
    """That of the detector, during which nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", GenrobustWarning)
        return bench(Residual(), "single-output")


def standing(model: Residual) -> float:
    """The share that an attack on the error itself leaves standing."""
    x, labels = pictures()
    away = 1 - 2 * labels
    right, change = torch.ones(len(x), dtype=torch.bool), torch.zeros_like(x)
    for _ in range(200):
        attacked = (x + change).clamp(0, 1).requires_grad_()
        margin = above(model.decode(attacked))
        right &= (margin > 0).long() == labels
        (slope,) = torch.autograd.grad((away * margin).sum(), attacked)
        moved = (attacked.detach() + EPS / 15 * slope.sign()).clamp(0, 1)
        change = (moved - x).clamp(-EPS, EPS)
    return float(right.float().mean())


def test_a_detector_falls_as_by_an_attack_on_its_error(record: Record) -> None:
    expected = standing(Residual())
    assert 0 < expected < record.scores.clean_accuracy.value
    assert abs(record.scores.per_eps[0].robust_accuracy.value - expected) <= 1 / (
        NORMAL + ANOMALIES
    )


@pytest.mark.slow
def test_that_an_error_is_no_picture_is_no_flag(record: Record) -> None:
    assert record.flags == ()
    assert record.scores.damage is None
    with pytest.warns(GenrobustWarning, match="recognises 43% of the sources themselves"):
        judged = bench(Residual(), "single")
    assert {flag.name for flag in judged.flags} == {"does not reconstruct"}
    assert judged.scores.per_eps == record.scores.per_eps


def test_false_alarms_and_evasion_are_told_apart(record: Record) -> None:
    pairs = record.scores.per_eps[0].as_ignore_target_pairs
    assert pairs is not None
    assert pairs.n[0][1] + pairs.n[1][0] == record.scores.eligible
    assert None not in (pairs.rate[0][1], pairs.rate[1][0])


@pytest.mark.slow
def test_an_error_that_says_the_same_of_all_images_is_flagged() -> None:
    flagged = {flag.name for flag in bench(AlwaysAnomalous(), "single-output").flags}
    assert "classes are lost" in flagged

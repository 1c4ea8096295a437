"""AUDDC against published curves, scikit-learn and closed forms."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc
from torch import Tensor

import genrobust
from genrobust import GenrobustError, metrics

LinearBuilder = Callable[[Tensor, Tensor], genrobust.GenerativeModel]

CURVES_2016 = Path(__file__).parents[2] / "shared" / "reference" / "distortion_curves_2016.csv"


def curve(u: list[float], v: list[float]) -> metrics.DistortionCurve:
    """The curve whose normalised points are these, of a pair with round distances."""
    noise, moved = torch.tensor(u, dtype=torch.float64), torch.tensor(v, dtype=torch.float64)
    one = torch.ones_like(noise)
    return metrics.DistortionCurve(4 * noise, 2 + 3 * moved, 4 * one, 2 * one, 5 * one)


def test_the_published_curves_have_the_published_areas() -> None:
    if not CURVES_2016.is_file():
        pytest.skip("needs the published distortion curves, which do not ship with genrobust")
    columns = (
        *("noise_dist", "adv_dist", "orig_target_dist"),
        *("target_recon_dist", "orig_target_recon_dist"),
    )
    points: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    with CURVES_2016.open() as file:
        for row in csv.DictReader(file):
            points[row["model"], row["pair"]].append([float(row[c]) for c in columns])
    areas = defaultdict(list)
    for (model, _), rows in points.items():
        values = torch.tensor(rows, dtype=torch.float64)
        areas[model].append(metrics.auddc(metrics.DistortionCurve(*values.T)))
    assert {model: len(found) for model, found in areas.items()} == {
        "mnist_vae": 25,
        "mnist_ae": 25,
    }
    assert round(float(np.mean(areas["mnist_vae"])), 3) == 0.387
    assert round(float(np.mean(areas["mnist_ae"])), 3) == 0.333
    assert round(float(np.std(areas["mnist_vae"], ddof=1)), 3) == 0.077
    assert round(float(np.std(areas["mnist_ae"], ddof=1)), 3) == 0.055


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(-0.5, 1.5)), min_size=1, max_size=20))
def test_the_area_is_scikit_learns(points: list[tuple[float, float]]) -> None:
    kept = sorted((p for p in points if 0 <= p[0] <= 1), key=lambda p: p[0])
    measured = curve([p[0] for p in points], [p[1] for p in points])
    if not kept:
        with pytest.raises(GenrobustError, match="weaker attacks"):
            metrics.auddc(measured)
        return
    u, v = [p[0] for p in kept], [p[1] for p in kept]
    expected = auc([*u, u[-1], 1.0], [*v, min(v), min(v)])
    assert metrics.auddc(measured) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("u", "v", "area"),
    [
        ([0.0, 0.5, 1.0], [1.0, 1.0, 1.0], 1.0),  # never moves
        ([0.0, 0.5, 1.0], [0.0, 0.0, 0.0], 0.0),  # matches at once
        ([0.0, 1.0], [1.0, 0.0], 0.5),  # moves in proportion
        ([1.0, 0.0], [0.0, 1.0], 0.5),  # in any order
        ([0.0, 0.5], [1.0, 0.0], 0.25),  # and stays where it got
        ([0.0, 0.5, 3.0], [1.0, 0.5, 0.0], 0.625),  # what lies beyond 1 does not count
        ([0.5], [1.0], 0.5),  # as published, without an anchor at 0
    ],
)
def test_the_area_of_simple_curves(u: list[float], v: list[float], area: float) -> None:
    assert metrics.auddc(curve(u, v)) == pytest.approx(area)


def test_curves_of_a_linear_model_are_known(linear_vae: LinearBuilder) -> None:
    """x_hat = 1/2 + x / 2 takes 0 to 0.5, 0.8 to 0.9 and 1 to 1."""
    half = linear_vae(torch.eye(16), torch.eye(16) / 2)
    x = torch.zeros(2, 1, 4, 4)
    x_target = torch.tensor([0.8, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    sweep = torch.stack([s * x_target for s in (0.0, 0.25, 0.5, 1.0)])
    first, second = metrics.distortion_curves(half, x, x_target, sweep)
    assert torch.allclose(first.adv_to_target, 4 * torch.tensor([0.3, 0.2, 0.1, 0.1]))
    expected = {first: [1.0, 0.5, 0.0, 0.0], second: [1.0, 0.75, 0.5, 0.0]}
    for found, moved in expected.items():
        u, v = found.normalised()
        assert torch.allclose(u, torch.tensor([0.0, 0.25, 0.5, 1.0]).double(), atol=1e-6)
        assert torch.allclose(v, torch.tensor(moved).double(), atol=1e-6)
    assert metrics.auddc(first) == pytest.approx(0.25, abs=1e-6)
    assert metrics.auddc(second) == pytest.approx(0.5, abs=1e-6)


def test_pairs_on_which_nothing_can_be_measured_are_refused() -> None:
    one, two = torch.ones(2), torch.full((2,), 2.0)

    def build(*distances: Tensor) -> metrics.DistortionCurve:
        return metrics.DistortionCurve(*distances)

    with pytest.raises(GenrobustError, match="one image"):
        build(one, one, 0 * one, one, two)
    with pytest.raises(GenrobustError, match="nothing to gain"):
        build(one, one, one, two, two)
    for wrong in (torch.nan, torch.inf, -1.0):
        with pytest.raises(GenrobustError, match="noise holds a number that is negative, NaN or"):
            build(torch.tensor([0.0, wrong]), one, one, one, two)
    with pytest.raises(GenrobustError, match="adv_to_target holds"):
        build(one, torch.nan * one, one, one, two)
    with pytest.raises(GenrobustError, match="one shape"):
        build(one, one[:1], one, one, two)
    with pytest.raises(GenrobustError, match="T at least 1"):
        build(*(t[:0] for t in (one, one, one, one, two)))


def test_the_area_is_the_function_of_its_name() -> None:
    assert callable(genrobust.metrics.auddc)

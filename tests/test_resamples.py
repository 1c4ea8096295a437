"""One set of resamples a suite: what records, curves and boards draw are the same sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from leaderboard_entries import read_entries
from scipy.stats import bootstrap

from genrobust.board.board import Contender, make_board, rescored
from genrobust.outcomes.scores import mean
from genrobust.records import statistics
from genrobust.runner import curve
from genrobust.seeding import seed_of
from genrobust.site.build import contender
from genrobust.suites import Suite, load_suite

DIGITS = load_suite("digits-v1")  # of which there are entries
ENTRIES = Path(__file__).parents[1] / "leaderboard" / "entries"


def of_scipy(values: np.ndarray, suite: Suite) -> tuple[float, float, np.ndarray]:
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=suite.resamples,
        confidence_level=suite.confidence,
        method="percentile",
        rng=np.random.default_rng(seed_of("bootstrap", suite.name, suite.version)),
    )
    interval = found.confidence_interval
    return float(interval.low), float(interval.high), found.bootstrap_distribution


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30).filter(lambda v: len(set(v)) > 1),
    st.sampled_from([2, 249, 250, 251, 600]),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_the_resamples_are_scipys_to_the_bit(
    values: list[float], resamples: int, confidence: float
) -> None:
    suite = DIGITS.model_copy(update={"resamples": resamples, "confidence": confidence})
    data = np.array(values)
    [means] = statistics.resampled_means(data[None], suite)
    assert means.shape == (resamples,)
    low, high, expected = of_scipy(data, suite)
    assert np.array_equal(means, expected)
    [found] = statistics.estimates(data[None], suite)
    assert (found.low, found.high) == (low, high)
    assert (found.value, found.n) == (float(data.mean()), len(data))


def test_rows_are_resampled_together() -> None:
    rows = np.random.default_rng(0).random((3, 40))
    means = statistics.resampled_means(rows, DIGITS)
    for row, alone in zip(rows, means, strict=True):
        assert np.array_equal(statistics.resampled_means(row[None], DIGITS)[0], alone)
    assert np.array_equal(statistics.resampled_means(rows[::-1], DIGITS), means[::-1])


@pytest.mark.parametrize("values", [[0.1], [0.1] * 7, [0.0] * 90])
def test_what_does_not_differ_has_no_width(values: list[float]) -> None:
    [found] = statistics.estimates(np.array([values]), DIGITS)
    assert found.low == found.value == found.high
    assert statistics.estimates(np.zeros((0, 3)), DIGITS) == []


@pytest.fixture(scope="module")
def submitted() -> list[Contender]:
    return [contender(entry) for entry in read_entries(ENTRIES)]


@pytest.mark.slow
def test_a_board_gives_a_record_its_own_intervals(submitted: list[Contender]) -> None:
    for one in submitted:
        assert one.outcomes is not None
        own, again = one.record.scores, rescored(one.record, one.outcomes.worst).scores
        assert again.robust_area == own.robust_area
        for before, after in zip(own.per_eps, again.per_eps, strict=True):
            assert after.robust_accuracy == before.robust_accuracy
            assert after.as_ignore_target == before.as_ignore_target
            assert after.as_target == before.as_target


def test_a_difference_from_a_model_that_never_stands_is_its_own_interval(
    submitted: list[Contender],
) -> None:
    first = next(one for one in submitted if one.record.suite == DIGITS)
    assert first.outcomes is not None
    fallen = first.outcomes.model_copy(update={"eligible": (False,) * 90})
    other = Contender("none", "none", first.record, fallen, None)
    paired = make_board([first, other]).paired
    found = paired.difference(*paired.ids)
    area = first.record.scores.robust_area
    assert area is not None
    signed = [found.value, found.low, found.high]
    assert sorted(map(abs, signed)) == pytest.approx(sorted([area.value, area.low, area.high]))


def test_a_curve_and_a_record_draw_alike(small_suite: Suite) -> None:
    distance = torch.tensor([0.0, 0.01, 0.03, 0.08, 0.3, torch.inf], dtype=torch.float64)
    at = curve._at(0.05, distance, small_suite)
    stands = distance > 0.05
    assert at.robust_accuracy == mean(stands, small_suite)
    low, high, _ = of_scipy(stands.double().numpy(), small_suite)
    assert (at.robust_accuracy.low, at.robust_accuracy.high) == (low, high)

"""Success rates against counts in plain Python, and curves against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from genrobust import GenrobustError, metrics

CLASSES = 4


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Source, predicted (-1 for no verdict) and target labels, and who is eligible."""
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, CLASSES - 1),
                st.integers(-1, CLASSES - 1),
                st.integers(1, CLASSES - 1),
                st.booleans(),
            ),
            min_size=1,
            max_size=30,
        )
    )
    source = torch.tensor([r[0] for r in rows])
    target = (source + torch.tensor([r[2] for r in rows])) % CLASSES
    return source, torch.tensor([r[1] for r in rows]), target, torch.tensor([r[3] for r in rows])


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits) if hits else math.nan


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or a == pytest.approx(b)


@given(outcomes())
def test_rates_are_those_counted_one_by_one(given_outcomes: tuple[Tensor, ...]) -> None:
    s, p, t, e = given_outcomes
    rows = [(a, b, c) for a, b, c, d in zip(*(v.tolist() for v in (s, p, t, e)), strict=True) if d]
    wrong = [(a, b, c) for a, b, c in rows if b not in (a, -1)]
    counted = [
        (metrics.as_ignore_target, rows, lambda a, b, c: b not in (a, -1)),
        (metrics.as_target, rows, lambda a, b, c: b == c),
        (metrics.as_target_of_wrong, wrong, lambda a, b, c: b == c),
    ]
    for metric, chosen, hit in counted:
        rate = metric(s, p, t, e, classes=CLASSES)
        assert same(rate.pooled, share([hit(*row) for row in chosen]))
        per_pair = []
        for i in range(CLASSES):
            for j in range(CLASSES):
                hits = [hit(*row) for row in chosen if (row[0], row[2]) == (i, j)]
                assert int(rate.n[i, j]) == len(hits)
                assert same(float(rate.pairs[i, j]), share(hits))
                per_pair += [share(hits)] if hits else []
        assert same(rate.macro, sum(per_pair) / len(per_pair) if per_pair else math.nan)


@given(outcomes())
def test_the_rates_hang_together(given_outcomes: tuple[Tensor, ...]) -> None:
    s, p, t, e = given_outcomes
    ignore, target, of_wrong = (
        metric(s, p, t, e, classes=CLASSES)
        for metric in (metrics.as_ignore_target, metrics.as_target, metrics.as_target_of_wrong)
    )
    assert bool((target.hits <= ignore.hits).all())
    assert torch.equal(of_wrong.n, ignore.hits)
    assert torch.equal(of_wrong.hits, target.hits)
    robust = metrics.robust_accuracy(s, p, e)
    assert robust == pytest.approx(float(e.double().mean()) - int(ignore.hits.sum()) / len(s))


def test_a_source_that_is_its_own_target_is_refused_unless_left_out() -> None:
    labels, other = torch.tensor([0, 1]), torch.tensor([0, 0])
    with pytest.raises(GenrobustError, match="own class as target"):
        metrics.as_target(labels, labels, other)
    rate = metrics.as_target(labels, labels, other, torch.tensor([False, True]))
    assert int(rate.n.sum()) == 1


def test_labels_outside_the_classes_are_refused() -> None:
    labels, target = torch.tensor([0, 3]), torch.tensor([1, 0])
    with pytest.raises(GenrobustError, match="from 0 to 1"):
        metrics.as_target(labels, labels, target, classes=2)
    with pytest.raises(GenrobustError, match="one shape"):
        metrics.as_target(labels, labels[:1], target)
    with pytest.raises(GenrobustError, match="no sources"):
        metrics.robust_accuracy(labels[:0], labels[:0])


def test_a_straight_fall_has_half_the_area_and_its_half_in_the_middle() -> None:
    eps = [0.1, 0.2, 0.3, 0.4]
    falling = [0.75, 0.5, 0.25, 0.0]
    assert metrics.robust_area(eps, falling, 1.0) == pytest.approx(0.5)
    assert metrics.eps50(eps, falling, 1.0) == pytest.approx(0.2)
    assert metrics.robust_area(eps, [0.8] * 4, 0.8) == pytest.approx(0.8)
    assert metrics.eps50(eps, [0.8] * 4, 0.8) == math.inf
    assert metrics.eps50(eps, [0.0] * 4, 0.6) == pytest.approx(0.05)
    assert metrics.eps50(eps, [0.0] * 4, 0.0) == 0


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
    st.floats(0.01, 1),
    st.floats(0.1, 10),
)
def test_radii_in_other_units_change_eps50_alone(
    falls: list[float], clean: float, scale: float
) -> None:
    accuracy = [clean * math.prod(falls[: k + 1]) for k in range(len(falls))]
    eps = [0.1 * (k + 1) for k in range(len(falls))]
    scaled = [scale * e for e in eps]
    area, half = metrics.robust_area(eps, accuracy, clean), metrics.eps50(eps, accuracy, clean)
    assert metrics.robust_area(scaled, accuracy, clean) == pytest.approx(area)
    assert metrics.eps50(scaled, accuracy, clean) == pytest.approx(scale * half)
    assert accuracy[-1] - 1e-12 <= area <= clean + 1e-12
    assert (half == math.inf) == (accuracy[-1] > clean / 2)


@pytest.mark.parametrize(
    ("eps", "accuracy", "clean", "message"),
    [
        ([0.1], [0.5, 0.4], 1.0, "as many of each"),
        ([], [], 1.0, "as many of each"),
        ([0.2, 0.1], [0.5, 0.4], 1.0, "increasing"),
        ([0.0, 0.1], [0.5, 0.4], 1.0, "above 0"),
        ([0.1], [1.5], 1.0, "from 0 to 1"),
        ([0.1, 0.2], [0.8, 0.5], 0.3, "above the clean one"),
    ],
)
def test_impossible_curves_are_refused(
    eps: list[float], accuracy: list[float], clean: float, message: str
) -> None:
    for metric in (metrics.robust_area, metrics.eps50):
        with pytest.raises(GenrobustError, match=message):
            metric(eps, accuracy, clean)

"""The charts of trade-offs: what is drawn, and that labels can be read."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from leaderboard_entries import Fake
from site_parts import board_of

from genrobust.site.tradeoffs import Label, ticks, trade_offs


@given(
    st.floats(-1e6, 1e6, allow_nan=False), st.floats(0, 1e6, allow_nan=False, allow_subnormal=False)
)
def test_ticks_enclose_what_they_measure(low: float, spread: float) -> None:
    high = low + spread
    found = ticks(low, high)
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 8
    assert found == sorted(set(found))


def test_a_model_without_a_measure_is_named(tmp_path: Path) -> None:
    fakes = [Fake("known", 0.5, 1), Fake("unknown", 0.3, 2, scores={"total_correlation": None})]
    charts = {chart.key: chart for chart in trade_offs(board_of(fakes, tmp_path))}
    assert [row.contender.id for row in charts["disentanglement"].missing] == ["unknown"]
    assert len(charts["quality"].dots) == 2
    assert len(charts["disentanglement"].dots) == 1


def extent(label: Label) -> tuple[float, float]:
    """Where a label begins and ends, its letters taken as 6.6 wide."""
    width = 6.6 * len(label.text)
    start = label.x - {"start": 0, "middle": width / 2, "end": width}[label.anchor]
    return start, start + width


def test_labels_do_not_overlap(tmp_path: Path) -> None:
    fakes = [Fake(f"model-{i}", 0.5, i) for i in range(12)]
    for chart in trade_offs(board_of(fakes, tmp_path)):
        labels = [dot.label for dot in chart.dots if dot.label is not None]
        assert labels
        for i, one in enumerate(labels):
            for other in labels[i + 1 :]:
                apart = abs(one.y - other.y) >= 15
                (_, end), (start, _) = sorted([extent(one), extent(other)])
                assert apart or end <= start + 1

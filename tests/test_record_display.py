"""A record shown: in a terminal, a notebook, a table, and on matplotlib's axes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from genrobust import Record
from genrobust.errors import GenrobustError
from genrobust.models.checks.fidelity import Fidelity
from genrobust.records.record import Flag

mpl.use("Agg")
ENTRY = Path(__file__).parent.parent / "leaderboard" / "entries" / "digits-v1" / "zoo-jointvae"


@pytest.fixture(scope="module")
def record() -> Record:
    return Record.load(ENTRY)


def test_a_record_is_loaded_from_its_folder_or_its_file(record: Record, tmp_path: Path) -> None:
    assert Record.load(ENTRY / "record.json") == record
    assert Record.load(str(ENTRY)) == record
    with pytest.raises(GenrobustError, match=r"there is no record in .*none"):
        Record.load(tmp_path / "none")
    (tmp_path / "record.json").write_text('{"schema_version": 3}')
    with pytest.raises(GenrobustError, match=r"no record of this version .*official"):
        Record.load(tmp_path)


def test_it_says_its_scores_in_three_lines(record: Record) -> None:
    lines = repr(record).splitlines()
    assert len(lines) == 3
    assert lines[0] == "jointvae on digits v1, official: 90 sources, clean 94.4%"
    assert all(f"{at.robust_accuracy.value:.1%} at {at.eps:g}" in lines[1]
               for at in record.scores.per_eps)  # fmt: skip
    assert lines[2] == "no flags"
    flagged = record.model_copy(
        update={
            "flags": (Flag(name="gradients vanish", evidence="", value=1.0, limit=0.1),) * 2,
            "official": False,
            "deviations": ("--limit 20",),
        }
    )
    assert "not official (--limit 20)" in repr(flagged)
    assert repr(flagged).endswith("\nNOT RELIABLE: gradients vanish")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"flags": (Flag(name="gradients vanish", evidence="", value=1.0, limit=0.1),) * 2},
            "gradients vanish",
        ),
        ({"fidelity": Fidelity("differs", 0.1, "the code is read otherwise")}, "may be misread"),
    ],
)
def test_what_gives_the_scores_on_says_that_they_are_not_reliable(
    record: Record, changes: dict[str, object], said: str
) -> None:
    pytest.importorskip("pandas")
    doubtful = record.model_copy(update=changes)
    assert repr(doubtful).endswith(f"\nNOT RELIABLE: {said}")
    assert set(doubtful.to_pandas()["flags"]) == {said}
    assert set(record.to_pandas()["flags"]) == {""}
    assert doubtful.plot_curve().lines[0].get_label() == "robust accuracy (not reliable)"
    assert doubtful.plot_curve(label="mine").lines[0].get_label() == "mine (not reliable)"
    assert record.compare(doubtful).flags == (said,)
    plt.close("all")


def test_a_notebook_shows_a_table_and_the_curve_and_no_markup_of_others(record: Record) -> None:
    evil = record.model_copy(
        update={"model": record.model.model_copy(update={"name": "<script>alert(1)</script>"})}
    )
    before = plt.get_fignums()
    shown = evil._repr_html_()
    assert "<script" not in shown
    assert shown.count("<tr>") == 1 + len(record.suite.eps)
    assert ElementTree.fromstring(shown[shown.index("<svg") :]).tag.endswith("svg")
    assert plt.get_fignums() == before, "a figure was left open"


def test_a_table_has_a_row_a_radius(record: Record) -> None:
    pytest.importorskip("pandas")
    table = record.to_pandas()
    assert table["eps"].tolist() == list(record.suite.eps)
    at = record.scores.per_eps[2]
    row = table[table["eps"] == at.eps].iloc[0]
    assert row["robust_accuracy"] == at.robust_accuracy.value
    assert (row["robust_accuracy_low"], row["robust_accuracy_high"]) == (
        at.robust_accuracy.low,
        at.robust_accuracy.high,
    )
    assert row["linf"] == at.linf


def test_the_curve_is_what_was_measured(record: Record) -> None:
    ax = record.plot_curve()
    robust, *rates = ax.lines
    assert [line.get_label() for line in ax.lines] == [
        "robust accuracy",
        "as_ignore_target",
        "as_target",
    ]
    eligible = record.scores.eligible / record.scores.sources
    assert list(robust.get_xdata()) == [0.0, *record.suite.eps]
    measured = [at.robust_accuracy.value for at in record.scores.per_eps]
    assert list(robust.get_ydata()) == [eligible, *measured]
    assert all(line.get_ydata()[0] == 0 for line in rates)
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 3
    assert ax.get_xlabel() == "eps (L∞)"
    again = record.plot_curve(record.plot_curve(label="one"), label="other")
    assert [line.get_label() for line in again.lines] == ["one", "other"]
    record.plot_curve(ax).figure.savefig(io.BytesIO(), format="pdf")
    plt.close("all")


def test_pairs_are_drawn_at_a_radius_that_was_measured(record: Record) -> None:
    ax = record.plot_pairs(
        0.06,
        classes=[f"class {c}" for c in range(10)],
    )
    drawn = ax.images[0].get_array()
    rates = record.scores.per_eps[2].as_target_pairs.rate
    assert [[bool(m) for m in row] for row in drawn.mask.tolist()] == [
        [rate is None for rate in row] for row in rates
    ]
    assert drawn.filled(-1).tolist() == [[-1 if r is None else r for r in row] for row in rates]
    assert [tick.get_text() for tick in ax.get_xticklabels()][3] == "class 3"
    with pytest.raises(GenrobustError, match=r"eps is 0.5, .* choose one of 0.02, 0.04"):
        record.plot_pairs(0.5)
    in_words: Any = "0.06"
    with pytest.raises(GenrobustError, match=r"eps is '0\.06'; give a number"):
        record.plot_pairs(in_words)
    of_numpy = record.plot_pairs(float(np.float32(0.06))).images[0].get_array()
    assert of_numpy.filled(-1).tolist() == drawn.filled(-1).tolist()
    plt.close("all")

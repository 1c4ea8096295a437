"""The site in a real browser: what people do with it, by mouse, keyboard, phone and in the dark."""

from __future__ import annotations

import csv
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from leaderboard_entries import (
    FLAG,
    Fake,
    boards_with_runs,
    build,
    write_entries,
    write_run,
)
from playwright.sync_api import Browser, Page, expect

from genrobust.evidence.entry import Author, Link
from genrobust.site.build import write_files
from genrobust.site.export import FIRST
from genrobust.site.pages import render

pytestmark = pytest.mark.slow

BOARD = "digits-v2/index.html"
EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>\"'<!--"

FAKES = (
    Fake("strong", 0.7, 1, depth="re-attack", submission={"family": "beta-VAE"}),
    Fake("second", 0.6, 2, submission={"family": "beta-VAE"}),
    Fake("third", 0.5, 3, depth="schema", attacks=(Fake("search", 0.35, 31),)),
    Fake("weak", 0.2, 4, depth=None, submission={"authors": (Author(name="Zoë Zimmer"),)}),
    Fake("flagged", 0.9, 5, flags=(FLAG,)),
    Fake("failed", 0.95, 6, passed=False),
)
#: Every kind of page.
KINDS = {
    "home": "index.html",
    "board": BOARD,
    "compare": f"{BOARD}#pick=strong,third,yours/mine&view=compare",
    "entry": "digits-v2/third/index.html",
    "flagged entry": "digits-v2/flagged/index.html",
    "failed entry": "digits-v2/failed/index.html",
    "own run": "digits-v2/yours/mine/index.html",
    "trade-offs": "digits-v2/trade-offs.html",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board with every standing, one's own run among them."""
    root = tmp_path_factory.mktemp("board")
    write_entries(root / "entries", FAKES)
    write_run(root / "runs/mine", Fake("mine", 0.4, 7))
    write_files(root / "site", render(boards_with_runs(root / "entries", root / "runs")))
    return root / "site"


Visit = Callable[..., Page]


def names(page: Page) -> list[str]:
    """The models that are shown, from the top."""
    return page.locator("#board tbody tr:visible th a").all_inner_texts()


def values(site: Path) -> dict[str, dict[str, Any]]:
    """The rows of the board's JSON file, by name."""
    rows = json.loads((site / "digits-v2/board.json").read_text())["rows"]
    return {row["name"]: row for row in rows}


def sort_by(page: Page, label: str) -> None:
    page.locator(f'th[data-label="{label}"] button').click()


# ---- Sorting and filtering ----


def test_rows_are_sorted_by_a_column_and_back(visit: Visit, site: Path) -> None:
    page = visit(BOARD)
    by_rank, rows = names(page), values(site)
    sort_by(page, "Clean error")
    errors = [rows[name]["reconstruction_error"] for name in names(page)]
    assert errors == sorted(errors)
    head = page.locator('th[data-key="error"]')
    expect(head).to_have_attribute("aria-sort", "ascending")
    sort_by(page, "Clean error")
    assert [rows[name]["reconstruction_error"] for name in names(page)] == errors[::-1]
    expect(head).to_have_attribute("aria-sort", "descending")
    expect(page.locator("[aria-sort]")).to_have_count(1)
    sort_by(page, "Rank")
    assert names(page) == by_rank


def test_scores_are_sorted_from_the_best_and_doubtful_ones_come_last(
    visit: Visit, site: Path
) -> None:
    page, rows = visit(BOARD), values(site)
    sort_by(page, "Robust area")
    areas = [rows[name]["robust_area"] for name in names(page)]
    assert areas[:5] == sorted(areas[:5], reverse=True)
    assert set(names(page)[5:]) == {"flagged", "failed"}
    sort_by(page, "Robust area")
    assert [rows[name]["robust_area"] for name in names(page)][:5] == areas[:5][::-1]
    assert set(names(page)[5:]) == {"flagged", "failed"}


def test_names_are_sorted_as_words(visit: Visit, site: Path) -> None:
    page = visit(BOARD)
    sort_by(page, "Model")
    assert names(page) == sorted(values(site))


def test_rows_are_filtered_and_the_number_is_announced(visit: Visit) -> None:
    page = visit(BOARD)
    for control, value, left in (
        ("#family", "beta-VAE", {"strong", "second"}),
        ("#verified", "re-attack", {"strong"}),
        ("#verified", "unverified", {"weak", "mine"}),
        ("#flagged", "yes", {"flagged"}),
        ("#whose", "yours", {"mine"}),
    ):
        page.select_option(control, value)
        assert set(names(page)) == left
        expect(page.get_by_role("status")).to_have_text(f"{len(left)} of 7 models")
        page.click("#reset")
        expect(page.get_by_role("status")).to_have_text("7 models")
        assert len(names(page)) == 7


def test_search_takes_words_in_any_order_and_looks_at_authors_and_attacks(visit: Visit) -> None:
    page = visit(BOARD)
    page.fill("#q", "zimmer weak")
    assert names(page) == ["weak"]
    page.fill("#q", "SEARCH")
    assert names(page) == ["third"]
    page.fill("#q", "no such model")
    assert names(page) == []
    expect(page.get_by_role("status")).to_have_text("0 of 7 models")


def test_columns_can_be_chosen(visit: Visit) -> None:
    page = visit(BOARD)
    cells = page.locator("#board tbody tr").first.locator("td:visible, th:visible")
    before = cells.count()
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Clean error").uncheck()
    page.get_by_label("Cost per source").uncheck()
    assert cells.count() == before - 2
    expect(page.locator('th[data-key="error"]')).to_be_hidden()
    page.reload()
    assert cells.count() == before - 2
    page.click("#reset")
    assert cells.count() == before


# ---- Comparing ----


def test_two_models_are_compared_side_by_side(visit: Visit, site: Path) -> None:
    page = visit(BOARD)
    page.get_by_label("Compare strong").check()
    expect(page.locator("#compare-open")).to_be_disabled()
    page.get_by_label("Compare third").check()
    page.click("#compare-open")
    expect(page.locator("#models")).to_be_hidden()
    expect(page.locator("#compare .line:not(.swatch .line)")).to_have_count(2)
    expect(page.locator("#compare .legend li")).to_have_text(["strong", "third"])
    rows, area = values(site), page.locator("#compare-table tr", has_text="Robust area")
    for name, cell in zip(("strong", "third"), area.locator("td").all(), strict=True):
        assert f"{rows[name]['robust_area']:.1%}" in cell.inner_text()
    pictures = page.locator("#compare-pictures img")
    expect(pictures).to_have_count(2)
    assert pictures.evaluate_all("all => all.every((one) => one.naturalWidth === 320)")
    expect(page.locator("#compare-pairs table")).to_have_count(2)
    page.go_back()
    expect(page.locator("#models")).to_be_visible()
    expect(page.get_by_label("Compare third")).to_be_checked()


def test_differences_are_those_of_the_ranks(visit: Visit, site: Path) -> None:
    content = json.loads((site / "digits-v2/board.json").read_text())
    page = visit(f"{BOARD}#pick=third,strong&view=compare")
    found = {(d["first"], d["second"]): d for d in content["robust_area_differences"]}
    three = [found["strong", "third"][key] for key in ("value", "high", "low")]
    said = [f"\N{MINUS SIGN}{100 * part:.1f}%" for part in three]
    row = page.locator("#compare-differences tbody tr")
    expect(row.locator("td").first).to_have_text(f"{said[0]} ({said[1]} to {said[2]})")
    expect(row.locator("td").last).to_have_text("told apart")


def test_matrices_are_those_of_the_entries_page(visit: Visit) -> None:
    def cells(page: Page, table: str) -> list[str]:
        return page.locator(table).first.locator("td").all_text_contents()

    compared = visit(f"{BOARD}#pick=third,strong&view=compare")
    entry = visit("digits-v2/third/index.html")
    for goal, name in (("ignore", "as_ignore_target"), ("target", "as_target")):
        compared.select_option("#goal", goal)
        caption = f'.heat:has(caption:text-is("{name} at eps 0.1"))'
        assert cells(compared, "#compare-pairs .heat") == cells(entry, caption)
    compared.select_option("#eps", "0")
    caption = '.heat:has(caption:text-is("as_target at eps 0.02"))'
    assert cells(compared, "#compare-pairs .heat") == cells(entry, caption)


def test_no_more_than_four_are_compared(visit: Visit) -> None:
    page = visit(BOARD)
    boxes = page.locator("#board .pick input")
    for box in boxes.all()[:4]:
        box.check()
    assert [box.is_disabled() for box in boxes.all()] == [False] * 4 + [True] * 3
    page.click("#compare-open")
    expect(page.locator("#compare .line:not(.swatch .line)")).to_have_count(4)
    expect(page.locator("#compare-differences tbody tr")).to_have_count(6)


# ---- Permalinks ----


def test_an_address_brings_back_what_was_shown(visit: Visit) -> None:
    page = visit(BOARD)
    page.select_option("#verified", "replay")
    page.fill("#q", "Ada")
    sort_by(page, "Robust area")
    page.get_by_label("Compare second").check()
    shown = names(page)
    again = visit(f"{BOARD}#{urlsplit(page.url).fragment}")
    assert names(again) == shown
    expect(again.locator("#q")).to_have_value("Ada")
    expect(again.locator("#verified")).to_have_value("replay")
    expect(again.get_by_label("Compare second")).to_be_checked()
    expect(again.locator('th[data-key="area"]')).to_have_attribute("aria-sort", "descending")


def test_back_and_forward_go_through_what_was_shown(visit: Visit) -> None:
    page = visit(BOARD)
    everything = names(page)
    page.select_option("#family", "beta-VAE")
    filtered = names(page)
    sort_by(page, "Model")
    page.go_back()
    assert names(page) == filtered
    page.go_back()
    assert names(page) == everything
    expect(page.locator("#family")).to_have_value("")
    page.go_forward()
    assert names(page) == filtered


@pytest.mark.parametrize(
    "fragment",
    [
        "q=%3Cimg%20src%3Dx%20onerror%3Dwindow.hacked%3D1%3E",
        "sort=__proto__&order=x&hide=constructor,,&pick=nobody,../../x&view=compare&eps=99",
        "pick=strong,strong&view=compare",
        "%E0%A4%A",
        "main",
    ],
)
def test_an_address_can_do_no_harm(fragment: str, visit: Visit) -> None:
    page = visit(f"{BOARD}#{fragment}")
    assert page.evaluate("window.hacked") is None
    expect(page.locator("#models")).to_be_visible()
    page.click("#reset")
    assert len(names(page)) == 7


# ---- Downloads ----


def download(page: Page, button: str) -> str:
    page.get_by_text("Download", exact=True).click()
    with page.expect_download() as started:
        page.get_by_text(button).click()
    return started.value.path().read_text()


def test_what_is_shown_can_be_saved(visit: Visit, site: Path) -> None:
    page = visit(BOARD)
    assert download(page, "What is shown, as CSV") == (site / "digits-v2/board.csv").read_text()
    page.keyboard.press("Escape")
    page.select_option("#family", "beta-VAE")
    rows = json.loads(download(page, "What is shown, as JSON"))["rows"]
    assert rows == [values(site)[name] for name in ("strong", "second")]


def test_the_files_beside_the_page_can_be_saved(visit: Visit, site: Path) -> None:
    content = download(visit(BOARD), "All, as CSV")
    assert [row["name"] for row in csv.DictReader(content.splitlines())] == list(values(site))


# ---- Keyboard and screen reader ----


def focused(page: Page) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.textContent")


def tab_to(page: Page, wanted: str, most: int = 60) -> None:
    """Press Tab until the element of this id or text has the focus, which must be seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        ring = page.evaluate(
            "(({outlineStyle, outlineWidth}) => outlineStyle !== 'none' && outlineWidth !== '0px')"
            "(getComputedStyle(document.activeElement))"
        )
        assert ring, f"the focus on {focused(page)!r} is not seen"
        if focused(page).strip() == wanted:
            return
    raise AssertionError(f"Tab never reached {wanted!r}")


def test_everything_can_be_done_by_keyboard(visit: Visit) -> None:
    page = visit(BOARD)
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    assert focused(page) == "main"
    tab_to(page, "q")
    page.keyboard.type("Ada")
    assert "weak" not in names(page)
    tab_to(page, "Columns")
    page.keyboard.press("Enter")
    tab_to(page, "", most=1)
    page.keyboard.press("Space")
    expect(page.locator('th[data-key="area"]')).to_be_hidden()
    page.keyboard.press("Escape")
    assert focused(page) == "Columns"
    tab_to(page, "Model")
    page.keyboard.press("Enter")
    assert names(page) == sorted(names(page))
    assert focused(page) == "Model"  # not thrown back to the top
    picked = []
    while len(picked) < 2:
        page.keyboard.press("Tab")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')") or ""
        if label.startswith("Compare "):
            page.keyboard.press("Space")
            picked.append(label)
    tab_to(page, "compare-open")
    page.keyboard.press("Enter")
    assert focused(page) == "compare-title"
    expect(page.locator("#compare-table")).to_be_visible()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#models")).to_be_visible()
    assert focused(page) == "compare-open"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing(kind: str, scheme: str, visit: Visit) -> None:
    page = visit(KINDS[kind], color_scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    # What is no matter of colours is the same in the dark.
    only = {} if scheme == "light" else {"runOnly": ["color-contrast", "link-in-text-block"]}
    found = Axe().run(page, options={"resultTypes": ["violations"], **only})
    assert found.violations_count == 0, found.generate_report()


def test_the_table_is_one_for_a_screen_reader(visit: Visit) -> None:
    page = visit(BOARD)
    table = page.get_by_role("table", name=re.compile("Shares with 95% intervals"))
    expect(table.get_by_role("rowheader")).to_have_count(7)
    expect(table.get_by_role("columnheader", name="Robust area", exact=True)).to_have_count(1)
    expect(page.get_by_role("region", name="Table of models")).to_be_visible()
    expect(page.get_by_role("navigation", name="Board")).to_be_visible()


# ---- Phone, dark, print, without a script ----


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_is_wider_than_a_phone(kind: str, visit: Visit) -> None:
    page = visit(KINDS[kind], viewport={"width": 320, "height": 800}, has_touch=True)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    for width in (320, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if kind == "board":
            region = page.locator(".board-scroll")
            assert region.evaluate("(one) => one.scrollWidth > one.clientWidth")
            region.evaluate("(one) => one.scrollTo(400, 0)")
            place = page.locator("#board tbody th").first.bounding_box()
            assert place is not None
            assert 0 <= place["x"] < width / 2  # the name stays in view


def brightness(page: Page) -> float:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_dark_follows_the_system_until_one_chooses(visit: Visit) -> None:
    page = visit(BOARD, color_scheme="dark")
    assert brightness(page) < 60
    expect(page.locator("#theme")).to_have_text("Light mode")
    page.click("#theme")
    assert brightness(page) > 200
    for _ in range(20):  # a busy browser stores it a moment later
        page.reload()
        if brightness(page) > 200:
            break
        page.wait_for_timeout(500)
    assert brightness(page) > 200
    page.get_by_role("link", name="Trade-offs").click()
    page.wait_for_url("**/trade-offs.html")
    assert brightness(page) > 200


def test_dark_works_where_nothing_may_be_stored(visit: Visit, browser: Browser, site: Path) -> None:
    page = visit("index.html", color_scheme="light")
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no') }})"
    )
    page.reload()
    page.click("#theme")
    assert brightness(page) < 60


def test_without_a_script_the_table_is_whole_and_nothing_is_dead(visit: Visit) -> None:
    page = visit(BOARD, java_script_enabled=False)
    assert len(names(page)) == 7
    for control in ("#tools", "#theme", "#picked", "#compare"):
        expect(page.locator(control)).to_be_hidden()
    expect(page.locator("#board .pick input:visible")).to_have_count(0)
    page.get_by_role("link", name="strong").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("strong")


# ---- What comes and goes over the wire ----


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_load_is_small(kind: str, visit: Visit, site: Path) -> None:
    page = visit("index.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site.as_uri()}/{KINDS[kind]}", wait_until="networkidle")
    files = [Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")]
    assert files
    assert sum(path.stat().st_size for path in files) < 300_000


def test_a_long_board_goes_on_on_a_page_of_all(visit: Visit, tmp_path: Path) -> None:
    count = FIRST + 5
    fakes = [Fake(f"m{i:02}", 0.9 - 0.01 * i, i, pictures=False) for i in range(count)]
    build(write_entries(tmp_path / "entries", fakes), tmp_path / "site")
    root = (tmp_path / "site").as_uri()
    page = visit(BOARD, root)
    expect(page.locator("#board tbody tr")).to_have_count(FIRST)
    page.fill("#q", "m0")
    expect(page.locator("#status")).to_have_text(f"10 of {FIRST} models")
    page.click("#all")
    expect(page.locator("#board tbody tr")).to_have_count(count)
    low, lower = f"m{count - 2}", f"m{count - 1}"
    page = visit(f"{BOARD}#pick={low},{lower}&view=compare", root)
    expect(page.locator("#compare .line:not(.swatch .line)")).to_have_count(2)
    assert page.url.endswith(f"all.html#pick={low},{lower}&view=compare")
    expect(page.locator("#compare-differences tbody td").first).to_have_text("not on this page")


def test_it_works_from_a_server_too(visit: Visit, site: Path) -> None:
    with served(site) as root:
        page = visit(KINDS["compare"], root=root)
        pictures = page.locator("#compare-pictures img")
        expect(pictures).to_have_count(2)
        assert pictures.evaluate_all("all => all.every((one) => one.naturalWidth > 0)")


def test_what_submitters_wrote_runs_nowhere(
    visit: Visit, site: Path, tmp_path: Path, browser: Browser
) -> None:
    said = {
        "name": EVIL[:80],
        "authors": (Author(name=EVIL),),
        "family": EVIL[:40],
        "note": f"{EVIL} [click](javascript:window.hacked=3)",
        "links": (Link(label=EVIL[:60], url=f"https://example.org/{EVIL}"),),
    }
    flag = FLAG.model_copy(update={"name": EVIL, "evidence": EVIL})
    fakes = [Fake("evil", 0.5, 1, submission=said), Fake("other", 0.4, 2, flags=(flag,))]
    build(write_entries(tmp_path / "entries", fakes), tmp_path / "site")
    root = (tmp_path / "site").as_uri()
    compare = f"{BOARD}#pick=evil,other&view=compare"
    for path in ("index.html", compare, "digits-v2/evil/index.html", "digits-v2/trade-offs.html"):
        page = visit(path, root=root)
        assert page.evaluate("window.hacked") is None
        assert EVIL[:80] in page.inner_text("main")
        assert page.locator("main img[src=x], main script:not([type])").count() == 0
    page = visit(BOARD, root=root)
    page.select_option("#family", EVIL[:40])
    assert names(page) == [EVIL[:80]]

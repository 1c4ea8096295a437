"""Recipes on a board in a real browser: opened to their seeds, sorted, filtered and read aloud."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from leaderboard_entries import Fake, build, write_entries
from playwright.sync_api import Page, expect
from test_recipes import SEEDS, seed
from test_site_browser import BOARD, Visit, sort_by

pytestmark = pytest.mark.slow

FAKES = [
    *SEEDS,
    *(seed(n, 0.2 + n / 20, "plain", family="VAE") for n in range(2)),
    Fake("better", 0.6, 7),
    Fake("worse", 0.4, 8),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipes")
    build(write_entries(root / "entries", FAKES), root / "site")
    return root / "site"


def shown(page: Page) -> list[str]:
    """All lines from the top: recipes in brackets."""
    lines = page.locator("#board tbody tr:visible")
    return [
        f"[{line.locator('.opens').inner_text()}]"
        if "recipe" in (line.get_attribute("class") or "")
        else line.locator("th a").inner_text()
        for line in lines.all()
    ]


def test_a_recipe_is_opened_to_its_seeds_by_keyboard_and_the_address_says_so(
    visit: Visit,
) -> None:
    page = visit(BOARD)
    assert shown(page) == ["better", "[beta 4]", "worse", "[plain]"]
    button = page.get_by_role("button", name="beta 4")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(button).to_be_focused()
    seeds = [one.slug.replace("-", " ") for one in SEEDS]
    assert shown(page) == ["better", "[beta 4]", *seeds, "worse", "[plain]"]
    assert "open=recipe-" in page.url
    page.reload()
    assert shown(page) == ["better", "[beta 4]", *seeds, "worse", "[plain]"]
    page.get_by_role("button", name="beta 4").press("Enter")
    assert shown(page) == ["better", "[beta 4]", "worse", "[plain]"]


def test_seeds_stay_below_their_recipe_in_any_order(visit: Visit) -> None:
    page = visit(BOARD)
    page.get_by_role("button", name="beta 4").click()
    sort_by(page, "Robust area")
    sort_by(page, "Robust area")
    seeds = [one.slug.replace("-", " ") for one in reversed(SEEDS)]
    assert shown(page) == ["[plain]", "worse", "[beta 4]", *seeds, "better"]


def test_what_is_searched_or_filtered_opens_or_leaves_out_recipes(
    visit: Visit,
) -> None:
    page = visit(BOARD)
    expect(page.locator("#status")).to_have_text("7 models")
    page.fill("#q", "adversarial code")
    assert shown(page) == ["[beta 4]", *(one.slug.replace("-", " ") for one in SEEDS)]
    expect(page.locator("#status")).to_have_text("3 of 7 models")
    page.fill("#q", "")
    assert shown(page) == ["better", "[beta 4]", "worse", "[plain]"]
    page.select_option("#family", "FARE-VAE")
    assert shown(page) == ["[beta 4]"]


def test_without_a_script_all_seeds_are_shown(visit: Visit) -> None:
    page = visit(BOARD, java_script_enabled=False)
    expect(page.locator("#board tbody tr:visible")).to_have_count(9)
    expect(page.locator(".opens:visible")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_no_page_is_too_wide(
    scheme: str,
    width: int,
    visit: Visit,
) -> None:
    size = {"width": width, "height": 900}
    page = visit(BOARD, viewport=size, color_scheme=scheme)
    page.get_by_role("button", name="beta 4").click()
    found = Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width

"""The playground: stored attacks of shipped models, seen without running anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from genrobust.board.playground import EACH, SHEET_ROWS, is_playable, sheet
from genrobust.evidence.entries import PngImage, read_entry, read_picture
from genrobust.site.build import build


@pytest.fixture
def entry(repository: Path) -> Path:
    return repository / "leaderboard/entries/digits-v1/zoo-vae"


def size(content: bytes, folder: Path) -> tuple[int, int]:
    (folder / "sheet.png").write_bytes(content)
    found = read_picture(folder / "sheet.png")
    assert isinstance(found, PngImage)
    return found.width, found.height


def test_a_sheet_shows_what_the_entry_says(entry: Path, tmp_path: Path) -> None:
    loaded = read_entry(entry)
    found = sheet(loaded)
    assert found is not None
    outcomes, count = loaded.outcomes, 10 * EACH
    assert found.labels == tuple(label for label in range(10) for _ in range(EACH))
    assert size(found.content, tmp_path) == (32 * count, 32 * len(SHEET_ROWS))
    for label, sample, fell, became in zip(
        found.labels, found.sample_ids, found.fell, found.became, strict=True
    ):
        position = outcomes.sample_ids.index(sample)
        assert outcomes.labels[position] == label
        wanted = outcomes.ignore_target[position] if outcomes.eligible[position] else -1
        assert fell == wanted
        if fell is not None and fell >= 0:
            assert became not in (label, -1), "the reconstruction shows another class"
        elif fell is None:
            assert became == label, "nothing changed it"


def test_only_what_ships_and_was_replayed_is_played_with(entry: Path, tmp_path: Path) -> None:
    assert is_playable(read_entry(entry))
    assert not is_playable(None)
    copy = tmp_path / "digits-v1" / "zoo-vae"
    shutil.copytree(entry, copy)
    (copy / "verification.json").unlink()
    assert not is_playable(read_entry(copy))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("playground")
    entries = Path(__file__).parent.parent / "leaderboard/entries/digits-v1"
    for name in ("zoo-vae", "zoo-jointvae", "zoo-betavae-capacity"):
        shutil.copytree(entries / name, root / "entries/digits-v1" / name)
    build(root / "entries", root / "site")
    return root / "site"


def opened(browser: Browser, site: Path, **options: object) -> Page:
    page = browser.new_context(**options).new_page()  # type: ignore[arg-type]
    page.goto((site / "digits-v1/playground.html").as_uri())
    return page


@pytest.mark.slow
def test_one_sees_what_an_attack_did_by_mouse_and_by_keyboard(browser: Browser, site: Path) -> None:
    page = opened(browser, site)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.get_by_role("button", name="3, sample").first.click()
    says, shown = page.locator("#play-says"), page.locator("#play-pictures figure:visible")
    expect(says).to_contain_text("At eps 0.1 this 3 comes out as")
    expect(shown).to_have_count(5)
    page.get_by_label("How far").focus()
    page.keyboard.press("Home")
    expect(says).to_have_text("Without an attack this 3 comes out as 3.")
    expect(shown).to_have_count(2)
    page.get_by_label("Model").select_option("VAE (zoo)")
    page.get_by_label("How far").focus()
    page.keyboard.press("ArrowRight")
    expect(says).to_contain_text("At eps 0.02")
    assert trouble == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_it_fits_a_phone(browser: Browser, site: Path, scheme: str) -> None:
    page = opened(browser, site, color_scheme=scheme, viewport={"width": 390, "height": 800})
    expect(page.locator("#play")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_without_a_script_the_pictures_are_there(browser: Browser, site: Path) -> None:
    page = opened(browser, site, java_script_enabled=False)
    expect(page.locator("#play")).to_be_hidden()
    expect(page.locator("img.sheet")).to_have_count(3)

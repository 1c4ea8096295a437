"""Recipes on a board: entries that are seeds of one training, and what is said of them together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_pages import Page
from leaderboard_entries import Fake, build, read_entries, write_entries
from pydantic import ValidationError
from typer.testing import CliRunner

from genrobust.board.board import Board, contender, make_board
from genrobust.board.recipes import lines, recipes
from genrobust.cli.app import app
from genrobust.evidence.entry import Author, Submission
from genrobust.records.record import Estimate


def seed(n: int, strength: float, recipe: str = "beta 4", **changed: Any) -> Fake:
    said = {"recipe": recipe, "training_seed": n, "family": "FARE-VAE"}
    how = {name: changed.pop(name) for name in ("flags", "depth", "passed") if name in changed}
    slug = f"{recipe.replace(' ', '-')}-{n}-{changed.pop('of', 'ada')}"
    return Fake(slug, strength, 10 * n + len(recipe), submission={**said, **changed}, **how)


def board(root: Path, *fakes: Fake) -> Board:
    return make_board([contender(one) for one in read_entries(write_entries(root, fakes))])


SEEDS = [seed(0, 0.7), seed(1, 0.5), seed(2, 0.3)]


def test_the_interval_of_a_recipe_is_over_seeds_and_sources(tmp_path: Path) -> None:
    made = board(tmp_path, *SEEDS, Fake("alone", 0.6, 7))
    (found,) = recipes(made)
    own = {row.contender.id: row.best.scores.robust_area for row in found.rows}
    values = [area.value for area in own.values() if area]
    assert found.area.value == pytest.approx(np.mean(values), abs=1e-6)
    assert found.area.low is not None
    assert found.area.high is not None
    # Three seeds that differ by 0.2 vary more than the sources of any one of them.
    widest = max(area.high - area.low for area in own.values() if area)
    assert found.area.high - found.area.low > 2 * widest


def test_seeds_that_do_not_differ_have_the_interval_of_each_of_them(tmp_path: Path) -> None:
    """Sources are drawn for a recipe as for the records: one outcome has one interval."""

    def alike(n: int) -> Fake:  # which are not one model, by how well they reconstruct
        error = Estimate(value=5 + n, low=4 + n, high=6 + n, n=90)
        return replace(seed(n, 0.5), seed=5, scores={"reconstruction_error": error})

    (found,) = recipes(board(tmp_path, *map(alike, range(3))))
    for row in found.rows:
        area = row.best.scores.robust_area
        assert area is not None
        assert (found.area.low, found.area.high) == pytest.approx((area.low, area.high), abs=1e-6)


def test_what_is_not_of_the_same_training_is_no_seed_of_it(tmp_path: Path) -> None:
    made = board(
        tmp_path,
        *SEEDS,
        seed(3, 0.9, authors=(Author(name="Mallory"),), of="mallory"),
        seed(4, 0.9, recipe="beta 5"),
        seed(2, 0.9, of="again"),
        Fake("alone", 0.9, 8),
    )
    (found,) = recipes(made)
    assert {row.contender.id for row in found.counted} == {one.slug for one in SEEDS}
    assert {row.contender.id for row in found.rows} == {one.slug for one in SEEDS} | {
        "beta-4-2-again"
    }


def test_another_size_is_another_recipe(tmp_path: Path) -> None:
    loaded = [contender(one) for one in read_entries(write_entries(tmp_path, SEEDS))]
    model = loaded[0].record.model.model_copy(update={"parameters": 5})
    loaded[0] = replace(loaded[0], record=loaded[0].record.model_copy(update={"model": model}))
    (found,) = recipes(make_board(loaded))
    assert len(found.rows) == 2


@pytest.mark.parametrize("kept", [1, 2])
def test_two_ranked_seeds_make_a_recipe(tmp_path: Path, kept: int) -> None:
    others = [seed(n, 0.9, passed=False) for n in range(kept, 3)]
    found = recipes(board(tmp_path, *SEEDS[:kept], *others))
    assert len(found) == kept - 1
    if found:
        assert (len(found[0].rows), len(found[0].counted)) == (3, 2)


def test_a_recipe_stands_where_its_mean_is_and_its_seeds_below(tmp_path: Path) -> None:
    made = board(
        tmp_path, *SEEDS, Fake("better", 0.6, 7), Fake("worse", 0.4, 8), Fake("no", 0.9, depth=None)
    )
    shown = [
        line.row.contender.id if line.row else f"[{line.recipe.name}]"
        for line in lines(made.rows, recipes(made))
        if line.row or line.recipe
    ]
    assert shown == ["better", "[beta 4]", *(one.slug for one in SEEDS), "worse", "no"]


def test_without_seeds_a_board_is_as_it_was(tmp_path: Path) -> None:
    made = board(tmp_path, Fake("one", 0.5, 1), seed(0, 0.4))
    assert recipes(made) == ()
    assert [line.row for line in lines(made.rows, ())] == list(made.rows)


def test_a_recipe_goes_with_a_seed() -> None:
    said: dict[str, Any] = {
        "name": "a",
        "authors": (Author(name="Ada"),),
        "licence": "MIT",
        "training_data": "digits",
    }
    for part in ({"recipe": "beta 4"}, {"training_seed": 0}):
        with pytest.raises(ValidationError, match="goes with the seed"):
            Submission(**said, **part)
    assert "recipe" not in Submission(**said).model_dump_json()
    assert Submission(**said, recipe="beta 4", training_seed=0).training_seed == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recipes")
    build(
        write_entries(root / "entries", [*SEEDS, Fake("alone", 0.6, 7)]),
        root / "site",
    )
    return root / "site" / "digits-v2"


def test_the_board_says_method_of_recipes_alone(site: Path) -> None:
    page = Page((site / "index.html").read_text())
    assert page.text.count("method, 3 seeds") == 1
    table = (site / "index.html").read_text().partition("<tbody")[2].partition("</tbody>")[0]
    assert table.count("method") == 1
    assert "method" not in (site / "alone" / "index.html").read_text().partition("<main")[2]
    assert "beta 4, seed 1" in Page((site / "beta-4-1-ada" / "index.html").read_text()).text


def test_recipes_and_defences_are_in_the_files(site: Path) -> None:
    content = json.loads((site / "board.json").read_text())
    (found,) = content["recipes"]
    assert found["seeds"] == 3
    assert found["robust_area_low"] < found["robust_area"] < found["robust_area_high"]
    by_id = {row["id"]: row for row in content["rows"]}
    assert by_id["beta-4-0-ada"]["defence"] == "adversarial training of the code"
    assert by_id["alone"]["defence"] is by_id["alone"]["recipe"] is None


def test_a_model_that_is_wrapped_in_a_defence_says_so(tmp_path: Path) -> None:
    (one,) = [contender(e) for e in read_entries(write_entries(tmp_path, [Fake("vae")]))]
    spec = {"defence": "smoothed with std 0.25"}
    model = one.record.model.model_copy(update={"spec": spec})
    wrapped = replace(one, record=one.record.model_copy(update={"model": model}))
    assert (one.defence, wrapped.defence) == (None, "smoothed with std 0.25")


def test_the_command_asks_for_both(tiny_run: Path) -> None:
    words = ["submit", str(tiny_run), "--name", "a", "--author", "Ada", "--licence", "MIT"]
    words += ["--training-data", "digits", "--recipe", "beta 4"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 2
    assert "--training-seed" in str(ended.exception) + ended.output

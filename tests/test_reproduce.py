"""Published measurements, done again: what is counted, what is kept, and the pages."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from typer.testing import CliRunner

import genrobust
from genrobust import GenrobustError
from genrobust.cli.app import app
from genrobust.models.weights import load_state_dict, read_state_dict
from genrobust.reproduce import PUBLICATIONS, Setup, checkpoints, kos2018, reproduce, thesis
from genrobust.reproduce.base import spearman, wilson

pytestmark = pytest.mark.usefixtures("brief")

SHARED = Path(__file__).parents[2] / "shared"


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["reproduce", *words])


def test_without_a_name_all_are_listed_with_a_line_each() -> None:
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == PUBLICATIONS.names()
    assert all(len(line.split()) > 5 for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sootla"], "unknown publication 'sootla'"),
        (["thesis", "--fast", "--reference", "none"], "--reference 'none' is no folder"),
        (["thesis", "--fast", "--checkpoints", "none"], "--checkpoints 'none' is no folder"),
        (["thesis", "--fast", "--sources", "9000"], "give at most 450"),
        (["thesis", "--fast", "--checkpoints", "."], "holds no checkpoint that is known"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENROBUST_DATA", raising=False)
    found = run(*words, "--out", "it")
    assert found.exit_code == 2, found.output
    assert said in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_what_was_measured_is_kept_until_anything_changes(tmp_path: Path) -> None:
    setup, calls = Setup(tmp_path), []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    assert setup.kept("part", {"a": 1}, compute) == 1
    assert setup.kept("part", {"a": 1}, compute) == 1
    assert setup.kept("part", {"a": 2}, compute) == 2
    assert Setup(tmp_path, seed=1).kept("part", {"a": 1}, compute) == 3


def test_the_thesis_pairs_are_all_pairs_and_no_source_comes_twice() -> None:
    images = genrobust.load_images("digits")
    assert images.labels is not None
    pairs = thesis._pairs(images, 2, seed=0)
    assert len(set(pairs.sources)) == len(pairs.sources) == 180
    assert torch.equal(images.labels[pairs.sources], pairs.source)
    assert torch.equal(images.labels[pairs.targets], pairs.target)
    seen = set(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True))
    assert seen == {(s, t) for s in range(10) for t in range(10) if s != t}


def test_the_thesis_mean_is_over_pairs_and_not_over_sources() -> None:
    pairs = thesis._Pairs(
        [0, 1, 2, 3], [4] * 4, torch.tensor([0, 0, 0, 1]), torch.tensor([1, 1, 1, 0])
    )
    wrong = torch.tensor([True, False, True, False])
    kept = torch.tensor([True, True, False, True])
    found = thesis._Counted(wrong, wrong, kept).mean(pairs, wrong)
    assert (found.value, found.n) == (0.25, 3)  # 1 of 2, and 0 of 1
    assert found.low < 0.25 < found.high


def test_an_interval_is_open_where_nothing_was_found() -> None:
    none, all_of_them = wilson(0, 50), wilson(1, 50)
    assert none.low == 0 < none.high < 0.1
    assert 0.9 < all_of_them.low < all_of_them.high == 1


@pytest.mark.parametrize(("error", "told"), [(0.2, False), (0.25, True), (0.6, True)])
def test_a_model_that_gives_no_images_back_is_told(error: float, told: bool) -> None:
    said = kos2018._warning("vaegan", {"kos-latent, 1": {"clean_error": [0.0, error, 1.0]}})
    assert (f"{100 * error:.0f}% of their" in said) is told
    assert bool(said) is told


def test_the_rank_correlation_is_scipys_with_ties() -> None:
    rows = torch.randint(0, 4, (30, 2), generator=torch.Generator().manual_seed(0))
    assert spearman(rows) == pytest.approx(spearmanr(*rows.T.numpy()).statistic)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jointvae_mnist", "disvae_VAE_mnist"])
def test_published_weights_give_what_the_examples_networks_give(
    name: str, repository: Path
) -> None:
    if not (SHARED / "checkpoints").is_dir():
        pytest.skip("needs checkpoints that do not ship with genrobust")
    [model] = checkpoints.published(Setup(Path(), checkpoints=SHARED / "checkpoints"), [name])
    place = repository / "examples" / f"{name.partition('_')[0]}_checkpoint.py"
    spec = importlib.util.spec_from_file_location(place.stem, place)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    network = example.build().eval()
    path = SHARED / "checkpoints" / f"{name}.pt"
    load_state_dict(network, read_state_dict(path), path)
    x = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    other = genrobust.wrap(network)
    with torch.no_grad():
        assert torch.equal(model.encode(x).vector(), other.encode(x).vector())
        assert torch.equal(model.reconstruct(x), other.reconstruct(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLICATIONS.names())
def test_a_trial_writes_a_page_its_figures_and_its_numbers(name: str, tmp_path: Path) -> None:
    found = run(name, "--fast", "--out", str(tmp_path))
    assert found.exit_code == 0, found.output
    page = (tmp_path / f"{name}.md").read_text()
    assert "no result" in page
    assert found.stdout.strip().splitlines()[-1] in page
    numbers = json.loads((tmp_path / f"{name}.json").read_text())
    assert numbers["command"] == f"genrobust reproduce {name} --fast"
    figures = {path.name for path in tmp_path.glob("*.svg")}
    assert figures
    assert all(f"]({figure})" in page for figure in figures)
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*.json")}
    again = run(name, "--fast", "--out", str(tmp_path))
    assert (tmp_path / f"{name}.md").read_text() == page
    assert again.stdout == found.stdout
    assert parts == {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").rglob("*.json")}


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GenrobustError, match="choose another place"):
        reproduce("khan2023", Setup(tmp_path / "file" / "below", fast=True, sources=1))

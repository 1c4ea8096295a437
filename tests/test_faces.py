"""Judges of larger images, of an attribute and of rare classes; the page on published VAEs."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import genrobust
from genrobust.data import Images
from genrobust.judges import load, load_judge
from genrobust.judges.networks import ARCHITECTURES
from genrobust.models.card import Card
from genrobust.training.judge import accuracy, balanced_accuracy

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"
OWN_DATA = REPOSITORY / "benchmarks" / "own_data.json"

CARDS = sorted(load.WEIGHTS.glob("*/judge-*.json"))


class Never(nn.Module):
    """Sees class 0 in everything."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0.0]).repeat(len(x), 1)


def test_balanced_accuracy_is_not_fooled_by_a_rare_class() -> None:
    images = Images(torch.zeros(50, 1, 8, 8), torch.tensor([0] * 47 + [1] * 3), (8, 8))
    assert accuracy(Never(), images) == 0.94
    assert balanced_accuracy(Never(), images) == 0.5


@pytest.mark.parametrize("architecture", ["lenet", "vgg", "resnet"])
def test_large_images_are_looked_at_as_averaged(architecture: str) -> None:
    network = ARCHITECTURES[architecture](3, 2).eval()
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(network(x), network(F.avg_pool2d(x, 2)))


@pytest.mark.parametrize("path", CARDS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_judge_that_ships_is_the_one_that_its_card_names(path: Path) -> None:
    card = Card.model_validate_json(path.read_text())
    judge = load_judge(card.dataset, card.architecture["name"])
    assert judge.sha256 == card.weights_sha256
    assert path.with_suffix(".safetensors").stat().st_size < 1 << 20


def test_a_judge_of_an_attribute_ships_in_a_folder_without_a_colon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(load.WEIGHTS / "digits", tmp_path / "celeba=Young")
    monkeypatch.setattr(load, "WEIGHTS", tmp_path)
    monkeypatch.setattr(load, "_shipped", load._shipped.__wrapped__)
    assert load_judge("celeba:Young", "vgg").name == "celeba:Young/vgg"
    with pytest.raises(genrobust.GenrobustError, match=r"only for celeba:Young; train one with"):
        load_judge("celeba:Bald", "vgg")


@pytest.mark.parametrize("path", [p for p in CARDS if "celeba" in p.parent.name], ids=str)
def test_judges_of_faces_are_as_good_as_their_cards_say(path: Path) -> None:
    if not (SHARED / "data" / "celeba").is_dir():
        pytest.skip("needs shared/data/celeba beside the repository")
    card = Card.model_validate_json(path.read_text())
    images = genrobust.load_images(card.dataset, "test", SHARED / "data")
    judge = load_judge(card.dataset, card.architecture["name"])
    ids = range(0, len(images), 5)
    right = (judge.labels(images.take(ids)) == images.labels_of(ids)).double().mean()
    assert float(right) == pytest.approx(card.metrics["accuracy"], abs=0.06)


@pytest.mark.parametrize(
    ("what", "data", "error"), [("dsprites", "sprites", 30), ("celeba", "celeba", 250)]
)
def test_jointvae_at_64_reconstructs(what: str, data: str, error: float) -> None:
    weights = SHARED / "checkpoints" / f"jointvae_{what}.pt"
    if not weights.is_file():
        pytest.skip("needs shared/checkpoints beside the repository")
    place = REPOSITORY / "examples" / "jointvae_checkpoint.py"
    model = genrobust.load_model(f"{place}:{what}", data, weights)
    x = genrobust.load_images(data, "test", SHARED / "data").take(range(0, 1000, 20))
    assert float((model.reconstruct(x) - x).square().sum((1, 2, 3)).mean()) < error


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_data", REPOSITORY / "benchmarks/own_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "KEPT", tmp_path / "own_data.json")
    monkeypatch.setattr(module, "PAGE", tmp_path / "own_data.md")
    return module


def test_the_page_on_published_vaes_is_what_was_measured(benchmark: ModuleType) -> None:
    rows = list(json.loads(OWN_DATA.read_text()).values())
    assert benchmark.page(rows) == OWN_DATA.with_suffix(".md").read_text()


def test_what_is_missing_is_said(
    benchmark: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nowhere = str(tmp_path / "nowhere")
    monkeypatch.setattr("sys.argv", ["x", "--checkpoints", nowhere, "--data-root", nowhere])
    benchmark.main()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(benchmark.SUITES) * len(benchmark.MODELS)
    assert all("left out" in line and "nowhere" in line for line in said)
    assert not benchmark.KEPT.exists()

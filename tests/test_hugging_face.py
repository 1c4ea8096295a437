"""Data sets as Hugging Face's ``datasets`` gives them, from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.data.pictures import pictures_in
from genrobust.errors import GenrobustError, GenrobustWarning

pytestmark = pytest.mark.slow

CODE = """
import numpy as np
import datasets
from torch import nn
from PIL import Image

def pictures():
    rows = {"image": [], "label": []}
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 80, (24, 30, 3), "uint8")
        pixels[:, :, i % 3] += 120
        rows["image"].append(Image.fromarray(pixels))
        rows["label"].append(i % 3)
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["r", "g", "b"])}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))

class Judge(nn.Module):
    def forward(self, x):
        return 20 * x.mean((2, 3))

def judge():
    return Judge()
"""


class _VAE(nn.Module):
    input_shape = (3, 16, 16)

    def encode(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 4).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return nn.functional.interpolate(z.view(-1, 3, 4, 4), size=16)


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("datasets", reason="the extra 'models' installs datasets")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Any) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _rows(place: Path) -> Any:
    scope: dict[str, Any] = {}
    exec((place / "mine.py").read_text(), scope)
    return scope["pictures"]()


def test_a_function_that_gives_one_is_benched_by_the_command(place: Path) -> None:
    (place / "vae.py").write_text(
        "import torch\nfrom torch import nn\n\nclass VAE(nn.Module):\n"
        "    input_shape = (3, 16, 16)\n\n"
        "    def encode(self, x):\n        return nn.functional.avg_pool2d(x, 4).flatten(1)\n\n"
        "    def decode(self, z):\n"
        "        return nn.functional.interpolate(z.view(-1, 3, 4, 4), size=16)\n"
    )
    words = ("--data", "mine.py:pictures", "--judge", "mine.py:judge", "--eps", "0.1")
    short = ("--attack", "output", "--workers", "1", "--sources", "6", "--out", "runs")
    result = CliRunner().invoke(app, ["bench", "--model", "vae.py:VAE", *words, *short])
    assert result.exit_code == 0, result.output + str(result.stderr)
    assert list((place / "runs" / "mine-pictures-v1").glob("*/report.html"))


def test_one_in_python_with_its_splits_and_its_classes(place: Path) -> None:
    rows = _rows(place)
    with pytest.warns(GenrobustWarning, match="is attacker and scorer"):
        record = genrobust.bench(
            genrobust.wrap(_VAE()), data={"test": rows}, sources=6, attacks=["output"], eps=[0.1],
            judge=["mine.py:judge"], workers=1,
        )  # fmt: skip
    assert record.scores.sources == 6
    assert record.scores.clean_accuracy.value == 1


def test_in_each_of_its_formats_it_is_the_same(place: Path) -> None:
    rows = _rows(place)
    plain = pictures_in(rows, "test")
    assert plain.labels is not None
    assert plain.labels.tolist() == [0, 1, 2] * 4
    for form in ("torch", "numpy"):
        other = pictures_in(rows.with_format(form), "test")
        assert other.labels is not None
        assert other.labels.tolist() == plain.labels.tolist()
        assert np.array_equal(other.read(3), plain.read(3))


def test_what_has_no_length_or_no_numbers_is_refused_with_what_to_type(library: Any) -> None:
    rows = {"image": [Image.new("RGB", (16, 16))] * 4, "label": ["cat", "dog"] * 2}
    kinds = library.Features({"image": library.Image(), "label": library.Value("string")})
    named = library.Dataset.from_dict(rows, features=kinds)
    with pytest.raises(GenrobustError, match="class_encode_column"):
        pictures_in(named, "test", labelled=True)
    with pytest.raises(GenrobustError, match=r"such as list\(data\)"):
        pictures_in(named.to_iterable_dataset(), "test")
    encoded = pictures_in(named.class_encode_column("label"), "test")
    assert encoded.labels is not None
    assert encoded.labels.tolist() == [0, 1, 0, 1]

"""Slips of people who are new here: each is one sentence that says what to type next."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

import genrobust
from genrobust.attacks import make_attack
from genrobust.cli.app import app
from genrobust.data.pictures import pictures_in
from genrobust.data.pixels import opened
from genrobust.defences import smoothed
from genrobust.drawing import axes
from genrobust.errors import GenrobustError, GenrobustWarning, unknown_name
from genrobust.metrics import disentanglement_of
from genrobust.models.weights import read_state_dict
from genrobust.runner.options import Options
from genrobust.runner.prepare import prepare
from genrobust.suites import load_suite

pytestmark = pytest.mark.usefixtures("brief")

OWN = """
import torch
from torch import nn

class VAE(nn.Module):
    pass

def classifier():
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))

def a_class():
    return VAE

def weights():
    return classifier().state_dict()

def asks(what):
    pass
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OWN)
    Path("broken.py").write_text("def build(:\n")
    Path("my vae.py").touch()
    Path("needy.py").write_text("import no_such_package\n")
    return tmp_path


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("mine", "type mine.py:FUNCTION"),
        ("mine:classifier", "no such module; .* such as mine.py:classifier"),
        ("mine.py::classifier", "such as mine.py:classifier"),
        ("mine.ipynb:classifier", "such as mine.py:classifier, and what is in a notebook"),
        ("mine.ipynb", "is a notebook; save its code"),
        ("last.ckpt", "is a file of weights, .* --weights last.ckpt"),
        ("vae.onnx", "another library than torch; give FILE.py:FUNCTION"),
        ("my best.ckpt", "--weights 'my best.ckpt'"),
        ("my vae.py", "type 'my vae.py:FUNCTION'"),
        ("my vae", "type 'my vae.py:FUNCTION'"),
        ("owner/name", "type hf://owner/name"),
        ("my runs/vae", "no folder; give one that is there$"),
        ("JointVAE", "did you mean 'jointvae'"),
        ("mine.py:classifier", "a classifier is no model here but a judge: --judge"),
        ("mine.py:a_class", r"the class VAE and no object of it, VAE\(\)"),
        ("mine.py:weights", "such as weights that are still to be loaded"),
        ("mine.py:asks", r"positional argument: 'what'\); let it take no arg"),
        ("broken.py:build", r"\(broken.py, line 1\)\); mend that"),
        ("needy.py:build", "'no_such_package'; needy.py, line 1"),
    ],
)
def test_what_is_no_model(model: str, words: str, place: Path) -> None:
    with pytest.raises(GenrobustError, match=words):
        genrobust.load_model(model)


def test_the_advice_on_a_model_without_weights_can_be_typed() -> None:
    with pytest.raises(GenrobustError, match=r"--dataset 'digits\?shape=1x16x16' and pass"):
        genrobust.load_model("vae", "digits?shape=1x16x16")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--eps", "0,05", "given: 0,05); type plain digits, such as 0.0314, which is 8/255"),
        ("--eps", "8/255", "given: 8/255)"),
        ("--eps=8/255", None, "given: 8/255)"),
        ("--limit", "1,000", "given: 1,000); type plain digits, such as 20"),
        ("--suite", "cifar10", "one is drawn from it by --data cifar10"),
        ("--suite", "my photos", "one is drawn from it by --data 'my photos'"),
    ],
)
def test_a_value_that_is_typed_otherwise(
    option: str, value: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my photos").mkdir()
    monkeypatch.chdir(tmp_path)
    typed = [option, *([] if value is None else [value])]
    found = CliRunner().invoke(app, ["bench", "--model", "vae", *typed])
    assert found.exit_code == 2
    assert words in " ".join(found.output.split())


LATIN = "d\udce9j\udce0"


@pytest.mark.parametrize(
    "words",
    [
        ["bench", "--model", "vae", "--out", LATIN],
        ["bench", "--model", "vae", "--data", LATIN],
        ["bench", "--model", "vae", "--model", f"{LATIN}.py:build"],
        ["train", "--model", "vae", "--out", LATIN],
        ["suite", "make", "--model", "vae", "--data", "photos", "--out", f"{LATIN}.json"],
        ["leaderboard", "build", "--out", LATIN],
        ["status", LATIN],
    ],
    ids=" ".join,
)
def test_a_name_that_is_not_in_utf8_is_said_before_anything_is_done(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert r"d\xe9j\xe0" in found.output
    assert "is not in UTF-8, as results are; rename" in " ".join(found.output.split())
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_working_folder_that_is_not_in_utf8_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / LATIN).mkdir()
    monkeypatch.chdir(tmp_path / LATIN)
    found = CliRunner().invoke(app, ["bench", "--model", "vae"])
    assert found.exit_code == 2
    assert "genrobust-runs' is not in UTF-8" in " ".join(found.output.split())


def test_a_working_folder_that_was_removed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "scratch")
    (tmp_path / "scratch").rmdir()
    for words in (["bench", "--model", "vae"], ["list", "attacks"], ["suite", "make", "--help"]):
        found = CliRunner().invoke(app, words)
        helps = "--help" in words
        assert found.exit_code == (0 if helps else 2)
        assert helps != ("the current folder is not there" in found.output)


def test_a_name_that_another_mode_of_python_reads_is_no_wrong_one() -> None:
    found = CliRunner().invoke(app, ["status", "\udcc3\udcbc"])
    assert found.exit_code == 2
    assert "ü' is read as " in found.output
    assert "set PYTHONUTF8=1" in found.output


def test_values_without_their_option() -> None:
    found = CliRunner().invoke(app, ["bench", "--model", "vae", "--eps", "0.02", "0.1"])
    assert found.exit_code == 2
    assert "an option stands before each of its values" in found.output


@pytest.mark.slow
def test_a_radius_in_bytes_is_noticed(tmp_path: Path) -> None:
    """Of an option or of a suite's file."""
    suite = load_suite("digits")
    of_file, wide = suite.model_copy(update={"eps": (0.1, 8.0)}), Options(eps=(0.1, 8.0))
    for given, options in ((suite, wide), (of_file, Options())):
        with pytest.warns(GenrobustWarning, match=r"eps 8 is more .* 8 of 255 is 0.0314"):
            prepare("vae", given, options)
    model = ("--model", "examples/own_images.py:VAE")
    words = ["suite", "make", *model, "--data", "sprites?channels=rgb", "--sources", "2"]
    words += ["--eps", "8", "--out", str(tmp_path / "wide.json")]
    assert "Warning: eps 8 is more" in CliRunner().invoke(app, words).output
    prepare("vae", suite, Options(eps=(1.0,)))
    prepare("vae", suite, Options(norm="l2", eps=(32.0,)))


def test_names_are_found_whatever_their_letters_size() -> None:
    assert "did you mean 'LinfPGD'" in str(unknown_name("attack", "linfpdg", ["LinfPGD", "fmn"]))


# Weights


def test_why_weights_are_not_read_is_said_in_a_line(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1), "args": argparse.Namespace(a=1)}, tmp_path / "args.ckpt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "args.ckpt").read_bytes()[:200])
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07onnx")
    for name, words in {
        "args.ckpt": r"holds argparse\.Namespace, which could run code\)",
        "cut.pt": r"it is damaged\)",
        "model.onnx": "no file of torch's",
    }.items():
        with pytest.raises(GenrobustError, match=words) as found:
            read_state_dict(tmp_path / name)
        assert len(str(found.value)) < 240 + len(str(tmp_path))


# Pictures


@pytest.mark.parametrize("size", [(1, 1), (5, 1), (5, 3), (3, 5), (1, 5)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_as_low_as_it_has_channels(mode: str, size: Any, tmp_path: Path) -> None:
    Image.new(mode, size, 200 if mode == "L" else (10, 20, 200)).save(tmp_path / "one.png")
    found = opened(tmp_path / "one.png")
    assert found.shape == (1 if mode == "L" else 3, size[1], size[0])
    assert found[-1].eq(200).all()


class Table:
    """As pandas' frames are: items are columns, by name."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)


X = torch.zeros(2, 1, 4, 4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (X[:0], "holds no images"),
        (X * torch.nan, "has NaN or infinite pixels"),
        (Table(), r"item 0 of a Table cannot be read \(KeyError: 0"),
        ({"pictures": X, "labels": [0, 1]}, r"call one 'test', or give \(images, labels\)"),
    ],
)
def test_what_holds_no_pictures(given: Any, words: str) -> None:
    with pytest.raises(GenrobustError, match=words):
        pictures_in(given, "test")


def test_images_alone_in_a_data_set_of_tensors() -> None:
    found = pictures_in(TensorDataset(X), "test")
    assert (found.count, found.labels, found.read(1).shape) == (2, None, (1, 4, 4))


def test_arrays_of_objects_are_not_read(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"images": X.numpy(), "labels": np.array(["a", None], dtype=object)}
    np.savez(tmp_path / "o.npz", **arrays)
    with pytest.raises(GenrobustError, match="from arrays of numbers"):
        pictures_in(tmp_path / "o.npz", "test")


# In Python


class Flat(nn.Module):
    input_shape = (1, 4, 4)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z.view(-1, 1, 4, 4)


@pytest.mark.parametrize(
    ("function", "given", "options", "words"),
    [
        (
            genrobust.wrap,
            (Flat,),
            {},
            "not the class Flat; give an object of it, such as Flat\\(\\)",
        ),
        (genrobust.wrap, (Flat().state_dict(),), {}, "load it into the module"),
        (genrobust.wrap, ("vae",), {}, "give what genrobust.load_model makes"),
        (genrobust.bench, (Flat,), {}, "model is a type; give an object of it, such as Flat"),
        (genrobust.bench, (Flat(),), {"judge": [Flat()]}, r"judge\[0\]='my_judge.py:build'"),
        (make_attack, (make_attack("latent"),), {}, "a Latent; give its name and settings"),
        (make_attack, (torch.sign,), {}, r"under @genrobust.attacks.ATTACKS.register\('my-attack'"),
        (genrobust.wrap, (Flat(),), {"value_range": 255}, "such as \\(-1, 1\\), not 255"),
        (genrobust.wrap, (Flat(),), {"input_shape": "1x4x4"}, "not 1x4x4"),
        (genrobust.wrap, (Flat(),), {"encode": "encode"}, "encode is 'encode'; give a function"),
        (genrobust.load_model, (Flat(),), {}, "give a string, such as model='vae'"),
        (genrobust.bench, (Flat(),), {"data": X, "sources": "2"}, "sources is '2'; give a whole"),
        (smoothed, (Flat(), 0.1), {}, "bare Flat; wrap it first"),
        (disentanglement_of, (Flat(), X), {}, "bare Flat; wrap it first"),
        (disentanglement_of, (genrobust.wrap(Flat()), X), {}, "images are a Tensor; give"),
        (axes, ("x.png",), {}, "give matplotlib's axes"),
    ],
)
def test_one_thing_in_place_of_another(
    function: Callable[..., Any], given: tuple[Any, ...], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(GenrobustError, match=words) as found:
        function(*given, **options)
    assert "\n" not in str(found.value)

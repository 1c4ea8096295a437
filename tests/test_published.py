"""Published models by name: folders in known layouts, and the hub's cache of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import genrobust
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.errors import GenrobustError
from genrobust.models.portable import export_model
from genrobust.models.zoo import WEIGHTS
from genrobust.runner.places import name_of
from genrobust.runner.provenance import _absolute
from genrobust.training.recipes import recipe
from genrobust.training.vae import train_vae

#: Small ones, by their class in diffusers.
_BLOCKS = {
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (4, 8),
    "latent_channels": 2,
    "norm_num_groups": 4,
}
MODULES: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {**_BLOCKS, "sample_size": 512},
    "VQModel": {**_BLOCKS, "num_vq_embeddings": 16},
    "AutoencoderTiny": {
        **{"in_channels": 1, "out_channels": 1, "latent_channels": 2},
        **{"encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4)},
        **{"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
        "upsampling_scaling_factor": 2,
    },
}
LATENTS = {"AutoencoderKL": "Gaussian", "VQModel": "codebook", "AutoencoderTiny": "point"}


def _saved(kind: str, folder: Path, **changed: Any) -> Path:
    pytest.importorskip("diffusers")
    torchvision_datasets()
    import diffusers

    getattr(diffusers, kind)(**{**MODULES[kind], **changed}).save_pretrained(folder)
    return folder


def _of_diffusers(kind: str, said: str, channels: int = 1) -> Any:
    config = json.dumps({"_class_name": kind, "in_channels": channels})
    return pytest.param({"config.json": config}, said, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODULES)
def test_a_folder_of_diffusers_is_benched_by_name(kind: str, tmp_path: Path) -> None:
    folder = _saved(kind, tmp_path / "mine")
    how: dict[str, Any] = {"limit": 2, "eps": [0.1], "attacks": ["latent"], "executor": "serial"}
    record = genrobust.bench(str(folder), **how)
    assert record.model.name == "mine"
    assert LATENTS[kind] in record.model.latents
    assert record.fidelity is not None
    assert record.fidelity.status == "equal", "what is scored is what its forward gives"
    assert f"--model {folder}" in record.provenance.command
    pipeline = tmp_path / "pipeline"
    shutil.copytree(folder, pipeline / {"VQModel": "movq"}.get(kind, "vae"))
    again = genrobust.load_model(str(pipeline))
    assert again.fingerprint() == record.model.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("size", ["1MB", "2KB"], ids=["one file", "several"])
def test_a_folder_with_one_variant_alone_is_read(size: str, tmp_path: Path) -> None:
    whole = _saved("AutoencoderKL", tmp_path / "whole")
    import diffusers

    module = diffusers.AutoencoderKL.from_pretrained(whole)
    module.save_pretrained(tmp_path / "half", variant="fp16", max_shard_size=size)
    read = genrobust.load_model(str(tmp_path / "half"))
    assert read.fingerprint() == genrobust.load_model(str(whole)).fingerprint()


@pytest.mark.slow
def test_the_hub_gives_what_lies_in_its_cache(tmp_path: Path) -> None:
    """As huggingface_hub keeps it, without a network: by branch with a warning, by commit without.

    The settings of its cache are read at import, so that this takes processes of their own.
    """
    pytest.importorskip("huggingface_hub")
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--owner--name"
    folder = _saved("AutoencoderKL", cached / "snapshots" / commit / "vae")
    (folder.parent / "model_index.json").write_text("{}")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    expected = genrobust.load_model(str(folder)).fingerprint()
    code = "import sys, genrobust; print(genrobust.load_model(sys.argv[1]).fingerprint())"
    offline = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def loaded(reference: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, reference]
        return subprocess.run(command, capture_output=True, text=True, env=offline, check=False)

    for reference in ("hf://owner/name", "hf://owner/name/vae"):
        found = loaded(reference)
        assert found.stdout.strip() == expected, found.stderr
        assert f"names no revision, and its owner may change it; this one is {reference}@" in (
            found.stderr
        )
        assert f"{reference}@{commit}" in found.stderr
    fixed = loaded(f"hf://owner/name@{commit}")
    assert fixed.stdout.strip() == expected, fixed.stderr
    assert "GenrobustWarning" not in fixed.stderr
    missing = loaded("hf://owner/other")
    assert "'hf://owner/other' cannot be fetched" in missing.stderr


@pytest.mark.slow
def test_a_folder_of_a_models_data_or_of_trained_weights_is_that_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, trained = tmp_path / "data", tmp_path / "trained"
    data.mkdir()
    spec, contents = export_model(genrobust.load_model("jointvae"))
    (data / "spec.json").write_text(json.dumps(spec))
    for name, content in contents.items():
        (data / name).write_bytes(content)
    brief = recipe("vae", "digits").model_copy(update={"steps": 1, "batch_size": 8})
    train_vae("vae", "digits", brief, trained)
    expected = {
        data: genrobust.load_model("jointvae"),
        trained: genrobust.load_model("vae", weights=trained / "vae.safetensors"),
    }
    for folder, model in expected.items():
        assert genrobust.load_model(str(folder)).fingerprint() == model.fingerprint()
    monkeypatch.chdir(tmp_path)
    for place in ("trained", "trained/vae.safetensors", "trained/vae.json"):
        model = genrobust.load_model(place)
        assert model.fingerprint() == expected[trained].fingerprint()
        assert model.name == name_of(place) == "trained"
        assert _absolute(place) == str(tmp_path / place)
    other = genrobust.load_model(str(trained), weights=WEIGHTS / "digits" / "betavae.safetensors")
    assert other.fingerprint() == genrobust.load_model("betavae").fingerprint()


def test_of_several_trained_models_in_a_folder_one_is_taken_that_is_named(tmp_path: Path) -> None:
    for name in ("vae", "betavae"):
        for ending in ("json", "safetensors"):
            shutil.copy(WEIGHTS / "digits" / f"{name}.{ending}", tmp_path)
    said = r"holds 2 models \(betavae.safetensors, vae.safetensors\); name one, .*/betavae.safet"
    with pytest.raises(GenrobustError, match=said):
        genrobust.load_model(str(tmp_path))
    one = genrobust.load_model(str(tmp_path / "vae.safetensors"))
    assert one.fingerprint() == genrobust.load_model("vae").fingerprint()


@pytest.mark.parametrize("whole", [True, False])
def test_a_card_that_cannot_be_read_is_said(whole: bool, tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    shutil.copy(WEIGHTS / "digits" / "vae.safetensors", weights)
    (tmp_path / "mine.json").mkdir()
    with pytest.raises(GenrobustError, match="cannot be read as their card"):
        genrobust.load_model(str(weights) if whole else "vae", weights=None if whole else weights)


def test_the_name_of_one_of_the_zoo_is_never_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vae").mkdir()
    monkeypatch.chdir(tmp_path)
    assert genrobust.load_model("vae").input_shape == (1, 32, 32)
    with pytest.raises(GenrobustError, match="'vae' is in no known layout"):
        genrobust.load_model("./vae")


@pytest.mark.parametrize("reference", ["hf://name", "hf://a/b@../c", "hf://a/b?c", "hf://a/../b"])
def test_what_names_nothing_on_the_hub_is_said(reference: str) -> None:
    with pytest.raises(GenrobustError, match=r"names no model on the hub; type hf://OWNER/NAME"):
        genrobust.load_model(reference)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"weights.bin": ""}, "no known layout .*it holds a pickle, which is not read"),
        ({}, "no known layout .*code is given as FILE.py:FUNCTION"),
        ({"config.json": "{"}, "cannot be read as JSON"),
        _of_diffusers("Path", "holds a Path, .*not have as an autoencoder"),
        _of_diffusers("UNet2DModel", "not have as an autoencoder"),
        _of_diffusers("AutoencoderKL", "takes images of 3 channels, and those of the .* have 1", 3),
        _of_diffusers("AutoencoderKL", "diffusers cannot load .*save_pretrained"),
    ],
)
def test_a_folder_that_holds_no_model_is_said(
    files: dict[str, str], said: str, tmp_path: Path
) -> None:
    if "_class_name" in str(files):
        pytest.importorskip("diffusers")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(GenrobustError, match=said):
        genrobust.load_model(str(tmp_path))


def test_without_diffusers_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(GenrobustError, match=r"needs diffusers; pip install 'genrobust\[hub\]'"):
        genrobust.load_model(str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(GenrobustError, match=r"needs huggingface_hub; pip install 'genrobust\[hub"):
        genrobust.load_model("hf://owner/name")

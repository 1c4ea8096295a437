"""Data sets in the files that their authors publish, tiny ones here; and generated sprites."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genrobust.data import DATASETS, load_images
from genrobust.data.sprites import FACTORS, SPRITES, factors_of, render
from genrobust.errors import GenrobustError

SHARED = Path(__file__).parents[1].parent / "shared"


def _idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for stem in ("train", "t10k"):
        head = struct.pack(">IIII", 2051, *images.shape)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">II", 2049, len(labels))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist28", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")],
)
def test_grey_sets_at_their_own_size(name: str, folder: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), "uint8")
    _idx(tmp_path / folder / "raw", pixels, np.array([3, 1, 4], "uint8"))
    images = load_images(name, "test", tmp_path)
    assert images.shape == DATASETS.get(name).image_shape == (1, 28, 28)
    assert torch.allclose(images.take([1])[0, 0] * 255, torch.tensor(pixels[1]).float())
    assert images.labels_of([0, 1, 2]).tolist() == [3, 1, 4]


def test_svhn_in_its_mat_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    from genrobust.data.torchvision_datasets import torchvision_datasets

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 2), "uint8")
    (tmp_path / "SVHN").mkdir()
    savemat(tmp_path / "SVHN" / "test_32x32.mat", {"X": pixels, "y": np.array([[10], [7]])})
    monkeypatch.setattr(torchvision_datasets().SVHN, "_check_integrity", lambda self: True)
    images = load_images("svhn", "test", tmp_path)
    assert torch.equal(images.raw[1], torch.tensor(pixels[..., 1]).permute(2, 0, 1))
    assert images.labels_of([0, 1]).tolist() == [0, 7], "SVHN calls its zeros 10"


def test_cifar_in_its_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genrobust.data.torchvision_datasets import torchvision_datasets

    reader = torchvision_datasets().CIFAR10
    folder = tmp_path / reader.base_folder
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3072), "uint8")
    (folder / "test_batch").write_bytes(pickle.dumps({"data": pixels, "labels": [9, 0]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    for check in ("_check_integrity",):
        monkeypatch.setattr(reader, check, lambda self: True)
    monkeypatch.setattr(
        f"{reader.__module__}.check_integrity", lambda path, md5=None: Path(path).is_file()
    )
    images = load_images("cifar10", "test", tmp_path)
    assert torch.equal(images.raw[0].flatten(), torch.tensor(pixels[0]))
    assert images.labels_of([0, 1]).tolist() == [9, 0]


def test_celeba_in_its_official_layout(tmp_path: Path) -> None:
    (tmp_path / "img_align_celeba").mkdir()
    for i in (1, 2, 3):
        pixels = np.zeros((218, 178, 3), "uint8")
        pixels[35:183, 15:163] = 60 * i  # the middle 148 x 148
        Image.fromarray(pixels).save(tmp_path / "img_align_celeba" / f"00000{i}.jpg", quality=100)
    names = [f"00000{i}.jpg" for i in (1, 2, 3)]
    rows = "".join(f"{n} -1 {v}\n" for n, v in zip(names, ("1", "-1", "1"), strict=True))
    (tmp_path / "list_attr_celeba.txt").write_text(f"3\nMale Smiling\n{rows}")
    parts = "".join(f"{n} {p}\n" for n, p in zip(names, "022", strict=True))
    (tmp_path / "list_eval_partition.txt").write_text(parts)
    images = load_images("celeba:Smiling", "test", tmp_path)
    assert images.shape == (3, 64, 64)
    assert images.labels_of([0, 1]).tolist() == [0, 1]
    assert images.take([0]).sub(120 / 255).abs().max() < 0.02, "the middle, and nothing around it"
    assert load_images("celeba", "train", tmp_path).labels is None
    assert DATASETS.get("celeba:Smiling").classes == ("not Smiling", "Smiling")
    with pytest.raises(GenrobustError, match=r"did you mean 'Smiling'\? it has Male"):
        load_images("celeba:Smilin", "test", tmp_path)


@pytest.mark.parametrize("name", ["mnist28", "fashion-mnist", "kmnist", "svhn", "cifar10"])
def test_files_that_are_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(GenrobustError, match="with --data-root"):
        load_images(name, "test", tmp_path)


def test_faces_at_half_size() -> None:
    root = SHARED / "data" / "celeba"
    if not root.is_dir():
        pytest.skip("needs shared/data/celeba beside the repository")
    from genrobust.data.official import CelebA, _face

    face = _face(root / "img_align_celeba" / "000001.jpg")
    assert face.shape == CelebA().image_shape


@pytest.mark.slow
def test_sprites_have_every_factor_and_are_binary() -> None:
    images = load_images("sprites")
    assert set(images.raw.unique().tolist()) == {0, 255}
    factors = factors_of(SPRITES.ids("test"))
    assert torch.equal(factors[:, 0], images.labels_of(range(len(images))))
    assert [len(column.unique()) for column in factors.T] == list(FACTORS.values())
    train, test = (set(SPRITES.ids(split).tolist()) for split in ("train", "test"))
    assert not train & test


def test_a_factor_moves_what_it_names() -> None:
    middle = torch.tensor([[kind, 5, 0, 16, 16] for kind in range(3)])

    def changed(**to: int) -> torch.Tensor:
        moved = middle.clone()
        for name, value in to.items():
            moved[:, list(FACTORS).index(name)] = value
        return render(moved)[:, 0].bool()

    def places(images: torch.Tensor) -> list[torch.Tensor]:
        return [image.nonzero().double().mean(0) for image in images]

    here = changed()
    small = changed(scale=0)
    for one, half in zip(here, small, strict=True):
        assert half.sum() / one.sum() == pytest.approx(0.25, abs=0.06)
    for one, right in zip(places(here), places(changed(x=31)), strict=True):
        assert right[1] - one[1] > 10
        assert abs(right[0] - one[0]) < 0.6
    for one, down in zip(places(here), places(changed(y=31)), strict=True):
        assert down[0] - one[0] > 10
    assert torch.equal(changed(orientation=39), here), "a whole turn, as in dSprites"
    assert not here[:, [0, -1]].any()


def test_published_models_of_dsprites_reconstruct_sprites() -> None:
    weights = SHARED / "checkpoints" / "disvae_VAE_dsprites.pt"
    if not weights.is_file():
        pytest.skip("needs shared/checkpoints beside the repository")
    from genrobust import load_model

    place = Path(__file__).parents[1] / "examples" / "disvae_checkpoint.py"
    model = load_model(f"{place}:dsprites", "sprites", weights)
    x = load_images("sprites").take(range(100))
    seen, real = model.reconstruct(x) > 0.5, x > 0.5
    shared = (seen & real).flatten(1).sum(1) / (seen | real).flatten(1).sum(1)
    assert float(shared.mean()) > 0.85

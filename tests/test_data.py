"""Datasets: the same images for everyone, at the right size, and a clear word when they lack."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

import genrobust
from genrobust.data import DATASETS, Images, load_images
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.errors import GenrobustError

# Published numbers name their data by these: they change only if the data or the split do.
SHA256 = {
    ("digits", "train"): "2771a554004a2e41839a2fa993c8d18a672dd8f79b4919dda7db7fc8971b049d",
    ("digits", "test"): "836df54180d358c3c9975c39eb9bd34e588a7a8cd747c23bc7bcefe540b1aa6c",
    ("mnist", "test"): "62392fdd3005f4713fa95c2c4fc84368130fa2340954563d456c8ea51dae3926",
}


# digits


def test_digits_is_split_into_two_parts_of_known_size() -> None:
    train, test = load_images("digits", "train"), load_images("digits", "test")
    assert (len(train), len(test)) == (1198, 599)
    assert train.shape == test.shape == (1, 32, 32)
    assert set(train.labels.tolist()) == set(test.labels.tolist()) == set(range(10))
    assert train.labels.dtype == torch.int64


def test_the_parts_of_digits_are_disjoint_and_together_the_whole() -> None:
    scans, labels = load_digits(return_X_y=True)
    found = []
    for split in ("train", "test"):
        images = load_images("digits", split)
        pixels = (16 * images.raw).flatten(1).int().tolist()
        found += [(*p, label) for p, label in zip(pixels, images.labels.tolist(), strict=True)]
    assert sorted(found) == sorted(
        (*map(int, scan), int(label)) for scan, label in zip(scans, labels, strict=True)
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_hash_of_digits_is_the_published_one(split: Any) -> None:
    assert load_images("digits", split).sha256 == SHA256["digits", split]


def test_images_are_floats_from_0_to_1_with_both_ends_reached() -> None:
    x = load_images("digits").take(range(599))
    assert x.dtype == torch.float32
    assert x.shape == (599, 1, 32, 32)
    assert float(x.min()) == 0
    assert 0.9 < float(x.max()) <= 1


def test_taking_images_keeps_their_ids() -> None:
    images = load_images("digits")
    whole = images.take(range(20))
    chosen = [7, 3, 3, 19]
    for ids in (chosen, torch.tensor(chosen), np.array(chosen)):
        assert torch.equal(images.take(ids), whole[chosen])
    assert torch.equal(images.take([5])[0], whole[5])


def test_taking_an_image_that_is_not_there_fails() -> None:
    with pytest.raises(GenrobustError, match="ids go from 599 to 599"):
        load_images("digits").take([599])


def test_images_are_resized_bilinearly() -> None:
    # A ramp stays a ramp, one image pixel being four resized ones, but at the borders.
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) / 8
    taken = Images(ramp, torch.zeros(1, dtype=torch.int64), (32, 32)).take([0])[0, 0]
    centres = (torch.arange(32) + 0.5) / 4 - 0.5
    torch.testing.assert_close(taken, (centres.clamp(0, 7) / 8).expand(32, 32))


def test_images_of_the_right_size_are_left_as_they_are() -> None:
    raw = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    taken = Images(raw, torch.zeros(1, dtype=torch.int64), (16, 16)).take([0])
    assert torch.equal(taken, raw / 255)


@pytest.mark.parametrize("what", ["pixel", "label", "size", "dtype"])
def test_the_hash_notices_a_change_of(what: str) -> None:
    def images(**change: Any) -> Images:
        raw, labels = torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
        return Images(**{"raw": raw, "labels": labels, "size": (8, 8), **change})

    raw, labels = torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    raw[1, 0, 3, 3], labels[1] = 1e-6, 1
    change: dict[str, Any] = {
        "pixel": {"raw": raw},
        "label": {"labels": labels},
        "size": {"size": (4, 4)},
        "dtype": {"raw": torch.zeros(2, 1, 4, 4, dtype=torch.float64)},
    }[what]
    assert images(**change).sha256 != images().sha256
    assert images().sha256 == images().sha256


@pytest.mark.parametrize(
    ("name", "split", "words"),
    [
        ("digts", "test", "unknown dataset 'digts'; did you mean 'digits'"),
        ("digits", "validation", "a split is 'train' or 'test', not 'validation'"),
    ],
)
def test_an_unknown_dataset_or_split_is_refused(name: str, split: Any, words: str) -> None:
    with pytest.raises(GenrobustError, match=words):
        load_images(name, split)


# Datasets of others


class Blank:
    name = "blank-of-this-test"
    classes = ("none",)
    image_shape = (3, 8, 8)

    def load(self, split: str, root: Path | None) -> Images:
        count = 4 if split == "train" else 2
        return Images(torch.zeros(count, 3, 8, 8), torch.zeros(count, dtype=torch.int64), (8, 8))


@pytest.fixture
def cleared() -> Iterator[None]:
    yield
    DATASETS._registered.pop(Blank.name, None)


@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize("item", [Blank, Blank()], ids=["class", "instance"])
def test_a_dataset_may_be_registered_as_class_or_as_instance(item: Any, tmp_path: Path) -> None:
    DATASETS.register(Blank.name)(item)
    # A root of its own, because what is loaded is remembered by name and root.
    assert len(load_images(Blank.name, "train", tmp_path)) == 4
    assert load_images(Blank.name, "test", tmp_path).take([1]).shape == (1, 3, 8, 8)


# MNIST


def write_idx(path: Path, values: np.ndarray[Any, Any]) -> None:
    """A file of bytes in LeCun's format: two zeros, the type, the dimensions, their sizes."""
    head = bytes([0, 0, 8, values.ndim])
    sizes = b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    path.write_bytes(head + sizes + values.astype(np.uint8).tobytes())


@pytest.fixture
def tiny_mnist(tmp_path: Path) -> tuple[Path, np.ndarray[Any, Any]]:
    """A folder with 5 training and 3 test images of random bytes; the training images."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (5, 28, 28))
    write_idx(raw / "train-images-idx3-ubyte", pixels)
    write_idx(raw / "train-labels-idx1-ubyte", np.array([4, 0, 9, 1, 1]))
    write_idx(raw / "t10k-images-idx3-ubyte", random.integers(0, 256, (3, 28, 28)))
    write_idx(raw / "t10k-labels-idx1-ubyte", np.array([7, 2, 5]))
    return tmp_path, pixels


def no_network(*args: Any, **kwargs: Any) -> Any:
    raise URLError("no route to host")


def test_mnist_is_read_from_its_files_and_resized(
    tiny_mnist: tuple[Path, np.ndarray[Any, Any]],
) -> None:
    root, pixels = tiny_mnist
    train, test = (load_images("mnist", split, root) for split in ("train", "test"))
    assert (len(train), len(test)) == (5, 3)
    assert train.labels.tolist() == [4, 0, 9, 1, 1]
    assert train.shape == (1, 32, 32)
    expected = F.interpolate(
        torch.from_numpy(pixels)[:, None].float() / 255,
        (32, 32),
        mode="bilinear",
        align_corners=False,
    )
    assert torch.equal(train.take([3, 1]), expected[[3, 1]])


def test_the_environment_names_the_folder(
    tiny_mnist: tuple[Path, np.ndarray[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENROBUST_DATA", str(tiny_mnist[0]))
    assert load_images("mnist", "test").labels.tolist() == [7, 2, 5]


@pytest.mark.usefixtures("_homeless")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "celeba"])
def test_a_user_without_a_home_is_asked_for_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GenrobustError, match=r"has no home folder .* give it with --data-root"):
        load_images(name, "test")
    with pytest.raises(GenrobustError, match=r"'~nobody-of-that-name/data"):
        load_images("celeba", "test", "~nobody-of-that-name/data")
    assert list(tmp_path.iterdir()) == []  # no folder that is called ~


def test_mnist_that_is_missing_says_where_it_looked_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    folder = tmp_path / "nothing"
    with pytest.raises(GenrobustError) as caught:
        load_images("mnist", "test", folder)
    for words in (str(folder), "no route to host", "--data-root", "GENROBUST_DATA"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert not (folder / "MNIST").exists()


def test_a_truncated_mnist_file_is_a_clear_error(
    tiny_mnist: tuple[Path, np.ndarray[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    path = tiny_mnist[0] / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(GenrobustError, match="MNIST"):
        load_images("mnist", "train", tiny_mnist[0])


def test_the_real_mnist_is_the_published_one(mnist_root: Path) -> None:
    train, test = (load_images("mnist", split, mnist_root) for split in ("train", "test"))
    assert (len(train), len(test)) == (60_000, 10_000)
    assert test.sha256 == SHA256["mnist", "test"]
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.labels.bincount().tolist() == counts
    assert float(train.raw.float().mean()) / 255 == pytest.approx(0.1307, abs=1e-4)


# torchvision


def test_torchvisions_datasets_come_through_the_one_door() -> None:
    assert torchvision_datasets().MNIST.__name__ == "MNIST"
    assert torchvision_datasets() is torchvision_datasets()


@pytest.mark.slow
def test_the_door_opens_after_a_failed_import_too() -> None:
    # What a notebook does that has tried `import torchvision` first, which may have failed.
    program = (
        "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"
        "from genrobust.data.torchvision_datasets import torchvision_datasets\n"
        "print(torchvision_datasets().MNIST.__name__)\n"
        "import torchvision.datasets\n"
        "assert torchvision.datasets.MNIST is torchvision_datasets().MNIST\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "MNIST\n", done.stderr


def test_importing_genrobust_imports_no_torch() -> None:
    program = "import sys, genrobust; print('torch' in sys.modules, genrobust.__version__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"False {genrobust.__version__}\n", done.stderr


def test_labels_are_those_of_the_taken_images(tiny_mnist: tuple[Path, Tensor]) -> None:
    images = load_images("mnist", "train", tiny_mnist[0])
    single = [images.take([i])[0] for i in range(5)]
    assert torch.equal(images.take(range(5)), torch.stack(single))

"""Data sets from the files that their authors publish, below the data's root; none is downloaded.

Fashion-MNIST (Xiao et al. 2017), KMNIST (Clanuwat et al. 2018), SVHN (Netzer et al. 2011) and
CIFAR-10 (Krizhevsky 2009) through torchvision's readers, MNIST at its own 28x28, and CelebA
(Liu et al. 2015), whose labels are one of its attributes, as in ``celeba:Smiling``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from genrobust.data.base import Images, Split, usual_root
from genrobust.data.pixels import fitted, opened
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.errors import GenrobustError, did_you_mean, in_a_line

DIGITS = tuple("0123456789")

#: CelebA's faces are looked at in the middle 148 of 178 pixels, as is usual (Larsen et al. 2016).
FACE = 148 / 178

#: CelebA's number of a split in ``list_eval_partition.txt``.
PARTS = {"train": "0", "valid": "1", "test": "2"}

#: Of CelebA's training faces, which are many, the first so many.
MOST_FACES = 20_000


@dataclass(frozen=True)
class Official:
    """A data set that torchvision reads.

    Args:
        reader: the name of its class there.
        where: what lies below the root, for those who do not have it.
    """

    name: str
    reader: str
    where: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]

    @property
    def description(self) -> str:
        return f"{self.reader} as torchvision reads it, from the folder that holds {self.where}"

    def load(self, split: Split, root: Path | None) -> Images:
        folder = root or usual_root()
        read = getattr(torchvision_datasets(), self.reader)
        chosen: dict[str, Any] = {"train": split == "train"}
        if self.reader == "SVHN":
            folder, chosen = folder / "SVHN", {"split": split}
        try:
            data = read(str(folder), download=False, **chosen)
        except Exception as problem:  # torchvision's readers raise anything
            raise GenrobustError(
                f"the files of '{self.name}' are not under '{folder}', or cannot be read "
                f"({in_a_line(problem)}); give the folder that holds {self.where} with --data-root"
            ) from problem
        return Images(_first(data.data), _labels(data), self.image_shape[1:])


def _first(pixels: Any) -> Tensor:
    images = torch.as_tensor(pixels)
    if images.ndim == 3:
        return images[:, None]
    return images.permute(0, 3, 1, 2).contiguous() if images.shape[-1] == 3 else images


def _labels(data: Any) -> Tensor:
    return torch.as_tensor(data.targets if hasattr(data, "targets") else data.labels).long()


#: Each as MNIST is laid out: in a folder of its reader's name.
_GREY = {"mnist28": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
_CLOTHES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag"),
    "ankle boot",
)
_THINGS = (
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)

MNIST28, FASHION_MNIST, KMNIST = (
    Official(name, reader, f"{reader}/raw", _CLOTHES if "fashion" in name else DIGITS, (1, 28, 28))
    for name, reader in _GREY.items()
)
SVHN = Official("svhn", "SVHN", "SVHN/test_32x32.mat", DIGITS, (3, 32, 32))
CIFAR10 = Official("cifar10", "CIFAR10", "cifar-10-batches-py", _THINGS, (3, 32, 32))


@dataclass(frozen=True)
class CelebA:
    """Aligned faces at 64x64; ``attribute`` is what its two classes, without and with, are of."""

    where: ClassVar[str] = "img_align_celeba"
    attribute: str | None = None
    image_shape: tuple[int, int, int] = (3, 64, 64)

    @property
    def name(self) -> str:
        return "celeba" if self.attribute is None else f"celeba:{self.attribute}"

    @property
    def classes(self) -> tuple[str, ...]:
        return () if self.attribute is None else (f"not {self.attribute}", self.attribute)

    def load(self, split: Split, root: Path | None) -> Images:
        folder = root or usual_root()
        folder = folder if (folder / "img_align_celeba").is_dir() else folder / "celeba"
        lines: Callable[[str], list[list[str]]] = partial(_table, folder)
        wanted = [name for name, part in lines("list_eval_partition.txt") if part == PARTS[split]]
        if not wanted:
            raise GenrobustError(f"no face of list_eval_partition.txt in '{folder}' is of {split}")
        wanted = wanted[:MOST_FACES]
        labels = None
        if self.attribute is not None:
            _, names, *rows = lines("list_attr_celeba.txt")
            if self.attribute not in names:
                raise GenrobustError(
                    f"CelebA has no attribute '{self.attribute}';"
                    f"{did_you_mean(self.attribute, names)} it has {', '.join(names)}"
                )
            column = names.index(self.attribute) + 1
            values = {row[0]: row[column] for row in rows}
            labels = torch.tensor([int(values[name] == "1") for name in wanted])
        faces = [_face(folder / "img_align_celeba" / name) for name in wanted]
        return Images(torch.stack(faces), labels, (64, 64))


def _table(folder: Path, name: str) -> list[list[str]]:
    try:
        return [line.split() for line in (folder / name).read_text().splitlines() if line]
    except OSError as problem:
        raise GenrobustError(
            f"'{folder / name}' is not there; give the folder that holds img_align_celeba, "
            "list_attr_celeba.txt and list_eval_partition.txt with --data-root"
        ) from problem


def _face(file: Path) -> Tensor:
    picture = opened(file)
    height, width = picture.shape[1:]
    side = round(width * FACE)
    top, left = (height - side) // 2, (width - side) // 2
    return fitted(picture[:, top : top + side, left : left + side], (3, 64, 64), "rgb")


CELEBA = CelebA()

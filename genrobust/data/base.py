"""What a dataset is: two splits of images, most with labels, and where they come from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust import files
from genrobust.arguments import classes, path, require_pixels, several, tensor, text, whole
from genrobust.errors import GenrobustError
from genrobust.plugins import blamed
from genrobust.registry import Registry

Split = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class Images:
    """A split of a dataset.

    Args:
        raw: the images as stored, (N, C, H, W), bytes or floats in [0, 1].
        labels: classes, (N,), kept as int64; None for data without.
        size: height and width that ``take`` gives.
        factors: what is known of how each image came about, (N, f) whole numbers from 0, such as
            its angle and place; None for data of which nothing is. No attack or score depends on
            them, and no hash.

    All may be arrays.

    Raises:
        GenrobustError: a shape or a type is another, a float leaves [0, 1], a label is negative or
            missing.

    Example:
        >>> import numpy as np
        >>> images = Images(np.zeros((2, 1, 8, 8), "uint8"), np.array([3, 1]), (8, 8))
        >>> images.take([1]).shape, images.labels_of([1])
        (torch.Size([1, 1, 8, 8]), tensor([1]))
    """

    raw: Tensor
    labels: Tensor | None
    size: tuple[int, int]
    factors: Tensor | None = None

    def __post_init__(self) -> None:
        raw = tensor("raw", self.raw)
        if raw.ndim != 4 or not raw.numel():
            raise GenrobustError(
                f"raw has shape {tuple(raw.shape)}; give images (N, C, H, W), at least one"
            )
        if raw.dtype != torch.uint8:
            if raw.dtype not in (torch.float32, torch.float64, torch.float16):
                raise GenrobustError(f"raw is {raw.dtype}; give bytes (uint8) or floats in [0, 1]")
            require_pixels("raw", raw)
        object.__setattr__(self, "raw", raw.detach().cpu())
        object.__setattr__(self, "size", self._checked_size())
        if self.labels is not None:
            object.__setattr__(self, "labels", self._checked_labels(self.labels))
        if self.factors is not None:
            object.__setattr__(self, "factors", self._checked_factors(self.factors))

    def _checked_size(self) -> tuple[int, int]:
        height_width = several("size", self.size, whole, 32)
        if len(height_width) != 2 or min(height_width) < 1:
            raise GenrobustError(f"size is {height_width}; give (height, width), such as (32, 32)")
        return height_width[0], height_width[1]

    def _checked_labels(self, given: Tensor) -> Tensor:
        labels = classes("labels", given).cpu()
        if labels.shape != self.raw.shape[:1]:
            raise GenrobustError(
                f"labels have shape {tuple(labels.shape)} for {len(self.raw)} images; give (N,)"
            )
        if int(labels.min()) < 0:
            raise GenrobustError(f"labels go from {int(labels.min())}; classes are numbered from 0")
        return labels

    def _checked_factors(self, given: Tensor) -> Tensor:
        factors = classes("factors", given).cpu()
        if factors.ndim != 2 or len(factors) != len(self.raw) or not factors.shape[1]:
            raise GenrobustError(
                f"factors have shape {tuple(factors.shape)} for {len(self.raw)} images; give (N, f)"
            )
        if int(factors.min()) < 0:
            raise GenrobustError(
                f"factors go from {int(factors.min())}; their values are numbered from 0"
            )
        return factors

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what ``take`` gives."""
        return (self.raw.shape[1], *self.size)

    def take(self, ids: Sequence[int] | Tensor) -> Tensor:
        """The images with these ids, (n, C, H, W) float32 in [0, 1], resized bilinearly.

        Raises:
            GenrobustError: an id is no position in the data.
        """
        chosen = self.raw[self._positions(ids)]
        images = chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen.float()
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", align_corners=False)
        return images

    def labels_of(self, ids: Sequence[int] | Tensor) -> Tensor:
        """The classes of the images with these ids, (n,) int64.

        Raises:
            GenrobustError: the data has no labels, or an id is no position in it.
        """
        if self.labels is None:
            raise GenrobustError(
                "these images have no labels, and judges go by labels; score them by a suite with "
                "the rule 'distance'"
            )
        return self.labels[self._positions(ids)]

    def _positions(self, ids: Sequence[int] | Tensor) -> Tensor:
        listed = list(ids) if isinstance(ids, range) else ids
        found = tensor("ids", listed)
        if not found.numel():
            return found.long()
        if found.dtype == torch.bool or found.ndim != 1:
            raise GenrobustError(
                f"ids are {found.dtype} of shape {tuple(found.shape)}; give positions, (n,)"
            )
        found = classes("ids", found).cpu()
        low, high = int(found.min()), int(found.max())
        if low < 0 or high >= len(self):
            raise GenrobustError(
                f"ids go from {low} to {high}; these images have 0 to {len(self) - 1}"
            )
        return found

    @cached_property
    def sha256(self) -> str:
        """The hash of the stored pixels and labels: which data a number was measured on."""
        digest = hashlib.sha256(str((tuple(self.raw.shape), self.raw.dtype, self.size)).encode())
        digest.update(self.raw.contiguous().numpy().data)
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().tobytes())
        return digest.hexdigest()


class Dataset(Protocol):
    """A source of images. Register an instance or class under ``genrobust.datasets``.

    Data without labels has no ``classes``, and images whose ``labels`` are None.

    Example:
        >>> digits = DATASETS.get("digits")
        >>> digits.name, digits.image_shape, len(digits.classes)
        ('digits', (1, 32, 32), 10)
        >>> len(digits.load("test", None))
        599
    """

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    def load(self, split: Split, root: Path | None) -> Images:
        """The split; ``root`` is the folder given by ``--data-root``, if any."""
        ...


class _Datasets(Registry[Dataset]):
    """Also gives data by reference, which no registry lists: see :mod:`genrobust.data.reference`.

    What is only referred to is not contained: nobody has vouched for it.
    """

    def get(self, name: str) -> Dataset:
        if not is_reference(name):
            if self._family(name) is None and name not in self:
                _require_no_place(name)
            return super().get(name)
        from genrobust.data.reference import Reference

        return Reference.parse(name)

    def _complete(self, name: str, item: Any) -> Dataset:
        found = super()._complete(name, item)
        for attribute, right, wanted in (
            (
                "classes",
                _is_classes,
                "names, such as ('few', 'many'), or () without labels",
            ),
            ("image_shape", _is_shape, "(channels, height, width), such as (1, 32, 32)"),
        ):
            value = getattr(found, attribute)
            if not right(value):
                raise GenrobustError(
                    f"the data set '{name}' has {value!r} as its {attribute}; give {wanted}"
                )
        return found


def _is_classes(found: object) -> bool:
    return isinstance(found, Sequence) and not isinstance(found, str)


def _is_shape(found: object) -> bool:
    sizes = tuple(found) if isinstance(found, Sequence) else ()
    return len(sizes) == 3 and all(isinstance(size, int) and size > 0 for size in sizes)


def _require_no_place(name: str) -> None:
    """Of pictures at a place more has to be said than where they are, unless a suite is drawn."""
    if files.is_there(name.partition(":")[0]):
        raise GenrobustError(
            f"'{name}' is no data set that is registered; of pictures of your own say behind it at "
            "what shape they are read, and of how many classes they are where these count: "
            f"'{name}?shape=3x32x32&classes=10'"
        )


def is_reference(name: str) -> bool:
    """Whether a data set's name is one that says where its pictures are."""
    return "?shape=" in name


DATASETS: Registry[Dataset] = _Datasets(
    "dataset",
    {
        "digits": "genrobust.data.digits:DIGITS",
        "mnist": "genrobust.data.mnist:MNIST",
        "sprites": "genrobust.data.sprites:SPRITES",
        "mnist28": "genrobust.data.official:MNIST28",
        "fashion-mnist": "genrobust.data.official:FASHION_MNIST",
        "kmnist": "genrobust.data.official:KMNIST",
        "svhn": "genrobust.data.official:SVHN",
        "cifar10": "genrobust.data.official:CIFAR10",
        "celeba": "genrobust.data.official:CELEBA",
    },
    families={"celeba": "genrobust.data.official:CelebA"},
    base=Dataset,
)


def load_images(name: str, split: Split = "test", root: str | Path | None = None) -> Images:
    """Load a split of a registered dataset.

    Args:
        name: a registered dataset, such as ``"digits"``.
        split: ``"train"`` or ``"test"``.
        root: the folder with the data; default that of :func:`data_at`, or else the environment
            variable ``GENROBUST_DATA``. ``digits`` needs none.

    Raises:
        GenrobustError: no such dataset or split, or its files are missing and cannot be downloaded.

    Example:
        >>> images = load_images("digits")
        >>> images.take([0, 1]).shape, len(images)
        (torch.Size([2, 1, 32, 32]), 599)
    """
    text("name", name, "digits")
    if split not in ("train", "test"):
        raise GenrobustError(f"a split is 'train' or 'test', not {split!r}")
    load = _load.__wrapped__ if is_reference(name) else _load  # what lies there may change
    return load(name, split, root_of(root))


def root_of(root: str | Path | None) -> Path | None:
    """The folder with the data as :func:`load_images` takes it; None where none is said.

    Raises:
        GenrobustError: it is a file.
    """
    given = path("root", root, "data") if root else None
    chosen = given or chosen_root() or os.environ.get("GENROBUST_DATA") or None
    if not chosen:
        return None
    folder = files.expanded(chosen)
    if folder.exists() and not folder.is_dir():
        raise GenrobustError(f"the data's root '{chosen}' is a file; give the folder it lies in")
    return folder


def usual_root() -> Path:
    """The folder with the data where none is said.

    Raises:
        GenrobustError: it would be in the user's home, and there is none, as in many a container.
    """
    folder = files.expanded("~/.cache/genrobust")
    if not folder.is_absolute():
        raise GenrobustError(
            "no folder is said in which data sets lie, and this user has no home folder to look "
            "in; give it with --data-root or GENROBUST_DATA, or set HOME"
        )
    return folder


def require_full_range(raw: Tensor) -> None:
    """Assert that bytes are not zeros and ones alone, as masks and black-and-white are kept.

    Divided by 255 as bytes are, these would be pictures that are as good as black.

    Raises:
        GenrobustError: they are.
    """
    if raw.dtype == torch.uint8 and int(raw.max()) <= 1:
        raise GenrobustError(
            f"the bytes of the pictures go from 0 to {int(raw.max())}, and 255 is white; give "
            "255 * images, or floats from 0 to 1"
        )


@contextmanager
def data_at(root: str | Path | None) -> Iterator[None]:
    """Within it :func:`load_images` looks there unless it is told where; None changes nothing.

    For code that is called without a root, such as a plugin's suites.
    """
    before = _ROOT.set(root or _ROOT.get())
    try:
        yield
    finally:
        _ROOT.reset(before)


def chosen_root() -> str | Path | None:
    """Where :func:`data_at` looks."""
    return _ROOT.get()


_ROOT: ContextVar[str | Path | None] = ContextVar("root", default=None)


def source_of(name: str) -> Dataset:
    """The registered data set, as an object.

    Raises:
        GenrobustError: there is none of that name; a plugin's class cannot make one.
    """
    found = DATASETS.get(name)
    with blamed(f"the data set '{name}'", found):
        return found() if isinstance(found, type) else found


def split_of(source: Dataset, name: str, split: Split, root: Path | None) -> Images:
    """What a data set gives for a split.

    Raises:
        GenrobustError: it does not give images; a plugin's code failed.
    """
    with blamed(f"the data set '{name}'", source):
        images = source.load(split, root)
    if not isinstance(images, Images):
        raise GenrobustError(
            f"the data set '{name}' gave a {type(images).__name__} by its load(); let it return "
            "genrobust.data.Images(raw, labels, size)"
        )
    return images


@lru_cache(maxsize=8)
def _load(name: str, split: Split, root: Path | None) -> Images:
    source = source_of(name)
    with told_of(name, split):
        images = split_of(source, name, split, root)
        require_full_range(images.raw)
        return images


@contextmanager
def told_of(name: str, split: Split) -> Iterator[None]:
    """What is wrong with files or images is told of the split that they are of."""
    try:
        yield
    except GenrobustError as problem:
        raise GenrobustError(f"the {split} split of '{name}': {problem}") from problem

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
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.registry import Registry

Split = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class Images:
    """A split of a dataset.

    Args:
        raw: the images as stored, (N, C, H, W), bytes or floats in [0, 1].
        labels: classes, (N,) int64; None for data without.
        size: height and width that ``take`` gives.
    """

    raw: Tensor
    labels: Tensor | None
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what ``take`` gives."""
        return (self.raw.shape[1], *self.size)

    def take(self, ids: Sequence[int] | Tensor) -> Tensor:
        """The images with these ids, (n, C, H, W) float32 in [0, 1], resized bilinearly."""
        chosen = self.raw[torch.as_tensor(ids, dtype=torch.long)]
        images = chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen.float()
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", align_corners=False)
        return images

    def labels_of(self, ids: Sequence[int] | Tensor) -> Tensor:
        """The classes of the images with these ids, (n,) int64.

        Raises:
            GenrobustError: the data has no labels.
        """
        if self.labels is None:
            raise GenrobustError(
                "these images have no labels, and judges go by labels; score them by a suite with "
                "the rule 'distance'"
            )
        return self.labels[torch.as_tensor(ids, dtype=torch.long)]

    @cached_property
    def sha256(self) -> str:
        """The hash of the stored pixels and labels: which data a number was measured on."""
        digest = hashlib.sha256(str((tuple(self.raw.shape), self.raw.dtype, self.size)).encode())
        digest.update(self.raw.contiguous().numpy().tobytes())
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().tobytes())
        return digest.hexdigest()


class Dataset(Protocol):
    """A source of images. Register an instance or class under ``genrobust.datasets``.

    Data without labels has no ``classes``, and images whose ``labels`` are None.
    """

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]

    def load(self, split: Split, root: Path | None) -> Images:
        """The split; ``root`` is the folder given by ``--data-root``, if any."""
        ...


DATASETS: Registry[Dataset] = Registry(
    "dataset",
    {"digits": "genrobust.data.digits:DIGITS", "mnist": "genrobust.data.mnist:MNIST"},
)


def load_images(name: str, split: Split = "test", root: str | Path | None = None) -> Images:
    """Load a split of a registered dataset.

    Args:
        name: a registered dataset, such as ``"digits"``.
        split: ``"train"`` or ``"test"``.
        root: the folder with the data; default that of :func:`data_at`, or else the environment
            variable ``GENROBUST_DATA``. ``digits`` needs none.

    Raises:
        GenrobustError: no such dataset, or its files are missing and cannot be downloaded.

    Example:
        >>> images = load_images("digits")
        >>> images.take([0, 1]).shape, len(images)
        (torch.Size([2, 1, 32, 32]), 599)
    """
    chosen = root or _ROOT.get() or os.environ.get("GENROBUST_DATA") or None
    return _load(name, split, Path(chosen).expanduser() if chosen else None)


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


_ROOT: ContextVar[str | Path | None] = ContextVar("root", default=None)


@lru_cache(maxsize=8)
def _load(name: str, split: Split, root: Path | None) -> Images:
    if split not in ("train", "test"):
        raise GenrobustError(f"a split is 'train' or 'test', not '{split}'")
    found = DATASETS.get(name)
    source = found() if isinstance(found, type) else found
    return source.load(split, root)

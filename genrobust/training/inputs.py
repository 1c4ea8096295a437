"""What a training starts from: images that can be learned from, and a folder of its own."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from genrobust import files
from genrobust.data.base import DATASETS, Images, is_reference, load_images
from genrobust.errors import GenrobustError, GenrobustWarning


def load_splits(dataset: str, data_root: str | Path | None, labels: bool) -> tuple[Images, Images]:
    """The training and the test split.

    Args:
        dataset: a registered dataset.
        data_root: see :func:`genrobust.data.load_images`.
        labels: whether classes are learned.

    Raises:
        GenrobustError: no such dataset, or a split that nothing can be learned from or measured
            on: without images or labels, of another shape, or with pixels outside [0, 1].
    """
    train, test = (load_images(dataset, split, data_root) for split in ("train", "test"))
    if train.shape != test.shape:
        raise GenrobustError(
            f"the training images of '{dataset}' have the shape {train.shape} and its test images "
            f"{test.shape}; give both splits of the data set one shape"
        )
    for name, images in (("train", train), ("test", test)):
        _check_pixels(f"the {name} split of '{dataset}'", images)
        if labels:
            _check_labels(f"the {name} split of '{dataset}'", images, dataset)
    if labels and train.sha256 == test.sha256:
        warnings.warn(
            f"the training and the test images of '{dataset}' are the same, so that what is "
            "trained has seen the pictures that are attacked; put each split into a sub-folder of "
            "its own, train and test",
            GenrobustWarning,
            stacklevel=2,
        )
    return train, test


def _check_pixels(what: str, images: Images) -> None:
    if not len(images):
        raise GenrobustError(f"{what} has no images; choose a data set that has some")
    if images.raw.dtype == torch.uint8:
        return
    low, high = float(images.raw.min()), float(images.raw.max())
    if not (low >= 0 and high <= 1):  # nor NaN, which min and max pass on
        raise GenrobustError(
            f"{what} has pixels from {low:g} to {high:g}; give them as bytes, or as floats in "
            "[0, 1]"
        )


def _check_labels(what: str, images: Images, dataset: str) -> None:
    if images.labels is None:
        raise GenrobustError(
            f"{what} has no labels, and they are what is learned; choose a data set that has, such "
            "as 'mnist'"
        )
    classes = len(DATASETS.get(dataset).classes)
    if not classes and is_reference(dataset):
        raise GenrobustError(
            f"{what} has labels up to {int(images.labels.max())}, and it is not said how many "
            f"classes there are; put it behind the name: '{dataset}&classes="
            f"{int(images.labels.max()) + 1}'"
        )
    low, high = int(images.labels.min()), int(images.labels.max())
    if len(images.labels) != len(images) or low < 0 or high >= classes:
        raise GenrobustError(
            f"{what} has {len(images.labels)} labels from {low} to {high} for {len(images)} images "
            f"of {classes} classes; give each image one label from 0 to {classes - 1}"
        )


class Claim:
    """Whose a folder is: of the training that began last, as a file in it says.

    Args:
        path: the file; writing it also shows whether the folder can be written to.
        run: all that the training's results depend on, as text.

    Raises:
        GenrobustError: the folder cannot be written.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._run = path, run
        files.write_text(path, run + "\n")

    def check(self) -> None:
        """Before anything else is written.

        Raises:
            GenrobustError: another training has begun in the folder.
        """
        try:
            found = self._path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            found = ""
        if found.strip() != self._run:
            raise GenrobustError(
                f"another training has begun in '{self._path.parent}', or the folder was taken "
                "away; nothing more is written there: run one at a time, or choose another --out"
            )


class DivergedError(GenrobustError):
    """The loss or the weights are no longer finite numbers."""

    def __init__(self, loss: float | str, step: int, advice: str) -> None:
        super().__init__(f"the loss is {loss} at step {step}; {advice}")

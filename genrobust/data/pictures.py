"""Pictures before they are a data set: whatever holds some, read one by one as they are needed."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from genrobust.data.base import Images, Split
from genrobust.data.pixels import (
    CHANNELS,
    Shape,
    channels_first,
    numbers,
    opened,
    pixels_of,
    with_channels,
)
from genrobust.errors import GenrobustError, GenrobustWarning, in_a_line
from genrobust.foreign import explain

#: What files are taken for pictures; those of torchvision's ImageFolder.
ENDINGS = frozenset({*(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")})

#: What other files of pictures end in, which are not read.
NOT_READ = frozenset(
    {*(".gif", ".jfif", ".jpe", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".tga", ".dng", ".svg")}
)

#: What the splits of folders and of mappings are called, in whatever case; the first there counts.
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "validation", "val", "valid", "dev"),
}

#: What programs leave beside pictures is hidden, but for this folder in archives made on a Mac.
LEFT_BEHIND = "__MACOSX"

#: What arrays are called in a ``.npz``, in whatever case and in the order in which they are looked
#: for; beside a split's name where there are several.
IMAGES, LABELS = ("images", "x", "data"), ("labels", "y", "targets")

#: What the column with the picture is called among several, in the order in which it is looked for.
COLUMNS = ("image", "img", "pixel_values", "pixels", "x")

#: Whole numbers from here on are something else than classes, such as ids.
MOST_CLASSES = 10**6


class MissingSplitError(GenrobustError):
    """There are splits, and not the one that is wanted."""


class Read(Protocol):
    """The picture at a position, (C, H, W), bytes or floats in [0, 1].

    Where it may be (C, H, W) or (H, W, C), a shape that is wanted tells.
    """

    def __call__(self, i: int, shape: Shape | None = None) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of any sizes.

    Args:
        count: how many.
        read: one of them.
        labels: classes, (count,) int64; None for pictures without.
        classes: how many classes there are; 0 without labels.
        named: whether these are all that have a name, by which they are numbered.
        column: of several that hold something like pictures, the one that was taken.
    """

    count: int
    read: Read
    labels: Tensor | None = None
    classes: int = 0
    named: bool = False
    column: str = ""


def pictures_in(given: Any, split: Split, labelled: bool = False) -> Pictures:
    """The pictures that an object holds.

    Args:
        given: a path to a folder or to a ``.npz`` or ``.npy``; :class:`Images`; a registered-style
            data set with ``load``; images, or images and labels, as tensors or arrays; anything
            with ``len()`` whose items are (picture, label), as torchvision's data sets, or
            dictionaries with a picture, as those of Hugging Face; or a mapping from splits to one.
        split: the one wanted, where there are several; without a test split that of validation.
        labelled: whether labels are asked for: where they are not at hand, pictures are opened for
            them. Else those that are at hand are taken where they are classes.

    Raises:
        GenrobustError: it is none of these, or there is nothing in it; labels that are asked for
            are no classes.
    """
    if isinstance(given, (str, Path)):
        return _of_path(Path(given), split, labelled)
    if isinstance(given, Images):
        classes = 0 if given.labels is None else int(given.labels.max()) + 1
        return Pictures(len(given), lambda i, shape=None: given.raw[i], given.labels, classes)
    if hasattr(given, "load") and hasattr(given, "image_shape"):
        whole = pictures_in(given.load(split, None), split, labelled)
        return replace(whole, classes=len(given.classes), named=True)
    if isinstance(given, Mapping):
        if (found := _of_names(given, split, labelled)) is not None:
            return found
        return pictures_in(_of_splits(given, split), split, labelled)
    if isinstance(given, (Tensor, np.ndarray)):
        return _of_arrays(given, None, labelled)
    if _is_images_and_labels(given):
        return _of_arrays(given[0], given[1], labelled)
    if told := _told_apart(given):
        raise GenrobustError(told)
    if len(getattr(given, "shape", ())) in (3, 4) and not _count(given):  # such as of zarr
        return _of_arrays(given, None, labelled)
    if not hasattr(given, "__getitem__") or not _count(given):
        raise GenrobustError(
            f"a {type(given).__name__} holds no pictures; give tensors (N, C, H, W) and labels, a "
            "data set with len() and items (picture, label), such as list(data) of one without "
            "len(), or a loader's .dataset, or genrobust.data.Images"
        )
    with _reading(given, 0):
        first = given[0]
    if isinstance(first, Mapping):
        return _of_rows(given, first, labelled)
    return _of_items(given, first, labelled)


def _told_apart(given: Any) -> str | None:
    """What to give in place of data sets side by side, or of a table; None of anything else."""
    if hasattr(given, "columns") and (hasattr(given, "to_numpy") or hasattr(given, "to_pandas")):
        return (
            f"a {type(given).__name__} is a table, and a picture is none of its columns; give "
            "(images, labels), such as (numpy.stack(list(table['image'])), table['label']), or, of "
            "a column for each pixel, table.to_numpy().reshape(-1, 1, 28, 28)"
        )
    listed = [*given] if isinstance(given, (tuple, list)) and len(given) in (2, 3) else []
    kind = "data sets" if listed and all(_is_data_set(one) for one in listed) else None
    if listed and isinstance(given, tuple) and all(map(_is_images_and_labels, listed)):
        kind = "pairs of images and labels"  # as Keras gives; a list is rather one of items
    if kind is None:
        return None
    return (
        f"these are {len(listed)} {kind}; give the one that is attacked, or say which is which, "
        "such as {'train': data[0], 'test': data[-1]}"
    )


def _is_data_set(one: Any) -> bool:
    """Whether it holds items by their number, and is no picture nor a pair of one and its label."""
    numbered = hasattr(one, "__getitem__") and _count(one) > 0
    plain = isinstance(one, (tuple, list, Mapping, str, bytes))
    return numbered and not plain and not hasattr(one, "shape")


def _count(given: Any) -> int:
    """How many items it says that it has; 0 where it says nothing, as a stream, or nonsense."""
    try:
        return len(given)
    except Exception:  # its own code raises anything
        return 0


def _is_images_and_labels(given: Any) -> bool:
    """Whether it is such a pair, and not two pictures: labels have fewer axes than these."""
    if not isinstance(given, (tuple, list)) or len(given) != 2 or not hasattr(given[0], "shape"):
        return False
    axes = [len(getattr(one, "shape", ())) for one in given]
    return axes[0] not in (2, 3) or axes[1] != axes[0]


def _of_path(path: Path, split: Split, labelled: bool) -> Pictures:
    if path.is_dir():
        splits = _splits(path)
        return _of_folder(_split_folder(path, split, splits) if splits else path, splits)
    if path.suffix not in (".npz", ".npy"):
        raise GenrobustError(
            f"'{path}' is neither a folder nor a .npz or .npy file; give one of these, a data "
            "set's name, or FILE.py:FUNCTION, a function that reads it and returns a data set, or "
            "(images, labels)"
        )
    try:
        found = np.load(path, allow_pickle=False)
        arrays = {"images": found} if isinstance(found, np.ndarray) else _wanted(found)
    except Exception as problem:  # a damaged archive raises anything
        raise GenrobustError(
            f"'{path}' cannot be read ({in_a_line(problem)}); write it with numpy.savez or "
            "numpy.save, from arrays of numbers"
        ) from problem
    held = _of_names(arrays, split, labelled)
    if held is None:
        raise GenrobustError(
            f"'{path}' has the arrays {', '.join(arrays) or 'none'}; call one 'images', and the "
            "classes, if there are any, 'labels', or, of splits, 'train_images' and so on"
        )
    return held


def _of_names(given: Mapping[str, Any], split: Split, labelled: bool) -> Pictures | None:
    """Of arrays that are called images, and labels, or so beside a split; None without such."""
    named = {str(name).lower(): array for name, array in given.items() if array is not None}
    of_split = _arrays_of_splits(named)
    if of_split and not any(name in named for name in IMAGES):
        named = _of_splits(of_split, split)
    images = next((named[name] for name in IMAGES if name in named), None)
    if not hasattr(images, "shape"):  # such as a split that is called so
        return None
    labels = next((named[name] for name in LABELS if name in named), None)
    return _of_arrays(images, labels, labelled)


def _wanted(archive: Any) -> dict[str, Any]:
    """By name the arrays that may be images or labels; of others, as of objects, None is read."""
    with archive:
        return {
            name: archive[name] if {*name.lower().split("_")} & {*IMAGES, *LABELS} else None
            for name in archive.files
        }


def _arrays_of_splits(arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By split and name those called after both, in either order: ``train_images``, ``x_test``."""
    found: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        first, _, last = name.partition("_")
        for split, what in ((first, last), (last, first)):
            if what in (*IMAGES, *LABELS) and any(split in names for names in SPLITS.values()):
                found.setdefault(split, {})[what] = array
    return {split: named for split, named in found.items() if any(n in named for n in IMAGES)}


def _splits(folder: Path) -> list[Path]:
    """The sub-folders of splits, where the folder has such and no others."""
    below, _ = _held(folder)
    splits = [path for path in below if any(path.name.lower() in n for n in SPLITS.values())]
    others = [path for path in below if path not in splits]
    if len(splits) > 1 and others:
        raise GenrobustError(
            f"'{folder}' has the splits {', '.join(path.name for path in splits)} beside other "
            f"folders, such as '{others[0].name}'; give the one that is meant, such as "
            f"'{folder / splits[0].name}', or move the others elsewhere"
        )
    return [] if others else splits


def _split_folder(folder: Path, split: Split, splits: list[Path]) -> Path:
    names = [path.name for path in splits]
    name = _named(split, names)
    if name is None:
        raise MissingSplitError(
            f"'{folder}' has {', '.join(names)} and no {split}; call one '{split}', or give the "
            "folder in it that is meant"
        )
    return folder / name


def _named(split: Split, names: Iterable[str]) -> str | None:
    """Which of these names is the split's; None where none is."""
    by_case = {name.lower(): name for name in sorted(names, reverse=True)}
    return next((by_case[name] for name in SPLITS[split] if name in by_case), None)


def _of_folder(folder: Path, splits: list[Path]) -> Pictures:
    """Class sub-folders, of which some may be empty, or pictures."""
    subs, beside = _held(folder)
    inside = {sub: sorted(_files(sub)) for sub in subs}
    below = [path for paths in inside.values() for path in paths]
    files, loose = _pictures(below), _pictures(beside)
    if files and loose:
        raise GenrobustError(
            f"'{folder}' has pictures beside class sub-folders, such as '{loose[0].name}'; put "
            "them into sub-folders too"
        )
    if not files and not loose:
        raise GenrobustError(
            f"'{folder}' has no pictures ({', '.join(sorted(ENDINGS))}) in it"
            f"{_but_others([*below, *beside])}; give a folder that has some, a .npz or .npy, or "
            "FILE.py:FUNCTION, a function that reads what is there, such as by "
            "datasets.load_dataset or load_from_disk"
        )
    _require_no_splits(folder, files)
    labels, classes = _numbered_by_name(inside, splits) if files else (None, 0)
    _warn_of_not_read(folder, [*below, *beside])
    read = _opening(files or loose)
    return Pictures(len(files or loose), read, labels, classes, named=bool(files))


def _require_no_splits(folder: Path, pictures: list[Path]) -> None:
    """Pictures to train with and to test with do not lie side by side, which would all count."""
    below: dict[Path, set[str]] = {}
    for place in {picture.parent for picture in pictures}:
        for path in (place, *place.parents):
            if path == folder:
                break
            below.setdefault(path.parent, set()).add(path.name)
    for place, names in sorted(below.items()):
        words = {name: {*re.findall("[a-z]+", name.lower())} for name in sorted(names)}
        called = [
            next((name for name in words if words[name] & {*SPLITS[split]}), None)
            for split in SPLITS
        ]
        if None not in called:
            raise GenrobustError(
                f"'{place}' has '{called[0]}' and '{called[1]}', as splits are called, and of "
                f"'{folder}' all pictures would count; give a folder that has 'train' and 'test' "
                "themselves and no others, with the classes in each, or the folder of one split"
            )


def _but_others(paths: list[Path]) -> str:
    """What else there is, by its commonest endings."""
    kinds = Counter(path.suffix.lower() for path in paths if path.suffix)
    found = [f"{count} {kind}" for kind, count in kinds.most_common(3)]
    return f", but {' and '.join(found)}" if found else ""


def _opening(files: list[Path]) -> Read:
    return lambda i, shape=None: opened(files[i])


def _numbered_by_name(inside: Mapping[Path, list[Path]], splits: list[Path]) -> tuple[Tensor, int]:
    """The classes of the pictures in class sub-folders, and how many there are.

    They are numbered by the sub-folders of all splits, as one split may lack some.
    """
    pictures = {sub: _pictures(paths) for sub, paths in inside.items()}
    for sub, paths in inside.items():
        if _is_of_other_files(paths):
            raise GenrobustError(
                f"'{sub}' has files and no pictures ({', '.join(sorted(ENDINGS))}); move it "
                "elsewhere, or empty it if it is a class that has none"
            )
    others = {name for split in splits for name in _class_names(split)}
    names = sorted({sub.name for sub in inside} | others)
    number = {name: kind for kind, name in enumerate(names)}
    labels = [number[sub.name] for sub, found in pictures.items() for _ in found]
    return torch.tensor(labels), len(names)


def _class_names(folder: Path) -> list[str]:
    """Those of its sub-folders, but for such of other files; beside pictures none is a class."""
    subs, beside = _held(folder)
    if _pictures(beside):
        return []
    return [sub.name for sub in subs if not _is_of_other_files(_files(sub))]


def _is_of_other_files(paths: Iterable[Path]) -> bool:
    """Whether there are files below a sub-folder and no pictures among them."""
    files = False
    for path in paths:
        if path.suffix.lower() in ENDINGS:
            return False
        files = True
    return files


def _warn_of_not_read(folder: Path, paths: list[Path]) -> None:
    kinds = Counter(path.suffix.lower() for path in paths)
    found = [f"{kinds[kind]} {kind}" for kind in sorted(kinds.keys() & NOT_READ)]
    if found:
        warnings.warn(
            f"'{folder}' also has {', '.join(found)}, which are left out; convert them to .png to "
            "have them count",
            GenrobustWarning,
            stacklevel=2,
        )


def _pictures(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in ENDINGS]


def _files(folder: Path) -> Iterator[Path]:
    """Those at any depth, also where links lead to, but neither up again nor twice to one place."""
    known = {*folder.resolve().parents}
    open_ones = [folder]
    while open_ones:
        place = open_ones.pop()
        if (real := place.resolve()) in known:
            continue
        known.add(real)
        subs, files = _held(place)
        yield from files
        open_ones += reversed(subs)


def _held(folder: Path) -> tuple[list[Path], list[Path]]:
    """The sub-folders and the files in a folder that are not hidden.

    Raises:
        GenrobustError: it cannot be read, so that nobody knows what is missing.
    """
    try:
        with os.scandir(folder) as entries:  # which know their kind, unlike paths
            found = [(folder / entry.name, entry.is_dir()) for entry in entries]
    except OSError as problem:
        raise GenrobustError(
            f"the folder '{folder}' cannot be read ({in_a_line(problem)}); make it readable, or "
            "move it elsewhere"
        ) from problem
    seen = [(path, is_folder) for path, is_folder in sorted(found) if not _is_hidden(path)]
    return [path for path, yes in seen if yes], [path for path, yes in seen if not yes]


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == LEFT_BEHIND


def _of_arrays(images: Any, labels: Any, labelled: bool) -> Pictures:
    given = numbers("images", images)
    stored = tuple(given.shape)
    pixels = with_channels(given)
    if len(stored) == 3 and labels is not None and _count(labels) != len(pixels):
        raise GenrobustError(
            f"images of shape {stored} are {len(pixels)} in grey, of which these are not the "
            f"labels; give one picture as (1, {', '.join(map(str, stored))}), or one label for each"
        )

    def read(i: int, shape: Shape | None = None) -> Tensor:
        if len(stored) == 3 and shape not in (None, pixels.shape[1:]):
            _require_many(stored)
        return channels_first(pixels[i], shape)

    return Pictures(len(pixels), read, *_classes(labels, len(pixels), 0, labelled))


def _require_many(shape: tuple[int, ...]) -> None:
    """Grey pictures, (N, H, W), are not rather a single one in colour, (H, W, C)."""
    count, height, width = shape
    if CHANNELS.get(width, 0) > CHANNELS.get(height, 0):
        raise GenrobustError(
            f"images have shape {shape}, which may be one picture of {width} channels or {count} "
            f"in grey; give (1, {count}, {height}, {width}) or ({count}, 1, {height}, {width})"
        )


def _of_splits(given: Mapping[str, Any], split: Split) -> Any:
    by_name = {str(key): held for key, held in given.items()}
    name = _named(split, by_name)
    if name is None:
        raise MissingSplitError(
            f"the data has {', '.join(by_name)} and no {split} split; call one '{split}', "
            "or give (images, labels)"
        )
    return by_name[name]


def _of_items(given: Any, first: Any, labelled: bool) -> Pictures:
    """Of a data set whose items are (picture, label), as torchvision's, or pictures."""
    if not isinstance(first, (tuple, list)):
        return _Items(given).pictures(labelled)
    if len(first) == 1:  # a TensorDataset of images alone
        return _Items(given, 0).pictures(labelled)
    if _relabels(given):
        return _Items(given, 0, 1).pictures(labelled)
    known = _said(given, "targets", _said(given, "labels", None))
    return _Items(given, 0, 1, known, _named_classes(given)).pictures(labelled)


def _said(given: Any, name: str, default: Any) -> Any:
    """What a data set says of all its items at once; the default where it says none, or fails."""
    try:
        return getattr(given, name, default)
    except Exception:  # a property's own code raises anything
        return default


def _named_classes(given: Any) -> int:
    """How many classes a data set names, or what it is a subset of does."""
    whole = given
    while _said(whole, "classes", None) is None and _said(whole, "dataset", None) is not None:
        whole = whole.dataset
    names = _said(whole, "classes", ())
    return len(names) if isinstance(names, Sized) and not _relabels(whole) else 0


def _relabels(given: Any) -> bool:
    """Whether a data set of torchvision's turns the labels that it has into others."""
    both = getattr(given, "transforms", None)  # of one's own it may; torchvision's says so
    own = getattr(given, "target_transform", None)
    return own is not None or getattr(both, "target_transform", both) is not None


def _of_rows(given: Any, first: Mapping[str, Any], labelled: bool) -> Pictures:
    """Of a data set whose items are dictionaries, as those of Hugging Face."""
    features = getattr(given, "features", None)
    features = features if isinstance(features, Mapping) else {}
    kinds = {name: type(kind).__name__ for name, kind in features.items() if name in first}
    picture, of_several = _column(first, kinds)
    column = picture if of_several else ""
    named = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    named += [name for name in ("label", "labels") if name in first and name not in named]
    if not named and labelled:
        raise GenrobustError(
            f"none of the columns {', '.join(first)} is called as classes are; call the one that "
            "holds them 'label', such as by rename_column, or leave the judges out, without which "
            "no labels are needed"
        )
    if not named:
        return replace(_Items(given, picture).pictures(labelled), column=column)
    if len(named) > 1:
        warnings.warn(
            f"the classes are those of the column '{named[0]}', and not of {', '.join(named[1:])}; "
            "for another, take the first away, such as by remove_columns",
            GenrobustWarning,
            stacklevel=2,
        )
    try:
        known = list(given[named[0]])  # without decoding the pictures beside it
    except Exception:  # where a data set has no columns, its own code raises anything
        known = None
    names = getattr(features.get(named[0]), "names", None) or ()
    items = _Items(given, picture, named[0], known, len(names))
    return replace(items.pictures(labelled), column=column)


def _column(first: Mapping[str, Any], kinds: Mapping[str, str]) -> tuple[str, bool]:
    """The column that holds the picture, and whether others look like one too.

    Raises:
        GenrobustError: none does, or several do and none is called as pictures are.
    """
    pictures = [n for n, v in first.items() if kinds.get(n) == "Image" or hasattr(v, "convert")]
    arrays = [n for n, v in first.items() if n not in pictures and _axes(v) >= 2]
    shown = [*pictures, *arrays]
    if not shown:
        raise GenrobustError(
            f"none of the columns {', '.join(first)} holds pictures; let one hold PIL's, or arrays "
            "(C, H, W) or (H, W, C), and not their files' names or bytes"
        )
    likely = [name for name in COLUMNS if name in shown][:1] or pictures or arrays
    if len(likely) > 1:
        raise GenrobustError(
            f"each of the columns {', '.join(likely)} may be the picture; call the one that is "
            "meant 'image', such as by rename_column"
        )
    return likely[0], len(shown) > 1


def _axes(value: Any) -> int:
    try:
        return np.ndim(value)
    except ValueError:  # lists of unequal lengths, such as boxes
        return 0


@dataclass(frozen=True, eq=False)
class _Items:
    """A data set whose items hold a picture, and maybe a label.

    Args:
        given: the data set.
        picture: the picture's place in an item; None where it is the item.
        label: the label's place; None where there is none.
        known: the labels of all by position, without an item being opened, where they are classes;
            anything else is as good as None.
        names: how many classes have a name.
    """

    given: Any
    picture: Any = None
    label: Any = None
    known: Any = None
    names: int = 0

    def pictures(self, labelled: bool) -> Pictures:
        count = len(self.given)
        known, _ = _classes(self.known, count, 0, labelled=False)
        labels: Any = known
        at_hand = labelled or isinstance(self.given, (tuple, list))
        if known is None and self.label is not None and at_hand:
            labels = [self._label(i) for i in range(count)]

        def read(i: int, shape: Shape | None = None) -> Tensor:
            with _reading(self.given, i):
                item = self.given[i]
                if known is not None:
                    _require_same(item[self.label], int(known[i]))
                return pixels_of(item if self.picture is None else item[self.picture], shape)

        found, classes = _classes(labels, count, self.names, labelled)
        return Pictures(count, read, found, classes, named=bool(self.names))

    def _label(self, i: int) -> Any:
        with _reading(self.given, i):
            return self.given[i][self.label]


@contextmanager
def _reading(given: Any, i: int) -> Iterator[None]:
    """What goes wrong with an item becomes one sentence that names it."""
    item = f"item {i} of a {type(given).__name__}"
    try:
        yield
    except GenrobustError as problem:
        raise GenrobustError(f"{item}: {problem}") from problem
    except Exception as problem:  # the code of others, and PIL's decoders, raise anything
        raise GenrobustError(
            f"{item} cannot be read ({explain(problem)}); give a data set whose items are "
            "(picture, label) from number 0 on, or tensors"
        ) from problem


def _classes(labels: Any, count: int, names: int, labelled: bool) -> tuple[Tensor | None, int]:
    """Labels as classes, and how many there are; none where they are none and not asked for."""
    if labels is None:
        return None, 0
    try:
        found = _numbered(labels, count)
    except GenrobustError:
        if labelled:
            raise
        return None, 0
    return found, max(names, int(found.max()) + 1)


def _numbered(labels: Any, count: int) -> Tensor:
    """Labels as they are; names are refused, as the splits of a data set may not have the same."""
    listed = hasattr(labels, "__iter__") and getattr(labels, "ndim", 1) > 0
    first = next(iter(labels), None) if listed else labels
    if isinstance(first, str):
        raise GenrobustError(
            f"labels are names, such as '{first}'; give each class its number in all splits, such "
            "as names.index(label), or of Hugging Face's data sets class_encode_column('label')"
        )
    found = _whole(labels)
    if found is None or len(found) != count or not 0 <= found.min() <= found.max() < MOST_CLASSES:
        raise GenrobustError(
            f"labels are no classes{_what_else(labels, count)}; give one whole number from 0 up a "
            "picture, or leave the judges out, without which no labels are needed"
        )
    return found


def _what_else(labels: Any, count: int) -> str:
    """What labels that are no classes are, as far as it can be said, and how to make them such."""
    try:
        found = numbers("labels", labels)
    except GenrobustError:
        try:
            found = torch.stack([numbers("a label", label) for label in labels])
        except (GenrobustError, TypeError, RuntimeError):
            return ""
    if found.ndim == 0 or found.is_complex():
        return ""
    if len(found) != count:
        return f", as there are {len(found)} of them for {count} pictures"
    if found.ndim == 2 and found.shape[1] > 1:
        rows = f", but rows of {found.shape[1]}"
        one_hot = bool(((found == 0) | (found == 1)).all()) and bool((found.sum(1) == 1).all())
        return f"{rows}, of which one is 1: give labels.argmax(1)" if one_hot else rows
    if found.is_floating_point():
        if bool((found == found.round()).all()):  # also not where one is NaN
            return ", but floats: give them as int64"
        return ", but floats that are not whole"
    if found.ndim == 1 or found.shape[1:].numel() == 1:
        return f", as they go from {int(found.min())} to {int(found.max())}"
    return f", as their shape is {tuple(found.shape)}"


def _whole(labels: Any) -> Tensor | None:
    """Labels as int64, (n,); None where they are no whole numbers."""
    try:
        found = numbers("labels", labels)
    except GenrobustError:
        return None
    return None if found.is_floating_point() or found.is_complex() else found.flatten().long().cpu()


def _require_same(label: Any, known: int) -> None:
    """An item has the label by which it was drawn, where it is a whole number."""
    found = _number(label)
    if found is not None and found != known:
        raise GenrobustError(
            f"its label is {found}, and the data set says of all labels at once that it is {known} "
            "(by its place in .targets, .labels or a column); correct these, or give list(data)"
        )


def _number(label: Any) -> int | None:
    if isinstance(label, (Tensor, np.ndarray, np.generic)) and math.prod(label.shape) == 1:
        label = label.item()
    return label if isinstance(label, int) else None

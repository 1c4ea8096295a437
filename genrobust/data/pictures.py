"""Pictures before they are a data set: whatever holds some, read one by one as they are needed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.arguments import require_pixels
from genrobust.data.base import Images, Split
from genrobust.errors import GenrobustError, GenrobustWarning, in_a_line
from genrobust.foreign import explain

#: What files are taken for pictures; those of torchvision's ImageFolder.
ENDINGS = frozenset({*(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")})

#: What sub-folders are called that hold a split each, by the split.
SPLITS = {"train": ("train",), "test": ("test", "val", "valid")}

#: What programs leave beside pictures is hidden, but for this folder in archives made on a Mac.
LEFT_BEHIND = "__MACOSX"

#: What arrays are called in a ``.npz``, in the order in which they are looked for.
IMAGES, LABELS = ("images", "x", "data"), ("labels", "y", "targets")


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of any sizes.

    Args:
        count: how many.
        read: the picture at a position, (C, H, W), bytes or floats in [0, 1].
        labels: classes, (count,) int64; None for pictures without.
        classes: how many classes there are; 0 without labels.
    """

    count: int
    read: Callable[[int], Tensor]
    labels: Tensor | None = None
    classes: int = 0


def pictures_in(given: Any, split: Split) -> Pictures:
    """The pictures that an object holds.

    Args:
        given: a path to a folder or to a ``.npz`` or ``.npy``; :class:`Images`; a registered-style
            data set with ``load``; images, or images and labels, as tensors or arrays; anything
            with ``len()`` whose items are (picture, label), as torchvision's data sets, or
            dictionaries with a picture, as those of Hugging Face; or a mapping from splits to one.
        split: the one wanted, where there are several; without a test split that of validation.

    Raises:
        GenrobustError: it is none of these, or there is nothing in it.
    """
    if isinstance(given, (str, Path)):
        return _of_path(Path(given), split)
    if isinstance(given, Images):
        classes = 0 if given.labels is None else int(given.labels.max()) + 1
        return Pictures(len(given), lambda i: given.raw[i], given.labels, classes)
    if hasattr(given, "load") and hasattr(given, "image_shape"):
        whole = pictures_in(given.load(split, None), split)
        return Pictures(whole.count, whole.read, whole.labels, len(given.classes))
    if isinstance(given, Mapping):
        return pictures_in(_of_splits(given, split), split)
    if isinstance(given, (Tensor, np.ndarray)):
        return _of_arrays(given, None)
    if isinstance(given, (tuple, list)) and len(given) == 2 and hasattr(given[0], "shape"):
        return _of_arrays(*given)
    if not (hasattr(given, "__len__") and hasattr(given, "__getitem__")) or not len(given):
        raise GenrobustError(
            f"a {type(given).__name__} holds no pictures; give tensors (N, C, H, W) and labels, a "
            "data set with len() and items (picture, label), such as list(data) of one without "
            "len(), or a loader's .dataset, or genrobust.data.Images"
        )
    try:
        first = given[0]
    except Exception as problem:
        raise GenrobustError(
            f"the first item of a {type(given).__name__} cannot be read ({explain(problem)}); give "
            "a data set whose items are (picture, label) from number 0 on, or tensors"
        ) from problem
    if hasattr(given, "features") or isinstance(first, Mapping):
        return _of_rows(given)
    return _of_items(given, first)


def fitted(picture: Tensor, shape: tuple[int, int, int], channels: str | None) -> Tensor:
    """The picture at a shape: the largest part in the middle of that aspect, resized.

    By area where it becomes smaller and bilinearly where it becomes larger.

    Args:
        picture: (C, H, W), bytes or floats in [0, 1]; what comes out is of the same kind.
        shape: (C, H, W) of the result.
        channels: ``"rgb"`` or ``"grey"``, what pictures of other channels are turned into; None
            for no such thing.

    Raises:
        GenrobustError: its channels are others, and it was not said what to do.

    Example:
        >>> fitted(torch.zeros(3, 20, 30, dtype=torch.uint8), (1, 8, 8), "grey").shape
        torch.Size([1, 8, 8])
    """
    if picture.shape[0] != shape[0]:
        wanted = {1: "grey", 3: "rgb"}.get(shape[0])
        if channels is None or channels != wanted:
            raise GenrobustError(
                f"a picture has {picture.shape[0]} channels where {shape[0]} are wanted; to have "
                f"all turned into {wanted or 'grey or rgb'}, put '?channels={wanted or 'rgb'}' "
                "behind the name of the data"
            )
    size = shape[1:]
    if picture.shape == shape:
        return picture
    pixels = picture.float()
    if picture.shape[0] == 1:
        pixels = pixels.expand(shape[0], -1, -1)
    elif shape[0] == 1:
        luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R 601, as PIL's
        pixels = (pixels[:3] * luma).sum(0, keepdim=True)
    height, width = pixels.shape[1:]
    scale = min(height / size[0], width / size[1])
    crop = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    pixels = pixels[None, :, top : top + crop[0], left : left + crop[1]]
    if crop[0] > size[0]:
        pixels = F.interpolate(pixels, size, mode="area")
    elif crop != size:
        pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
    return pixels[0].round().byte() if picture.dtype == torch.uint8 else pixels[0]


def _of_path(path: Path, split: Split) -> Pictures:
    if path.is_dir():
        return _of_folder(_with_split(path, split))
    if path.suffix not in (".npz", ".npy"):
        raise GenrobustError(
            f"'{path}' is neither a folder nor a .npz or .npy file; give one of these, a data "
            "set's name, or FILE.py:FUNCTION"
        )
    try:
        found = np.load(path, allow_pickle=False)
        arrays = {"images": found} if isinstance(found, np.ndarray) else dict(found)
    except (OSError, ValueError, EOFError) as problem:
        raise GenrobustError(
            f"'{path}' cannot be read ({in_a_line(problem)}); write it with numpy.savez or "
            "numpy.save, from arrays of numbers"
        ) from problem
    images = next((arrays[name] for name in IMAGES if name in arrays), None)
    if images is None:
        raise GenrobustError(
            f"'{path}' has the arrays {', '.join(arrays) or 'none'}; call one 'images', and the "
            "classes, if there are any, 'labels'"
        )
    return _of_arrays(images, next((arrays[name] for name in LABELS if name in arrays), None))


def _with_split(folder: Path, split: Split) -> Path:
    """The sub-folder of a split where the folder has some, else itself."""
    below = {p.name for p in _seen(folder.iterdir(), folder) if p.is_dir()}
    splits = {name for names in SPLITS.values() for name in names if name in below}
    others = below - splits
    if len(splits) > 1 and others:
        raise GenrobustError(
            f"'{folder}' has the splits {', '.join(sorted(splits))} beside other folders, such as "
            f"'{min(others)}'; move those elsewhere"
        )
    if others or not splits:
        return folder
    name = next((name for name in SPLITS[split] if name in splits), None)
    if name is None:
        raise GenrobustError(f"'{folder}' has {', '.join(sorted(splits))} and no {split}")
    return folder / name


def _of_folder(folder: Path) -> Pictures:
    """Class sub-folders, or pictures."""
    files, labels, classes = [], [], 0
    for sub in sorted(p for p in _seen(folder.iterdir(), folder) if p.is_dir()):
        inside = _files(sub.rglob("*"), sub)
        files += inside
        labels += [classes] * len(inside)
        classes += bool(inside)
    loose = _files(folder.iterdir(), folder)
    if files and loose:
        raise GenrobustError(
            f"'{folder}' has pictures beside class sub-folders, such as '{loose[0].name}'; put "
            "them into sub-folders too"
        )
    if not files and not loose:
        raise GenrobustError(f"'{folder}' has no pictures ({', '.join(sorted(ENDINGS))}) in it")
    if loose:
        return Pictures(len(loose), lambda i: opened(loose[i]))
    return Pictures(len(files), lambda i: opened(files[i]), torch.tensor(labels), classes)


def _files(paths: Iterable[Path], home: Path) -> list[Path]:
    return sorted(p for p in _seen(paths, home) if p.suffix.lower() in ENDINGS)


def _seen(paths: Iterable[Path], home: Path) -> Iterator[Path]:
    """Those below a folder that neither are hidden nor lie in what is."""
    for path in paths:
        below = path.parts[len(home.parts) :]
        if not any(part.startswith(".") or part == LEFT_BEHIND for part in below):
            yield path


def opened(file: Path) -> Tensor:
    """A picture's file as bytes (C, H, W), grey or in colour.

    Raises:
        GenrobustError: it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return _pixels(picture)
    except GenrobustError as problem:
        raise GenrobustError(f"the picture '{file}': {problem}") from problem
    except Exception as problem:  # PIL's decoders raise anything
        raise GenrobustError(
            f"the picture '{file}' cannot be read ({in_a_line(problem)}); repair or remove it"
        ) from problem


def _pixels(picture: Any) -> Tensor:
    """A picture of PIL's, an array or a tensor as (C, H, W)."""
    if hasattr(picture, "convert"):  # PIL's, whose height may be 1 or 3 as channels are
        if picture.mode[0] in "IF":
            raise GenrobustError(f"its mode is {picture.mode}; give pictures of 8 bits a channel")
        grey = picture.mode in ("1", "L", "LA", "La")
        found = torch.from_numpy(np.array(picture.convert("L" if grey else "RGB")))
        return found[None] if grey else found.permute(2, 0, 1)
    if isinstance(picture, np.ndarray) and not picture.flags.writeable:
        picture = picture.copy()  # torch shares what it is given
    return _channels_first(torch.as_tensor(picture)[None])[0]


def _channels_first(images: Tensor) -> Tensor:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) as the last of these."""
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise GenrobustError(
            f"images have shape {tuple(images.shape)}; give (N, C, H, W), (N, H, W, C) or (N, H, W)"
        )
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.permute(0, 3, 1, 2)
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise GenrobustError(f"images are {images.dtype}; give bytes (uint8) or floats in [0, 1]")
    images = images.detach().cpu().float()
    require_pixels("images", images)
    return images


def _of_arrays(images: Any, labels: Any) -> Pictures:
    pixels = _channels_first(torch.as_tensor(images))
    if not len(pixels):
        raise GenrobustError("there are no images; give at least one")
    known = None if labels is None else _numbers(labels)
    return pictures_in(Images(pixels, known, (pixels.shape[2], pixels.shape[3])), "test")


def _of_splits(given: Mapping[str, Any], split: Split) -> Any:
    names = (split,) if split == "train" else (split, "validation", "val", "valid")
    found = next((given[name] for name in names if name in given), None)
    if found is None:
        raise GenrobustError(
            f"the data has {', '.join(map(str, given))} and no {split} split; call one '{split}', "
            "or give (images, labels)"
        )
    return found


def _of_items(given: Any, first: Any) -> Pictures:
    """Of a data set whose items are (picture, label), as torchvision's, or pictures."""
    if not isinstance(first, (tuple, list)):
        return Pictures(len(given), lambda i: _pixels(given[i]))
    if len(first) == 1:  # a TensorDataset of images alone
        return Pictures(len(given), lambda i: _pixels(given[i][0]))
    known = getattr(given, "targets", getattr(given, "labels", None))
    if known is None or len(known) != len(given):
        known = [given[i][1] for i in range(len(given))]
    return _labelled(given, lambda i: given[i][0], known, len(getattr(given, "classes", ())))


def _of_rows(given: Any) -> Pictures:
    """Of a data set whose items are dictionaries, as those of Hugging Face."""
    features, first = getattr(given, "features", None) or {}, given[0]
    kinds = {name: type(kind).__name__ for name, kind in features.items()}
    shown = [
        name
        for name, value in first.items()
        if kinds.get(name) == "Image" or hasattr(value, "convert") or np.ndim(value) >= 2
    ]
    if not shown:
        raise GenrobustError(f"none of the columns {', '.join(first)} holds pictures")
    named = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    named += [name for name in ("label", "labels") if name in first and name not in named]
    if not named:
        return Pictures(len(given), lambda i: _pixels(given[i][shown[0]]))
    if len(named) > 1:
        warnings.warn(
            f"the classes are those of the column '{named[0]}', and not of {', '.join(named[1:])}; "
            "for another, take the first away, such as by remove_columns",
            GenrobustWarning,
            stacklevel=2,
        )
    try:
        known: Sequence[Any] = list(given[named[0]])  # a column, without decoding its pictures
    except (TypeError, KeyError):
        known = [given[i][named[0]] for i in range(len(given))]
    names = getattr(features.get(named[0]), "names", None) or ()
    return _labelled(given, lambda i: given[i][shown[0]], known, len(names))


def _numbers(labels: Any) -> Tensor:
    """Labels as they are; names are refused, as the splits of a data set may not have the same."""
    if not isinstance(labels, Tensor) and np.asarray(labels).dtype.kind in "UOS":
        name = next(iter(labels))
        raise GenrobustError(
            f"labels are names, such as '{name}'; give each class its number in all splits, such "
            "as names.index(label), or of Hugging Face's data sets class_encode_column('label')"
        )
    return torch.as_tensor(labels)


def _labelled(
    given: Any, picture: Callable[[int], Any], known: Sequence[Any], classes: int
) -> Pictures:
    labels = _numbers(known).flatten()
    if labels.is_floating_point() or len(labels) != len(given) or int(labels.min()) < 0:
        raise GenrobustError("labels are no classes; give one whole number from 0 up a picture")
    classes = max(classes, int(labels.max()) + 1)
    return Pictures(len(given), lambda i: _pixels(picture(i)), labels.long(), classes)

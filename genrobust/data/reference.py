"""Data by reference: a place where pictures are, and which of them are taken, at which shape.

As text, ``faces?shape=3x64x64&classes=10&draw=100``: of the pictures in ``faces``, 100 drawn evenly
over 10 classes, at 64x64 in colour. Such a text is a data set's name wherever one is asked for, in
suites too. It holds all but the pixels, so that nothing is opened, and no code of others is run,
before the pictures themselves are needed; of those only the drawn ones are.
"""

from __future__ import annotations

import shlex
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrobust.data.base import (
    DATASETS,
    Images,
    Split,
    chosen_root,
    is_reference,
    load_images,
    require_full_range,
    root_of,
    source_of,
    split_of,
    told_of,
)
from genrobust.data.pictures import MOST_CLASSES, MissingSplitError, Pictures, pictures_in
from genrobust.data.pixels import fitted
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.files import is_there
from genrobust.foreign import as_script, build
from genrobust.seeding import generator

#: The place of an object that is given in Python, within :func:`lent`.
LENT = "own-data"

#: How many pictures are drawn unless it is said.
DRAWN = 100

#: How many channels pictures are turned into.
COUNTS = {"grey": 1, "rgb": 3}

_LENT: ContextVar[Any] = ContextVar("lent")
_LYING: ContextVar[str | None] = ContextVar("lying", default=None)


@dataclass(frozen=True)
class Reference:
    """A data set by reference.

    Args:
        place: a registered name, a folder, a ``.npz`` or ``.npy``, ``FILE.py:FUNCTION`` or
            ``PACKAGE.MODULE:FUNCTION``; relative places are looked for below the data's root.
        shape: (C, H, W) of the images; None in what a user typed: the model's.
        kinds: how many classes there are; 0 where no labels are asked for.
        draw: how many of the pictures are taken; 0 for all.
        channels: ``"grey"`` or ``"rgb"``, what pictures of other channels are turned into.
    """

    place: str
    shape: tuple[int, int, int] | None = None
    kinds: int = 0
    draw: int = 0
    channels: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """What a text refers to.

        Raises:
            GenrobustError: it is no reference.

        Example:
            >>> Reference.parse("faces?shape=3x64x64&classes=2&draw=8")
            Reference(place='faces', shape=(3, 64, 64), kinds=2, draw=8, channels=None)
        """
        place, _, query = text.partition("?")
        if not place:
            raise GenrobustError(
                "the name of the data is empty; give that of a data set, a folder of pictures, a "
                ".npz or .npy, or FILE.py:FUNCTION"
            )
        found: dict[str, Any] = {"place": place}
        try:
            for part in filter(None, query.split("&")):
                key, _, value = part.partition("=")
                if key == "shape":
                    channels, height, width = (int(n) for n in value.split("x"))
                    if not all(0 < n <= 10_000 for n in (channels, height, width)):
                        raise ValueError
                    found["shape"] = (channels, height, width)
                elif key in ("classes", "draw"):
                    found["kinds" if key == "classes" else key] = _whole(value)
                elif key == "channels" and value in COUNTS:
                    found["channels"] = value
                else:
                    raise ValueError
        except ValueError:
            raise GenrobustError(
                f"'{text[:200]}' is no reference to data; behind the '?' go shape=3x64x64 "
                "(channels, height, width), channels=grey or channels=rgb, classes=10 and "
                "draw=100, with '&' between them"
            ) from None
        return cls(**found)

    @property
    def name(self) -> str:
        """The text that :meth:`parse` reads."""
        words = [] if self.shape is None else [f"shape={'x'.join(map(str, self.shape))}"]
        words += [f"classes={self.kinds}"] if self.kinds else []
        words += [f"draw={self.draw}"] if self.draw else []
        words += [f"channels={self.channels}"] if self.channels else []
        return "?".join(filter(None, (self.place, "&".join(words))))

    @property
    def is_code(self) -> bool:
        """Whether code of others gives the pictures, which may be others at each reading.

        >>> Reference("mine.py:data").is_code, Reference(LENT).is_code, Reference("faces").is_code
        (True, True, False)
        """
        return self.place == LENT or (":" in self.place and not self.is_of_registered)

    @property
    def is_of_registered(self) -> bool:
        """Whether the pictures are a registered data set's, which every machine has or can fetch.

        >>> Reference("digits").is_of_registered, Reference("faces").is_of_registered
        (True, False)
        """
        return self.place in DATASETS

    @property
    def classes(self) -> tuple[str, ...]:
        """The numbers of the classes: names are not looked up."""
        return tuple(map(str, range(self.kinds)))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W).

        Raises:
            GenrobustError: it is not said.
        """
        if self.shape is None:
            raise GenrobustError(f"say the shape of the images: '{self.name}?shape=3x64x64'")
        return self.shape

    def load(self, split: Split, root: Path | None) -> Images:
        """The pictures that are taken; see :meth:`read`."""
        return self.read(split, root)[0]

    def read(self, split: Split, root: Path | None) -> tuple[Images, str]:
        """The pictures that are taken, and in words what was done to them.

        Raises:
            GenrobustError: they are not there, or not as they are said to be.
        """
        found = self.pictures(split, root, labelled=bool(self.kinds))
        if self.kinds:
            self.require_labels(found)
        return self.taken_of(found)

    def taken_of(self, pictures: Pictures, others: int = 0) -> tuple[Images, str]:
        """Likewise, of all pictures at the place, and behind them up to so many that are not."""
        shape = self.image_shape
        if self.channels and shape[0] != COUNTS[self.channels]:
            raise GenrobustError(
                f"channels={self.channels} is said of '{self.place}', and images of {shape[0]} "
                f"channels are wanted; leave it out, or say the one that has {shape[0]}"
            )
        ids = self._drawn(pictures)
        if others:
            known = set(ids)
            more = drawn(pictures.labels, pictures.count, min(len(ids) + others, pictures.count))
            ids += [i for i in more if i not in known]
        taken, sizes = [], Counter[tuple[int, int]]()
        for i in ids:
            picture = pictures.read(i, shape)
            sizes[picture.shape[1], picture.shape[2]] += 1
            taken.append(fitted(picture, shape, self.channels))
        labels = None if pictures.labels is None else pictures.labels[torch.tensor(ids)]
        raw = _stacked(taken)
        require_full_range(raw)
        column = f"of the column '{pictures.column}', " if pictures.column else ""
        return Images(raw, labels, shape[1:]), column + _told(sizes, shape)

    def pictures(self, split: Split, root: Path | None, labelled: bool = False) -> Pictures:
        """All pictures at the place, none of them read yet but for labels that are asked for."""
        elsewhere = _LYING.get()
        if elsewhere is not None and not self.is_of_registered:
            return replace(self, place=elsewhere)._found(split, root, labelled)
        return self._found(split, root, labelled)

    def _found(self, split: Split, root: Path | None, labelled: bool) -> Pictures:
        if self.place == LENT:
            if (given := _LENT.get(None)) is None:
                raise GenrobustError(
                    "these pictures were given in Python and are not at hand here: genrobust.bench "
                    "takes them again as data=; all else needs a suite of a folder, a .npz or "
                    "FILE.py:FUNCTION, as 'genrobust suite make' draws it"
                )
            return pictures_in(given, split, labelled)
        if self.is_of_registered:
            source = source_of(self.place)
            whole = split_of(source, self.place, split, root)
            return replace(pictures_in(whole, split), classes=len(source.classes), named=True)
        if "://" in self.place:
            raise GenrobustError(
                f"'{self.place}' is an address, and pictures are read from this machine; fetch "
                "them, and give their folder, a .npz or .npy, or FILE.py:FUNCTION, which may fetch "
                "them itself"
            )
        file, colon, function = self.place.rpartition(":")
        if colon and is_there(Path(root or "", self.place)):
            raise GenrobustError(
                f"'{self.place}' has a ':' in its name, behind which stands a function of a file; "
                "give it a name without"
            )
        below = file if colon else self.place
        if root is not None and is_there(root / below):
            below = str(root / below)
        if not is_there(Path(below)) and (not colon or below.endswith(".py")):
            seen = ", seen from the current folder or --data-root (data_root=)"
            raise GenrobustError(
                f"there is no '{below}'{'' if Path(below).is_absolute() else seen}; give a data "
                f"set's name ({', '.join(DATASETS.names())}), a folder of pictures, a .npz or "
                ".npy, or FILE.py:FUNCTION"
            )
        if colon:
            with as_script(below):
                return pictures_in(build(f"{below}:{function}"), split, labelled)
        return pictures_in(below, split, labelled)

    def native(self, split: Split, root: Path | None) -> Reference:
        """With what its pictures say of themselves: the shape of the first, and the classes."""
        pictures = self.pictures(split, root)
        channels, height, width = self.shape or pictures.read(0).shape
        if self.shape is None and self.channels:
            channels = COUNTS[self.channels]
        shape = (channels, height, width)
        return replace(self, shape=shape, kinds=self.classes_of(pictures))

    def require_labels(self, pictures: Pictures) -> None:
        """Assert that pictures at the place have classes.

        Raises:
            GenrobustError: they have none.
        """
        if pictures.labels is None:
            raise GenrobustError(
                f"the pictures of '{self.place}' have no labels, by which judges go; put those of "
                "each class into a sub-folder of its own, call the array of classes in a .npz "
                "'labels', or give (images, labels); or leave the judges out"
            )

    def classes_of(self, pictures: Pictures) -> int:
        """How many classes its pictures have: as was said, as some may be missing, or as is known.

        Raises:
            GenrobustError: there are more than was said, or fewer where they go by their names.
        """
        if pictures.labels is None or not self.kinds:
            return pictures.classes
        if pictures.classes > self.kinds:
            raise GenrobustError(
                f"'{self.place}' has {pictures.classes} classes, and classes={self.kinds} is said "
                f"of it; say classes={pictures.classes}, or leave it out"
            )
        if pictures.named and pictures.classes < self.kinds:
            raise GenrobustError(
                f"'{self.place}' names {pictures.classes} classes, by which they are numbered, and "
                f"classes={self.kinds} is said of it; leave it out, and make an empty sub-folder "
                "for each class that is missing, or name it too in the .classes of a data set"
            )
        return self.kinds

    def _drawn(self, pictures: Pictures) -> list[int]:
        if not self.draw:
            return list(range(pictures.count))
        if self.draw > pictures.count:
            raise GenrobustError(
                f"'{self.place}' has {pictures.count} pictures, and {self.draw} are asked for; "
                f"give --sources {pictures.count} or fewer"
            )
        return drawn(pictures.labels, pictures.count, self.draw)


def reference_images(name: str, most: int, root: str | Path | None = None) -> Images:
    """Labelled pictures that attacks go by: those of the training split, which nothing is drawn of.

    Where pictures of one's own have no such split they are those of the test split.

    Args:
        name: a data set.
        most: of pictures of one's own no more are read, of each class as many.
        root: see :func:`load_images`.

    Raises:
        GenrobustError: they are not there, or not as they are said to be.
    """
    if not is_reference(name):
        return load_images(name, "train", root)
    reference, folder = Reference.parse(name), root_of(root)
    with told_of(name, "train"):
        found = _labelled(reference, folder)
    if found is None:
        warnings.warn(
            f"'{reference.place}' has no train split with labels; attacks that go by labelled "
            "pictures, as 'neighbours' does, go by those of the split that is attacked",
            GenrobustWarning,
            stacklevel=2,
        )
        found = reference.pictures("test", folder, labelled=True)
    return replace(reference, draw=min(most, found.count)).taken_of(found)[0]


def images_beside(name: str, split: Split, most: int, root: str | Path | None = None) -> Images:
    """A data set's images, and of pictures of one's own up to ``most`` that are not drawn as well.

    Args:
        name: a data set; one that is registered has all its images anyway.
        split: of it.
        most: how many come behind the drawn ones.
        root: see :func:`load_images`.

    Raises:
        GenrobustError: they are not there, or not as they are said to be.
    """
    if not is_reference(name):
        return load_images(name, split, root)
    reference = Reference.parse(name)
    with told_of(name, split):
        found = reference.pictures(split, root_of(root), labelled=bool(reference.kinds))
        return reference.taken_of(found, most)[0]


def _labelled(reference: Reference, root: Path | None) -> Pictures | None:
    """The training pictures, where there are such, and with labels."""
    try:
        found = reference.pictures("train", root, labelled=True)
    except MissingSplitError:
        return None
    return None if found.labels is None else found


def undrawn(name: str) -> str:
    """The name of a data set with all its pictures.

    >>> undrawn("faces?shape=3x64x64&draw=100"), undrawn("digits")
    ('faces?shape=3x64x64', 'digits')
    """
    return replace(Reference.parse(name), draw=0).name if is_reference(name) else name


def is_same(one: str, other: str) -> bool:
    """Whether two names are of one data set, drawn from or not, wherever its place is told from.

    >>> is_same("faces?shape=3x64x64&draw=100", "./faces?shape=3x64x64"), is_same("digits", "mnist")
    (True, False)
    """
    return _placed(one) == _placed(other)


def _placed(name: str) -> str | Reference:
    if not is_reference(name):
        return name
    found = Reference.parse(name)
    return replace(found, place=str(Path(chosen_root() or "", found.place).resolve()), draw=0)


def training(kind: str, name: str, dataset: str) -> str | None:
    """The command that trains on a data set, as a shell takes it; None where no command has it.

    Example:
        >>> training("model", "vae", "faces?shape=3x64x64&draw=100")
        "genrobust train --model vae --dataset 'faces?shape=3x64x64'"
    """
    if Reference.parse(dataset).place == LENT:
        return None
    words = ["genrobust", "train", f"--{kind}", name, "--dataset", undrawn(dataset)]
    words += [] if chosen_root() is None else ["--data-root", str(chosen_root())]
    return shlex.join(words)


def drawn(labels: Tensor | None, count: int, number: int) -> list[int]:
    """Positions drawn by key, ascending; of each class as many, or one less, while it has some.

    Example:
        >>> labels = torch.tensor([0] * 90 + [1] * 10)
        >>> labels[drawn(labels, 100, 8)].tolist()
        [0, 0, 0, 0, 1, 1, 1, 1]
    """
    order = torch.randperm(count, generator=generator("drawn", count)).tolist()
    if labels is None:
        return sorted(order[:number])
    seen, keyed = Counter[int](), list[tuple[int, int, int]]()
    for place, i in enumerate(order):
        kind = int(labels[i])
        keyed.append((seen[kind], place, i))
        seen[kind] += 1
    return sorted(i for _, _, i in sorted(keyed)[:number])


def apart(place: str) -> str:
    """The place of a file or a folder as no registered data set is called.

    >>> apart("faces"), apart("digits")
    ('faces', './digits')
    """
    return f"./{place}" if place == LENT or place in DATASETS else place


@contextmanager
def lent(given: Any) -> Iterator[Reference]:
    """Within it, an object that holds pictures is a data set by reference."""
    token = _LENT.set(given)
    try:
        yield Reference(LENT)
    finally:
        _LENT.reset(token)


@contextmanager
def lying_at(place: str | None) -> Iterator[None]:
    """Within it, pictures that are of no registered data set lie there, whatever is said of them.

    Args:
        place: as in :class:`Reference`; None: where it is said.
    """
    token = _LYING.set(place)
    try:
        yield
    finally:
        _LYING.reset(token)


def _whole(value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) > MOST_CLASSES:
        raise ValueError
    return int(value)


def _stacked(taken: list[Tensor]) -> Tensor:
    if len({picture.dtype for picture in taken}) > 1:
        taken = [p.float() / 255 if p.dtype == torch.uint8 else p for p in taken]
    return torch.stack(taken)


def _told(sizes: Counter[tuple[int, int]], shape: tuple[int, int, int]) -> str:
    wanted = f"{shape[1]}x{shape[2]}"
    if set(sizes) == {shape[1:]}:
        return f"at {wanted} as they are"
    small, large = min(sizes), max(sizes)
    mixed = "" if small == large else f" to {large[0]}x{large[1]} (mixed sizes)"
    how = "area" if small[0] >= shape[1] else "bilinear"
    how = "area or bilinear" if (large[0] > shape[1]) != (small[0] > shape[1]) else how
    return f"from {small[0]}x{small[1]}{mixed} to {wanted} by a centre crop and {how} resizing"

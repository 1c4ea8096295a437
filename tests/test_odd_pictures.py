"""Data sets that hold more, or other, than pictures and class numbers."""

from __future__ import annotations

import os
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from genrobust.data.pictures import pictures_in
from genrobust.data.pixels import Shape, fitted, pixels_of
from genrobust.data.reference import Reference
from genrobust.errors import GenrobustError, GenrobustWarning

PICTURE = Image.new("RGB", (16, 16), (200, 0, 0))


def test_items_that_are_dictionaries_keep_their_classes() -> None:
    found = pictures_in([{"image": PICTURE, "label": i % 2} for i in range(4)], "test")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.read(0).shape == (3, 16, 16)


@pytest.mark.parametrize(
    "given",
    [
        (np.zeros((4, 16, 16), "uint8"), np.array(["cat", "dog"] * 2)),
        [(PICTURE, "cat"), (PICTURE, "dog")],
        [{"image": PICTURE, "label": "cat"}],
    ],
)
def test_names_for_classes_are_refused_where_labels_are_asked_for(given: Any) -> None:
    with pytest.raises(GenrobustError, match=r"labels are names, such as 'cat'; give each class"):
        pictures_in(given, "test", labelled=True)
    assert pictures_in(given, "test").labels is None


class Items:
    """A data set that makes its items when it is asked for them."""

    def __init__(self, label: Callable[[int], Any], **attributes: Any) -> None:
        self.label, self.asked = label, []
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Any:
        self.asked.append(i)
        return PICTURE, self.label(i)


@pytest.mark.parametrize(
    "label",
    [
        lambda i: f"a cat, number {i}",
        lambda i: i / 6,
        lambda i: -1,
        lambda i: 10**6,
        lambda i: None,
        lambda i: {"boxes": [[1, 2]] * i},
        lambda i: [[1, 2]] * i,
        lambda i: torch.zeros(40, dtype=torch.long),
    ],
)
@pytest.mark.parametrize("kind", ["items", "list", "arrays"])
def test_what_is_no_class_is_no_matter_until_labels_are_asked_for(
    label: Callable[[int], Any], kind: str
) -> None:
    given: Any = Items(label)
    if kind == "list":
        given = [given[i] for i in range(6)]
    if kind == "arrays":
        given = (torch.zeros(6, 1, 8, 8), [label(i) for i in range(6)])
    found = pictures_in(given, "test")
    assert (found.labels, found.classes) == (None, 0)
    assert found.read(3).ndim == 3
    with pytest.raises(GenrobustError, match=r"labels are (names|no classes)"):
        pictures_in(given, "test", labelled=True)


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (3, ";"),
        (np.array(3), ";"),
        ([0] * 5, ", as there are 5 of them for 6 pictures;"),
        ([0] * 7, ", as there are 7 of them for 6 pictures;"),
        (np.zeros((6, 2), "int64"), ", but rows of 2;"),
        (np.zeros((6, 2, 2), "int64"), r", as their shape is \(6, 2, 2\);"),
        (np.eye(6, dtype="int64"), r", but rows of 6, of which one is 1: give labels.argmax\(1\);"),
        (torch.eye(6)[:, :3].roll(1, 1)[[0, 1, 2, 0, 1, 2]], r", .* give labels.argmax\(1\);"),
        (list(torch.eye(6)), r", .* give labels.argmax\(1\);"),
        ([0.0, 1.0, 2.0] * 2, ", but floats: give them as int64;"),
        ([0.0, 1.0, float("nan")] * 2, ", but floats that are not whole;"),
        ([-1, 0, 1] * 2, ", as they go from -1 to 1;"),
        ([1 << 40, 0, 1] * 2, ", as they go from 0 to 1099511627776;"),
        ([None, 0, 1] * 2, ";"),
        ([1j, 0, 1] * 2, ";"),
    ],
)
def test_labels_are_one_a_picture(labels: Any, what: str) -> None:
    """And what they are in its place is said, with what to type where that is known."""
    images = torch.zeros(6, 1, 8, 8)
    assert pictures_in((images, labels), "test").labels is None
    with pytest.raises(GenrobustError, match=f"labels are no classes{what} give one whole number"):
        pictures_in((images, labels), "test", labelled=True)
    column = np.arange(6, dtype="uint8")[:, None]
    assert pictures_in((images, column), "test", labelled=True).classes == 6


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("shapes", [[(3, 8, 8)] * 2, [(3, 8, 8), (3, 9, 9)], [(8, 8)] * 2])
def test_two_pictures_are_no_images_and_labels(
    kind: Callable[[Any], Any], shapes: list[tuple[int, ...]]
) -> None:
    pictures = [torch.rand(*shape) for shape in shapes]
    found = pictures_in(kind(pictures), "test")
    assert (found.count, found.labels) == (2, None)
    for i, picture in enumerate(pictures):
        assert torch.equal(found.read(i, (1, 8, 8)).view_as(picture), picture)


@pytest.mark.parametrize("label", [1, torch.tensor(1), np.int64(2)])
def test_a_picture_and_its_label_are_not_three_in_grey(label: Any) -> None:
    said = r"images of shape \(3, 8, 8\) are 3 in grey.*give one picture as \(1, 3, 8, 8\)"
    with pytest.raises(GenrobustError, match=said):
        pictures_in((torch.rand(3, 8, 8), label), "test")


def test_no_item_is_opened_for_labels_that_nobody_asks_for() -> None:
    items = Items(lambda i: i % 3)
    assert pictures_in(items, "test").labels is None
    assert items.asked == [0]
    found = pictures_in(items, "test", labelled=True)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    said = Items(lambda i: i % 3, targets=[i % 3 for i in range(6)], classes="abcd")
    assert pictures_in(said, "test").classes == 4
    assert said.asked == [0]


class _Transforms:
    """What torchvision's data sets have as ``transforms`` where either transform is given."""

    def __init__(self, target_transform: Any) -> None:
        self.target_transform = target_transform


@pytest.mark.parametrize(
    ("attributes", "opened"),
    [
        ({"target_transform": None, "transforms": None}, False),
        ({"target_transform": None, "transforms": _Transforms(None)}, False),
        ({"target_transform": lambda t: t, "transforms": _Transforms(lambda t: t)}, True),
        ({"transforms": _Transforms(lambda t: t)}, True),
        ({"transforms": lambda x, t: (x, t)}, True),
    ],
)
def test_labels_that_a_data_set_transforms_are_those_of_its_items(
    attributes: dict[str, Any], opened: bool
) -> None:
    items = Items(lambda i: i % 3, targets=[2 - i % 3 for i in range(6)], classes="abcd")
    vars(items).update(attributes)
    found = pictures_in(items, "test", labelled=True)
    assert found.labels is not None
    assert found.labels.tolist() == ([0, 1, 2] if opened else [2, 1, 0]) * 2
    assert found.classes == (3 if opened else 4), "names are of what is not transformed"
    assert (len(items.asked) > 1) == opened


def test_an_item_of_another_label_than_the_data_set_says_is_refused() -> None:
    targets = torch.tensor([0, 1, 2, 0, 1, 0])
    found = pictures_in(Items(lambda i: np.int64(i % 3), targets=targets), "test")
    assert found.read(4).shape == (3, 16, 16)
    with pytest.raises(GenrobustError, match=r"item 5 of a Items: its label is 2, and .* it is 0"):
        found.read(5)
    encoded = Items(lambda i: torch.eye(3)[i % 3], targets=targets)
    assert pictures_in(encoded, "test").read(5).shape == (3, 16, 16)


class Column:
    """Labels as pandas keeps them: in an order, and each at an index of its own."""

    def __init__(self, labels: dict[int, int]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[int]:
        return iter(self.labels.values())

    def __array__(self, *_: Any, **__: Any) -> Any:
        return np.array(list(self.labels.values()))

    def __getitem__(self, index: int) -> int:
        return self.labels[index]


@pytest.mark.parametrize("index", [range(6), [3, 0, 5, 1, 4, 2], range(10, 16)])
def test_labels_of_all_at_once_are_read_by_position(index: Iterable[int]) -> None:
    targets = Column(dict(zip(index, [0, 1, 2] * 2, strict=True)))
    found = pictures_in(Items(lambda i: i % 3, targets=targets), "test")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2] * 2
    assert all(found.read(i).shape == (3, 16, 16) for i in range(6))


@pytest.mark.parametrize(
    "said",
    [
        {"labels": ["a", "b", "c"] * 2},
        {"targets": np.eye(3)[[0, 1, 2] * 2]},
        {"targets": [0.0, 0.5, 1.0] * 2},
        {"targets": [None] * 6},
        {"targets": [0, 1, 2]},
        {"labels": lambda: None},
    ],
)
def test_the_labels_of_items_count_where_those_of_all_at_once_are_no_classes(
    said: dict[str, Any],
) -> None:
    items = Items(lambda i: i % 3, **said)
    assert pictures_in(items, "test").labels is None
    found = pictures_in(items, "test", labelled=True)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2] * 2
    assert found.read(5).shape == (3, 16, 16)


class Raising:
    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Any:
        if i == 4:
            raise OSError("broken picture")
        return PICTURE, 0


ARRAY = np.random.default_rng(0).random((6, 8, 9, 3))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (ARRAY.astype("U3"), "images is a ndarray of <U3 .* give a tensor or an array of numbers"),
        (np.array([None, "a"]), "images is a ndarray of object"),
        (ARRAY.astype(complex), "images are torch.complex128; give bytes"),
        (torch.eye(8)[None].to_sparse(), "give a plain tensor of real numbers"),
        (torch.nested.nested_tensor([torch.eye(8)] * 2), "a nested tensor; give a plain tensor"),
        (np.ma.masked_less(np.eye(8)[None], 1), r"56 numbers are masked; .* \.filled\(0\)"),
        (np.zeros((6, 3, 0, 0), "uint8"), "the data holds no images"),
        ([None] * 6, "item 4 of a list: the picture is None; give a tensor or an array"),
        (["4.png"] * 6, "item 4 of a list: the picture is '4.png'"),
        ([(1, PICTURE)] * 6, r"item 4 of a list: the picture has shape \(\); give \(C, H, W\)"),
        ([torch.eye(8).to_sparse()] * 6, "item 4 of a list: the picture is a Tensor"),
        ([[]] * 6, r"item 0 of a list cannot be read \(IndexError"),
        (Raising(), r"item 4 of a Raising cannot be read \(OSError: broken picture; test_odd"),
    ],
)
def test_what_is_no_picture_is_one_sentence(given: Any, words: str) -> None:
    with pytest.raises(GenrobustError, match=words):
        pictures_in(given, "test").read(4)


def test_pictures_of_two_colours_are_black_and_white() -> None:
    bits = np.eye(8, dtype=bool)[None].repeat(3, 0)
    for given in (bits, torch.from_numpy(bits), list(bits)):
        assert torch.equal(pictures_in(given, "test").read(0), torch.eye(8)[None])


def test_arrays_of_any_bytes_order_and_strides(tmp_path: Path) -> None:
    readonly = ARRAY.copy()
    readonly.flags.writeable = False
    expected = pictures_in(ARRAY, "test").read(4)
    assert expected.shape == (3, 8, 9)
    for given in (ARRAY.astype(">f8"), ARRAY[::-1].copy()[::-1], readonly):
        assert torch.equal(pictures_in(given, "test").read(4), expected)
        assert torch.equal(pictures_in(list(given), "test").read(4), expected)
    np.savez(tmp_path / "big.npz", images=ARRAY.astype(">f4"), labels=np.array([0, 1] * 3, ">i4"))
    found = pictures_in(tmp_path / "big.npz", "test", labelled=True)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1] * 3


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 8, 9), (8, 9), (8, 9, 3)])
def test_a_list_of_pictures_may_be_of_two(shape: tuple[int, ...], count: int) -> None:
    found = pictures_in([np.zeros(shape, "uint8")] * count, "test")
    assert (found.count, found.labels) == (count, None)
    assert found.read(0).shape[1:] == (8, 9)


@pytest.mark.parametrize("pair", [tuple, list])
def test_a_list_of_images_and_labels_is_a_pair(pair: Any) -> None:
    images = np.zeros((2, 8, 8), "uint8")
    assert pictures_in(pair([images, np.arange(2)]), "test").classes == 2
    assert pictures_in(pair([images, [0, 1]]), "test").classes == 2
    twice = np.zeros((5, 1, 8, 8), "uint8")
    assert pictures_in(pair([twice, twice]), "test").count == 5


def test_objects_beside_the_arrays_of_an_archive_are_not_read(tmp_path: Path) -> None:
    """As where the makers of a data set put down what it is; unpickling runs their code."""
    meta = np.array([{"author": "me"}], dtype=object)
    images = np.zeros((4, 8, 8), "uint8")
    np.savez(tmp_path / "mine.npz", metadata=meta, images=images, labels=np.arange(4))
    assert pictures_in(tmp_path / "mine.npz", "test", labelled=True).classes == 4
    np.savez(tmp_path / "objects.npz", images=meta)
    with pytest.raises(GenrobustError, match=r"objects\.npz' cannot be read \(Object arrays"):
        pictures_in(tmp_path / "objects.npz", "test")


def test_a_damaged_archive_is_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=ARRAY)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[:1000] + b"\0" * 50 + content[1050:])
    with pytest.raises(GenrobustError, match=r"a\.npz' cannot be read"):
        pictures_in(tmp_path / "a.npz", "test")


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((2, 16, 16, 4), (4, 16, 16)),
        ((2, 16, 16, 2), (2, 16, 16)),
        ((2, 5, 16, 4), (4, 5, 16)),
        ((2, 4, 16, 4), (4, 16, 4)),
        ((2, 3, 16, 4), (3, 16, 4)),
        ((2, 2, 16, 3), (3, 2, 16)),
        ((2, 5, 16, 5), (5, 16, 5)),
        ((2, 16, 16), (1, 16, 16)),
    ],
)
def test_which_axis_is_that_of_the_channels(
    shape: tuple[int, ...], found: tuple[int, int, int]
) -> None:
    assert pictures_in(torch.zeros(shape), "test").read(0).shape == found


@pytest.mark.parametrize(
    ("stored", "wanted", "found"),
    [
        ((64, 1, 1), (64, 1, 1), (64, 1, 1)),
        ((12, 50, 1), (12, 50, 1), (12, 50, 1)),
        ((16, 8, 4), (16, 8, 4), (16, 8, 4)),
        ((8, 8, 3), (8, 8, 3), (8, 8, 3)),
        ((8, 8, 3), (3, 8, 8), (3, 8, 8)),
        ((8, 8, 12), (12, 8, 8), (12, 8, 8)),
        ((8, 8, 12), (12, 4, 4), (12, 8, 8)),
        ((12, 60, 1), (12, 50, 1), (12, 60, 1)),
        ((4, 9, 4), (4, 8, 8), (4, 9, 4)),
        ((8, 9, 3), (1, 8, 8), (3, 8, 9)),
    ],
)
@pytest.mark.parametrize("kind", [lambda a: a, list, lambda a: [{"x": a[0]}]])
def test_the_shape_that_is_wanted_says_which_axis_is_that_of_the_channels(
    stored: Shape, wanted: Shape, found: Shape, kind: Callable[[Any], Any]
) -> None:
    pictures = pictures_in(kind(torch.zeros(3, *stored)), "test")
    assert pictures.read(0, wanted).shape == found


def _pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        PICTURE.save(folder / name / "1.png")


@pytest.mark.parametrize("left", [".ipynb_checkpoints", ".thumbnails", "__MACOSX"])
def test_folders_that_programs_leave_behind_do_not_count(tmp_path: Path, left: str) -> None:
    splits, classes = tmp_path / "splits", tmp_path / "classes"
    _pictures(splits, "train/a", "test/a", "test/b")
    _pictures(splits, f"{left}/c", f"test/{left}/c", f"test/b/{left}")
    _pictures(classes, "a", "b", left)
    for folder in (splits, classes):
        found = pictures_in(folder, "test")
        assert found.labels is not None
        assert (found.labels.tolist(), found.classes) == ([0, 1], 2)
    PICTURE.save(splits / "test" / left / "loose.png")
    assert pictures_in(splits, "test").count == 2


def test_other_folders_beside_splits_are_refused(tmp_path: Path) -> None:
    _pictures(tmp_path, "train/a", "test/a")
    (tmp_path / "notes").mkdir()
    with pytest.raises(
        GenrobustError, match=r"splits test, train beside .* as 'notes'; give"
    ) as told:
        pictures_in(tmp_path, "test")
    assert f"such as '{tmp_path / 'test'}'" in str(told.value)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        *(("train", held_out) for held_out in ("validation", "val", "valid", "dev", "Val")),
        ("Train", "Test"),
        ("TRAIN", "VALIDATION"),
        ("training", "testing"),
    ],
)
def test_the_splits_of_folders_and_mappings_go_by_the_same_names(
    train: str, test: str, tmp_path: Path
) -> None:
    _pictures(tmp_path, f"{train}/a", f"{train}/b", f"{train}/c", f"{test}/a", f"{test}/b")
    held = {train: np.zeros((3, 8, 8), "uint8"), test: np.zeros((2, 8, 8), "uint8")}
    for given in (tmp_path, held):
        assert pictures_in(given, "test").count == 2
        assert pictures_in(given, "train").count == 3


@pytest.mark.parametrize(
    "names",
    [
        ["data/train/a", "data/test/a"],  # what was unpacked lies one deeper
        ["a/train", "a/val", "b/train", "b/val"],
        ["train_images", "test-images"],
        ["images/train2017", "images/val2017"],
    ],
)
def test_pictures_to_train_with_are_not_taken_together_with_those_to_test(
    names: list[str], tmp_path: Path
) -> None:
    _pictures(tmp_path, *names)
    with pytest.raises(GenrobustError, match=r"has '.*' and '.*', as splits are called, .* count"):
        pictures_in(tmp_path, "test")


def test_of_several_splits_that_are_held_out_the_test_split_is_taken(tmp_path: Path) -> None:
    _pictures(tmp_path, "dev/a", "Test/a", "Test/b", "train/a", "validation/a")
    assert pictures_in(tmp_path, "test").count == 2
    (tmp_path / "Test").rename(tmp_path / "other")
    with pytest.raises(GenrobustError, match="has the splits dev, train, validation beside other"):
        pictures_in(tmp_path, "test")


def test_a_split_that_is_not_there_is_said(tmp_path: Path) -> None:
    _pictures(tmp_path, "training/a")
    for given, said in ((tmp_path, "has training and no test; call"), ({"Train": []}, "has Train")):
        with pytest.raises(GenrobustError, match=said):
            pictures_in(given, "test")


@pytest.mark.parametrize("name", ["train", "Train", "validation", "dev"])
def test_a_class_may_be_called_as_a_split_is(name: str, tmp_path: Path) -> None:
    _pictures(tmp_path, "car", name)
    assert pictures_in(tmp_path, "test").classes == 2


@pytest.mark.parametrize("split", [".", "test"])
def test_a_class_without_pictures_keeps_its_number(split: str, tmp_path: Path) -> None:
    _pictures(tmp_path / split, "cat", "dog", "owl")
    (tmp_path / split / "fox").mkdir()
    (tmp_path / split / "pig" / ".thumbnails").mkdir(parents=True)
    found = pictures_in(tmp_path, "test")
    assert found.labels is not None
    assert (found.labels.tolist(), found.classes) == ([0, 1, 3], 5)


@pytest.mark.parametrize("lacking", ["test", "train", "Val"])
def test_classes_have_the_same_numbers_in_all_splits(lacking: str, tmp_path: Path) -> None:
    splits = {"train", "test", lacking}
    for split in splits:
        _pictures(
            tmp_path, *(f"{split}/{name}" for name in "abc" if (split, name) != (lacking, "b"))
        )
    for split in ("train", "test"):
        found = pictures_in(tmp_path, split)
        assert found.labels is not None
        assert found.classes == 3
        assert found.labels.tolist() == ([0, 2] if split == lacking else [0, 1, 2])
    PICTURE.save(tmp_path / "train" / "1.png")
    for file in (tmp_path / "train").rglob("[abc]/1.png"):
        file.unlink()
    assert pictures_in(tmp_path, "test").classes == (2 if lacking == "test" else 3)
    assert pictures_in(tmp_path, "train").labels is None


@pytest.mark.parametrize("files", [["a.xml"], ["deep/a.xml"], ["1.gif"]])
def test_a_sub_folder_of_other_files_is_no_class_of_the_other_splits(
    files: list[str], tmp_path: Path
) -> None:
    _pictures(tmp_path, *(f"{split}/{name}" for split in ("train", "test") for name in "bc"))
    _pictures(tmp_path, "train/d/deep")
    (tmp_path / "train" / "e").mkdir()
    (tmp_path / "train" / "d" / "notes.txt").write_bytes(b"")
    for file in files:
        place = tmp_path / "train" / "annotations" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")
    found = pictures_in(tmp_path, "test")
    assert found.labels is not None
    assert (found.labels.tolist(), found.classes) == ([0, 1], 4)


def test_more_classes_than_sub_folders_cannot_be_said(tmp_path: Path) -> None:
    """As those behind a missing one would have other numbers than a judge's."""
    _pictures(tmp_path, "faces/a", "faces/c")
    assert Reference.parse("faces?classes=2").native("test", tmp_path).kinds == 2
    said = r"names 2 classes, by which .* classes=3 is said of it; leave it out, and make an empty"
    with pytest.raises(GenrobustError, match=said):
        Reference.parse("faces?classes=3").native("test", tmp_path)
    (tmp_path / "faces" / "b").mkdir()
    assert Reference.parse("faces?classes=3").native("test", tmp_path).kinds == 3


@pytest.mark.parametrize("name", ["1.gif", "1.JFIF", "1.heic"])
@pytest.mark.parametrize("home", [".", "a"])
def test_pictures_of_kinds_that_are_not_read_are_told(home: str, name: str, tmp_path: Path) -> None:
    _pictures(tmp_path, "a", *([] if home == "." else ["b"]))
    folder = tmp_path / "a" if home == "." else tmp_path
    (folder / home / name).write_bytes(b"")
    (folder / home / "notes.txt").write_bytes(b"")
    said = f"also has 1 {name[1:].lower()}, which are left out; convert"
    with pytest.warns(GenrobustWarning, match=said):
        assert pictures_in(folder, "test").count == (1 if home == "." else 2)


def test_a_sub_folder_of_other_files_beside_classes_is_refused(tmp_path: Path) -> None:
    _pictures(tmp_path, "cat", "dog", "owl")
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox" / "1.gif").write_bytes(b"GIF89a")
    with pytest.raises(GenrobustError, match=r"fox' has files and no pictures \(.*\); move it"):
        pictures_in(tmp_path, "test")
    loose = tmp_path / "loose"
    _pictures(loose, "raw")
    (loose / "raw" / "1.png").rename(loose / "1.png")
    (loose / "raw" / "1.cr2").write_bytes(b"")
    assert pictures_in(loose, "test").labels is None, "beside pictures no sub-folder is a class"


def test_a_subset_has_the_classes_of_the_whole() -> None:
    whole = Items(lambda i: i % 3, classes="abcde")
    part = torch.utils.data.Subset(torch.utils.data.Subset(whole, range(5)), range(4))
    assert pictures_in(part, "test", labelled=True).classes == 5
    whole = Items(lambda i: i % 3, classes="abcde", target_transform=lambda t: t)
    part = torch.utils.data.Subset(whole, range(4))
    assert pictures_in(part, "test", labelled=True).classes == 3


def test_of_two_columns_of_classes_it_is_said_which_counts() -> None:
    class ClassLabel:
        names = ("a", "b")

    class Rows(list[dict[str, Any]]):
        def __init__(self) -> None:
            super().__init__({"img": PICTURE, "fine": i % 2, "coarse": 0} for i in range(4))
            self.features = {"img": object(), "fine": ClassLabel(), "coarse": ClassLabel()}

    rows = Rows()
    with pytest.warns(GenrobustWarning, match="the column 'fine', and not of coarse"):
        found = pictures_in(rows, "test")
    assert torch.equal(found.labels, torch.tensor([0, 1, 0, 1]))


MASK = np.zeros((16, 16, 3), "float32")


@pytest.mark.parametrize(
    ("columns", "taken", "said"),
    [
        ({"mask": MASK, "image": PICTURE}, "image", True),
        ({"image": MASK, "photo": PICTURE}, "image", True),
        ({"landmarks": np.zeros((5, 2)), "photo": PICTURE}, "photo", True),
        ({"x": MASK, "pixel_values": MASK, "img": MASK}, "img", True),
        ({"mask": MASK, "id": 3}, "mask", False),
        ({"mask": PICTURE, "photo": PICTURE}, None, True),
        ({"mask": MASK, "landmarks": np.zeros((5, 2))}, None, True),
    ],
)
def test_of_several_columns_the_picture_is_taken_by_its_name(
    columns: dict[str, Any], taken: str | None, said: bool
) -> None:
    rows = [columns] * 2
    if taken is None:
        names = ", ".join(columns)
        with pytest.raises(GenrobustError, match=f"columns {names} may be .* is meant 'image'"):
            pictures_in(rows, "test")
        return
    rows = [{**columns, taken: np.full((1, 4, 4), 0.5)}] * 2 if columns[taken] is MASK else rows
    found = pictures_in(rows, "test")
    assert found.read(1).max() > 0
    assert found.column == (taken if said else "")
    told = Reference("faces", shape=found.read(0).shape).taken_of(found)[1]
    assert told.startswith(f"of the column '{taken}', at " if said else "at ")


def test_columns_that_a_transform_takes_away_are_none(tmp_path: Path) -> None:
    class ClassLabel:
        names = ("a", "b")

    class Rows(list[dict[str, Any]]):
        features: ClassVar = {"image": object(), "label": ClassLabel()}

    rows = Rows({"pixel_values": np.full((1, 4, 4), 0.5), "labels": i % 2} for i in range(4))
    found = pictures_in(rows, "test", labelled=True)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.read(3).shape == (1, 4, 4)


@pytest.mark.parametrize(("kind", "mode"), [("png", "RGB"), ("jpg", "L"), ("tif", "RGB")])
def test_files_are_read_upright(kind: str, mode: str, tmp_path: Path) -> None:
    """As they are shown, whatever the camera was turned to; what is in memory is as it is."""
    shown = np.zeros((16, 24, 3), "uint8")
    shown[:8, :8] = 255  # the corner that tells all turns apart
    turns = {None: 0, 1: 0, 3: 2, 6: 1, 8: 3}
    for tag, turned in turns.items():
        picture = Image.fromarray(np.rot90(shown, turned)).convert(mode)
        exif = Image.Exif()
        if tag:
            exif[0x0112] = tag
        picture.save(tmp_path / f"{tag}.{kind}", exif=exif)
    found = pictures_in(tmp_path, "test")
    for i in range(len(turns)):
        read = found.read(i).float() / 255
        assert read.shape[1:] == (16, 24)
        assert bool((read[:, :8, :8] > 0.9).all())
        assert float(read.mean()) < 0.2
    if kind != "tif":  # which PIL turns itself, where it opens one
        held = Image.open(tmp_path / f"6.{kind}")
        assert pictures_in([held, held], "test").read(0).shape[1:] == (24, 16)
    broken = tmp_path / "broken"
    broken.mkdir()
    Image.fromarray(shown).save(broken / f"1.{kind}", exif=b"Exif\0\0II*\0nothing")
    assert pictures_in(broken, "test").read(0).shape == (3, 16, 24)


def test_columns_without_classes_are_told_where_classes_are_asked_for() -> None:
    rows = [{"jpg": np.zeros((8, 8, 3), "uint8"), "cls": i} for i in range(6)]
    assert pictures_in(rows, "test").labels is None
    with pytest.raises(GenrobustError, match=r"none of the columns jpg, cls .* one .* 'label'"):
        pictures_in(rows, "test", labelled=True)


@pytest.mark.parametrize(("mode", "wanted"), [("RGBA", 4), ("LA", 2)])
def test_alpha_of_files_is_left_out_and_that_of_arrays_is_a_channel(
    mode: str, wanted: int, tmp_path: Path
) -> None:
    Image.new(mode, (16, 16), (255,) * wanted).save(tmp_path / "1.png")
    there = pictures_in(tmp_path, "test").read(0)
    assert len(there) == wanted - 1
    said = f"has {wanted - 1} .* are read as grey or RGB, without alpha; give a .npz .* {wanted} ch"
    with pytest.raises(GenrobustError, match=said):
        fitted(there, (wanted, 16, 16), None)
    np.savez(tmp_path / "a.npz", images=np.zeros((2, wanted, 16, 16), "uint8"))
    kept = pictures_in(tmp_path / "a.npz", "test").read(0)
    assert fitted(kept, (wanted, 8, 8), None).shape == (wanted, 8, 8)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "in memory"])
def test_that_the_colours_beneath_what_is_transparent_are_read_is_said(
    kind: str, tmp_path: Path
) -> None:
    """A black icon on nothing is black all over, where its alpha is left away."""
    icon = Image.new("LA" if kind == "LA" else "RGBA", (8, 8))
    icon.putpixel((3, 3), (0, 255) if kind == "LA" else (0, 0, 0, 255))
    given: Any = [icon]
    if kind != "in memory":
        (icon.quantize(4) if kind == "P" else icon).save(tmp_path / "icon.png")
        given = tmp_path
    with pytest.warns(GenrobustWarning, match=r"transparent in parts .* Image.alpha_composite"):
        assert not pictures_in(given, "test").read(0).any()


def test_a_stream_is_refused_with_what_to_type() -> None:
    with pytest.raises(GenrobustError, match=r"such as list\(data\) of one without len"):
        pictures_in((item for item in [(PICTURE, 0)]), "test")


def _png_of_16_bits(kind: int, channels: int) -> bytes:
    """A picture of 4 by 4 pixels of a kind that PIL reads and does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        ends = zlib.crc32(name + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + name + content + ends

    header = bytes([0, 0, 0, 4, 0, 0, 0, 4, 16, kind, 0, 0, 0])
    rows = zlib.compress(b"".join(bytes(1 + 8 * channels) for _ in range(4)))
    parts = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rgb.png", _png_of_16_bits(2, 3)),
        ("grey-and-alpha.png", _png_of_16_bits(4, 2)),
        ("rgba.png", _png_of_16_bits(6, 4)),
        ("grey.png", _png_of_16_bits(0, 1)),
        ("rgb.ppm", b"P6 4 4 65535\n" + bytes(96)),
        ("rgb.ppm", b"P6 4 4 1023\n" + bytes(96)),
    ],
)
def test_more_than_8_bits_a_channel_are_refused_and_not_cut(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    said = "more than 8 bits a channel .* give pictures of 8 bits a channel, or a .npz of floats"
    with pytest.raises(GenrobustError, match=f"the picture '.*{name}': it has {said}"):
        pictures_in(tmp_path, "test").read(0)
    with Image.open(tmp_path / name) as held, pytest.raises(GenrobustError, match=said):
        pictures_in([held], "test").read(0)


def test_fewer_bits_a_channel_are_spread_over_the_range(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 4 4 15\n" + bytes(24) + bytes([15] * 24))
    (tmp_path / "b.bmp").write_bytes(_bmp_of_16_bits())
    found = pictures_in(tmp_path, "test")
    assert [int(found.read(i).max()) for i in range(2)] == [255, 255]


def _bmp_of_16_bits() -> bytes:
    """Of these 5 are a channel's."""
    sizes = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 58, 0, 0, 54) + sizes + b"\xff\x7f\0\0"


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_that_of_several_frames_the_first_is_read_is_said(kind: str, tmp_path: Path) -> None:
    white = Image.new("RGB", PICTURE.size, "white")
    PICTURE.save(tmp_path / f"one.{kind}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures_in(tmp_path, "test").read(0)
    PICTURE.save(tmp_path / f"many.{kind}", save_all=True, append_images=[white, PICTURE])
    with pytest.warns(GenrobustWarning, match=r"several frames, .* save each frame as a file"):
        pictures_in(tmp_path, "test").read(0)


def test_pictures_are_also_where_links_of_folders_lead(tmp_path: Path) -> None:
    """Each place counts once, so that a link that leads up again makes no more of them."""
    home, far = tmp_path / "home", tmp_path / "far"
    _pictures(home, "a", "b")
    _pictures(far, "more", "more/deep")
    (home / "a" / "link").symlink_to(far)
    (home / "a" / "up").symlink_to(home)
    (home / "a" / "again").symlink_to(home / "a")
    found = pictures_in(home, "test")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 0, 1]


def test_a_folder_may_be_called_as_a_picture_is(tmp_path: Path) -> None:
    _pictures(tmp_path, "a.png", "b.png/deep.jpg")
    found = pictures_in(tmp_path, "test")
    assert (found.count, found.classes) == (2, 2)
    assert found.read(1).shape[0] == 3


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
def test_a_pipe_called_as_a_picture_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(GenrobustError, match=r"1\.png' cannot be read \(it is a pipe, not a file"):
        pictures_in(tmp_path, "test").read(0)


def test_a_sub_folder_that_cannot_be_read_is_no_empty_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pictures(tmp_path, "a", "b")
    scandir = os.scandir

    def locked(place: Path) -> Any:
        if place.name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(
        GenrobustError, match=r"the folder '.*b' cannot be read \(Permission denied"
    ):
        pictures_in(tmp_path, "test")


@pytest.mark.parametrize("channels", [3, 4])
def test_one_picture_in_colour_is_not_many_in_grey(channels: int) -> None:
    """Its rows would be the pictures; a model of signals does take such an array."""
    found = pictures_in(torch.zeros(20, 16, channels), "test")
    for wanted in ((channels, 16, 16), (1, 16, 16)):
        with pytest.raises(GenrobustError, match=rf"one picture of {channels} channels or 20 in"):
            found.read(0, wanted)
    assert found.read(0, (1, 16, channels)).shape == (1, 16, channels)
    one = pictures_in(torch.zeros(1, 20, 16, channels), "test")
    assert one.read(0, (channels, 16, 16)).shape == (channels, 20, 16)


@pytest.mark.parametrize("said", [-3, 2.5, "many", RuntimeError("unknown")])
def test_what_does_not_say_how_many_it_has_holds_no_pictures(said: Any) -> None:
    class Says(Items):
        def __len__(self) -> int:
            if isinstance(said, Exception):
                raise said
            return said

    with pytest.raises(GenrobustError, match=r"a Says holds no pictures; give .* with len\(\)"):
        pictures_in(Says(lambda i: 0), "test")


def test_columns_of_files_names_are_told_what_holds_pictures() -> None:
    rows = [{"image": "1.png", "label": 0}, {"image": "2.png", "label": 1}]
    with pytest.raises(
        GenrobustError, match=r"image, label holds pictures; let one .* not their f"
    ):
        pictures_in(rows, "test")


@pytest.mark.parametrize("white", [1, 255, 4095, 65535])
def test_whole_numbers_of_more_bits_are_told_what_to_make_of_them(white: int) -> None:
    """As Hugging Face's data sets give arrays of bytes, and detectors their counts."""
    images = (np.linspace(0, 1, 256) * white).round().astype("int64").reshape(4, 8, 8)
    with pytest.raises(GenrobustError, match=rf"torch.int64 from 0 to {white}; give ") as caught:
        pictures_in(images, "test")
    line = str(caught.value).partition("such as ")[2].partition(" if ")[0]
    found = pictures_in(eval(line, {"images": images}), "test").read(3)
    assert found.max() == (255 if white == 255 else 1)


def test_a_mapping_of_arrays_is_read_as_a_file_of_them() -> None:
    images, labels = np.zeros((6, 8, 8), "uint8"), np.arange(6) % 3
    for given in (
        {"images": images, "labels": labels},
        {"images": images, "labels": list(labels)},
        {"x_train": images[:2], "y_train": labels[:2], "x_test": images, "y_test": labels},
    ):
        found = pictures_in(given, "test", labelled=True)
        assert (found.count, found.classes) == (6, 3)


def test_an_array_of_another_library_is_read_though_it_says_no_length() -> None:
    class Stored:  # as zarr's
        shape, dtype = (6, 8, 8), np.dtype("uint8")

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.arange(384, dtype="uint8").reshape(self.shape)

    assert pictures_in(Stored(), "test").read(1)[0, 0, 0] == 64


def test_pictures_that_are_not_decoded_are_told_so() -> None:
    with pytest.raises(GenrobustError, match=r"not decoded.*cast_column\('image'"):
        pixels_of({"bytes": b"", "path": "1.png"})


@pytest.mark.parametrize("name", ["targets", "labels", "classes"])
def test_what_a_data_set_fails_to_say_of_all_its_items_is_asked_of_each(name: str) -> None:
    class Unsaid(Items):
        def __getattr__(self, asked: str) -> Any:
            if asked == name:
                raise NotImplementedError
            raise AttributeError(asked)

    found = pictures_in(Unsaid(lambda i: i), "test", labelled=True)
    assert found.labels is not None
    assert found.labels.tolist() == [*range(found.count)]


def test_data_sets_side_by_side_are_told_how_to_be_splits() -> None:
    x = torch.rand(12, 1, 4, 4)
    data = torch.utils.data.random_split(torch.utils.data.TensorDataset(x), [8, 4])
    with pytest.raises(GenrobustError, match="these are 2 data sets; give the one") as caught:
        pictures_in(data, "test")
    line = str(caught.value).rpartition("such as ")[2]
    assert pictures_in(eval(line, {"data": data}), "test").count == 4


def test_pairs_side_by_side_as_keras_gives_them_are_told_how_to_be_splits() -> None:
    x, y = np.zeros((12, 4, 4), "uint8"), np.arange(12) % 3
    data = (x, y), (x[:5], y[:5])
    with pytest.raises(GenrobustError, match="these are 2 pairs of images and labels") as caught:
        pictures_in(data, "test")
    line = str(caught.value).rpartition("such as ")[2]
    assert pictures_in(eval(line, {"data": data}), "test").count == 5
    assert pictures_in([(x[0], 0), (x[1], 1)], "test", labelled=True).classes == 2


def test_a_table_is_told_how_to_be_pictures_and_labels() -> None:
    numpy, pandas = np, pytest.importorskip("pandas")
    pictures = numpy.random.default_rng(0).random((6, 28, 28))
    pixels = pandas.DataFrame(pictures.reshape(6, -1))
    table = pandas.DataFrame({"image": list(pictures), "label": [0, 1, 2, 0, 1, 2]})
    for given in (table, pixels):
        with pytest.raises(GenrobustError, match="a DataFrame is a table") as caught:
            pictures_in(given, "test")
    pair, rows = (
        str(caught.value).rpartition("such as ")[2].split(", or, of a column for each pixel, ")
    )
    found = pictures_in(eval(pair, {"table": table, "numpy": numpy}), "test", labelled=True)
    assert found.count == 6
    assert found.classes == 3
    assert pictures_in(eval(rows, {"table": pixels}), "test").count == 6

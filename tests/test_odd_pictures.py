"""Data sets that hold more, or other, than pictures and class numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genrobust.data.pictures import pictures_in
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
def test_names_for_classes_are_refused_with_what_to_type(given: Any) -> None:
    with pytest.raises(GenrobustError, match=r"labels are names, such as 'cat'; give each class"):
        pictures_in(given, "test")


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
    with pytest.raises(GenrobustError, match=r"has the splits test, train beside .* as 'notes'"):
        pictures_in(tmp_path, "test")


def test_a_class_may_be_called_as_a_split_is(tmp_path: Path) -> None:
    _pictures(tmp_path, "car", "train")
    assert pictures_in(tmp_path, "test").classes == 2


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


def test_a_stream_is_refused_with_what_to_type() -> None:
    with pytest.raises(GenrobustError, match=r"such as list\(data\) of one without len"):
        pictures_in((item for item in [(PICTURE, 0)]), "test")

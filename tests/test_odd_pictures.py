"""Data sets that hold more, or other, than pictures and class numbers."""

from __future__ import annotations

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

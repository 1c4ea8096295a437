"""Which labelled pictures attacks go by beside the sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from genrobust.data import Images, load_images
from genrobust.data.reference import lent, reference_images
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.runner.options import Options
from genrobust.runner.sources import references_of
from genrobust.suites import Suite, load_suite

NAME = "?shape=1x8x8&classes=3&draw=9"
PICTURES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
WHOLE = (PICTURES, torch.arange(12) // 4)


def _of(given: Any, most: int = 1000) -> Images:
    with lent(given) as reference:
        return reference_images(f"{reference.name}{NAME}", most)


@pytest.mark.parametrize("count", [1, 8, 9, 12])
def test_a_train_split_may_have_fewer_pictures_than_are_drawn(count: int) -> None:
    found = _of({"train": (PICTURES[:count], torch.arange(count)), "test": WHOLE})
    assert torch.equal(found.raw, PICTURES[:count])


def test_of_many_as_many_of_each_class_are_taken() -> None:
    found = _of({"train": WHOLE, "test": None}, most=6)
    assert found.labels_of(range(6)).bincount().tolist() == [2, 2, 2]
    assert torch.equal(_of(WHOLE).raw, PICTURES), "without splits all are the same"


@pytest.mark.parametrize(
    "given",
    [{"test": WHOLE}, {"validation": WHOLE}, {"train": PICTURES[:5], "test": WHOLE}],
)
def test_without_labelled_training_pictures_those_that_are_there_are_taken(given: Any) -> None:
    said = "'own-data' has no train split with labels; .* go by those of the split that is attacked"
    with pytest.warns(GenrobustWarning, match=said):
        assert torch.equal(_of(given).raw, PICTURES)


def test_a_folder_of_held_out_pictures_alone_has_some(tmp_path: Path) -> None:
    for split in ("val", "test"):
        for name in ("a", "b", "c"):
            (tmp_path / "faces" / split / name).mkdir(parents=True)
            Image.new("L", (8, 8), 200).save(tmp_path / "faces" / split / name / "1.png")
    with pytest.warns(GenrobustWarning, match="'faces' has no train split with labels"):
        assert len(reference_images(f"faces{NAME}", 1000, tmp_path)) == 3


def test_a_training_split_that_cannot_be_used_is_said() -> None:
    with pytest.raises(
        GenrobustError, match=r"the train split of 'own-data\?.*labels are no classes"
    ):
        _of({"train": (PICTURES, PICTURES[:, 0, 0, 0]), "test": WHOLE})
    assert torch.equal(reference_images("digits", 5).raw, load_images("digits", "train").raw)


@pytest.fixture
def suite() -> Suite:
    drawn = {"dataset": f"own-data{NAME}", "sample_ids": (0, 5), "target_ids": (5, 11)}
    return load_suite("digits").with_attacks(["neighbours"]).model_copy(update=drawn)


@pytest.mark.parametrize(("kinds", "lacking"), [([0, 1, 2], ""), ([0, 1], "2"), ([1], "0, 2")])
def test_classes_that_attacks_are_not_led_to_are_said(
    suite: Suite, kinds: list[int], lacking: str
) -> None:
    train = PICTURES[: len(kinds)], torch.tensor(kinds)
    with lent({"train": train, "test": WHOLE}):
        given = suite, Images(*WHOLE, (8, 8)), Options(), torch.device("cpu")
        if lacking:
            with pytest.warns(GenrobustWarning, match=f"picture of the classes {lacking} among"):
                found = references_of(*given)
        else:
            found = references_of(*given)
    assert found is not None
    assert found[1].tolist() == kinds
    assert references_of(suite.with_attacks(["noise"]), *given[1:]) is None

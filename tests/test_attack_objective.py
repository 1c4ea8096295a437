"""``objective:NAME``: a registered objective is an attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import genrobust
from genrobust.attacks import ATTACKS, make_attack
from genrobust.batch import Context
from genrobust.errors import GenrobustError
from genrobust.objectives import OBJECTIVES


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    digits = genrobust.load_images("digits")
    return {
        "model": genrobust.load_model("jointvae"),
        "x": digits.take(range(3)),
        "labels": digits.labels_of(range(3)),
        "eps": 0.1,
    }


@pytest.fixture
def brightness() -> Iterator[str]:
    @OBJECTIVES.register("brightness")
    @dataclass(frozen=True)
    class Brightness:
        """Make the reconstruction bright."""

        weight: float = 1.0

        def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
            return -self.weight * context.model.surrogate(x_adv, "softmax").flatten(1).mean(1)

    yield "objective:brightness"
    del OBJECTIVES._registered["brightness"]


@pytest.mark.parametrize(
    ("objective", "attack"), [("latent-distance", "latent"), ("output-distance", "output")]
)
def test_it_is_the_attack_that_has_this_objective(
    objective: str, attack: str, given: dict[str, Any]
) -> None:
    ours = genrobust.attack(f"objective:{objective}", steps=3, restarts=2, **given)
    theirs = genrobust.attack(attack, steps=3, restarts=2, **given)
    assert torch.equal(ours.x_adv, theirs.x_adv)
    assert torch.equal(ours.loss, theirs.loss)
    assert torch.equal(ours.backwards, theirs.backwards)


def test_one_of_ones_own_is_searched_with_its_own_settings(
    brightness: str, given: dict[str, Any]
) -> None:
    model, x = given["model"], given["x"]
    before = model.reconstruct(x).flatten(1).mean(1)
    found = genrobust.attack(brightness, steps=10, weight=2.0, **given)
    after = model.reconstruct(found.x_adv).flatten(1).mean(1)
    assert (after > before).all()
    torch.testing.assert_close(found.loss, -2 * after, rtol=0.2, atol=0)
    assert brightness in ATTACKS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("objective:latnt-distance", "unknown objective 'latnt-distance'; did you mean 'latent-"),
        ("objective:probe-cross-entropy", "made anew for each model or batch \\(probe\\)"),
        ("objective:universal-damage", "it is no dataclass"),
    ],
)
def test_what_is_none_or_cannot_stand_alone_is_refused(name: str, words: str) -> None:
    with pytest.raises(GenrobustError, match=words):
        make_attack(name)


def test_what_an_objective_needs_is_asked_for(given: dict[str, Any]) -> None:
    with pytest.raises(GenrobustError, match="needs a judge"):
        genrobust.attack("objective:judge-margin", **given)
    with pytest.raises(GenrobustError, match="is targeted only"):
        genrobust.attack("objective:target-elbo", **given)
    with pytest.raises(GenrobustError, match="no setting 'step'; did you mean 'steps'"):
        genrobust.attack("objective:latent-distance", step=3, **given)

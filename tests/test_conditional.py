"""Conditional models: a label is a part of the code, and attacks go through it where they can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError
from genrobust.models.conditional import Conditional

SHAPE = (1, 8, 8)
DARK = 0.45  # of the images: half a step below where the label turns


class Labelled(nn.Module):
    """Shows a picture of its label, and a little of the image."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole = whole
        draw = torch.rand(2, 64, generator=torch.Generator().manual_seed(0))
        self.pictures = nn.Parameter(0.2 + 0.6 * draw)

    def encode(self, x: Tensor, label: Tensor) -> Tensor:
        return x.flatten(1) + 0.01 * (self.row(label) @ self.pictures)

    def decode(self, z: Tensor, label: Tensor) -> Tensor:
        return (0.1 * z + 0.9 * (self.row(label) @ self.pictures)).view(-1, *SHAPE)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.decode(self.encode(x, label), label)

    def row(self, label: Tensor) -> Tensor:
        return F.one_hot(label, 2).float() if self.whole else label.view(-1, 2)


def logits(x: Tensor) -> Tensor:
    """Bright images are of class 1."""
    bright = 20 * (x.flatten(1).mean(1) - 0.5)
    return torch.stack([-bright, bright], 1)


def category(x: Tensor) -> genrobust.Categorical:
    return genrobust.Categorical(logits(x))


def hard(whole: bool) -> Callable[[Tensor], Tensor]:
    def labels(x: Tensor) -> Tensor:
        label = logits(x).argmax(1)
        return label if whole else F.one_hot(label, 2).float()

    return labels


def wrapped(whole: bool, labels: Callable[[Tensor], Any]) -> genrobust.GenerativeModel:
    return genrobust.wrap(Labelled(whole), labels=labels, input_shape=SHAPE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_deployed_is_the_networks_own(whole: bool) -> None:
    x = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    x = torch.cat([x, x * 0.5])
    for labels in (category, hard(whole)):
        model = wrapped(whole, labels)
        assert torch.equal(model.reconstruct(x), model.module(x, hard(whole)(x)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("whole", [True, False])
def test_an_encoder_may_pass_its_label_over(whole: bool) -> None:
    class Blind(Labelled):
        def encode(self, x: Tensor, label: Tensor) -> Tensor:
            return x.flatten(1)

    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    model = genrobust.wrap(Blind(whole), labels=category, input_shape=SHAPE)
    assert torch.equal(model.reconstruct(x), model.module(x, hard(whole)(x)))


def test_too_little_memory_says_nothing_of_how_a_label_is_taken() -> None:
    class Full(Labelled):
        tried = 0

        def encode(self, x: Tensor, label: Tensor) -> Tensor:
            self.tried += 1
            if self.tried == 1:
                raise torch.OutOfMemoryError("no room")
            return super().encode(x, label)

    network = Full(whole=False)
    model = Conditional(network.encode, network.decode, category)
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    with pytest.raises(torch.OutOfMemoryError):
        model.encode(x)
    assert torch.equal(model.decode(model.encode(x).mode()), network(x, hard(False)(x)))


@pytest.mark.parametrize("whole", [True, False])
def test_a_gradient_goes_through_a_category_and_not_through_an_argmax(whole: bool) -> None:
    x = torch.full((1, *SHAPE), DARK)

    def slope(labels: Callable[[Tensor], Any]) -> Tensor:
        model, image = wrapped(whole, labels), x.clone().requires_grad_()
        label = model.decode(model.encode(image).relaxed()) - 0.1 * image
        return torch.autograd.grad(label.sum(), image)[0]

    assert float(slope(category).norm()) > 100 * float(slope(hard(whole)).norm())


@pytest.mark.parametrize("whole", [True, False])
def test_an_attack_turns_a_label_that_is_a_category(whole: bool) -> None:
    x = torch.full((1, *SHAPE), DARK)

    def moved(labels: Callable[[Tensor], Any]) -> float:
        model = wrapped(whole, labels)
        found = genrobust.attack("output", model, x, eps=0.1, steps=20)
        return float((model.reconstruct(found.x_adv) - model.reconstruct(x)).norm())

    assert moved(category) > 1.0 > moved(hard(whole))


@pytest.mark.parametrize(
    "labels",
    [lambda x: None, lambda x: torch.zeros(1), lambda x: genrobust.Categorical(torch.zeros(1, 2))],
)
def test_what_is_no_label_an_image_is_refused(labels: Callable[[Tensor], Any]) -> None:
    with pytest.raises(GenrobustError, match=r"labels= gave no label an image.*Categorical"):
        wrapped(True, labels)


def test_a_decoder_of_whole_numbers_that_gives_more_than_pictures_is_told() -> None:
    class More(Labelled):
        def decode(self, z: Tensor, label: Tensor) -> Any:
            return super().decode(z, label), z

    with pytest.raises(GenrobustError, match="pass decode= that returns the pictures alone"):
        genrobust.wrap(More(True), labels=category, input_shape=SHAPE)

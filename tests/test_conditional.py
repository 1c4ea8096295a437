"""Conditional models: a label is a part of the code, and attacks go through it where they can."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genrobust
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.reading.conditional import Conditional
from genrobust.outcomes.marks import HIDDEN
from genrobust.runner.unreached import unreached

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
    z, label = model.encode(x)
    code = model.joined(genrobust.Posterior((genrobust.Point(z),)), label).mode()
    assert torch.equal(model.decode(code), network(x, hard(False)(x)))


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
    ("labels", "reached"),
    [
        (category, True),
        (hard(True), False),
        (lambda x: genrobust.Categorical(hard(False)(x)), False),
        (lambda x: genrobust.Categorical(10 * hard(False)(x)), False),
    ],
)
def test_a_label_that_was_chosen_before_it_became_a_category_is_told(
    labels: Callable[[Tensor], Any], reached: bool
) -> None:
    """Attacks switch a category by its logits, which have no gradient then."""
    x = torch.full((2, *SHAPE), DARK)
    hidden = unreached(Context(wrapped(True, labels), Batch(x, (0, 1))))
    assert (hidden > HIDDEN).tolist() == [not reached] * 2


@pytest.mark.parametrize(
    "labels",
    [lambda x: None, lambda x: torch.zeros(1), lambda x: genrobust.Categorical(torch.zeros(1, 2))],
)
def test_what_is_no_label_an_image_is_refused(labels: Callable[[Tensor], Any]) -> None:
    with pytest.raises(GenrobustError, match=r"labels= gave no label an image.*Categorical"):
        wrapped(True, labels)


class TwoLabels(nn.Module):
    """Takes a class and an angle beside each."""

    input_shape = (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.code, self.label, self.angle = nn.Linear(16, 2), nn.Linear(10, 2), nn.Linear(1, 2)
        self.picture = nn.Linear(2, 16)

    def encode(self, x: Tensor, label: Tensor, angle: Tensor) -> Tensor:
        code: Tensor = self.code(x.flatten(1)) + self.label(label) + self.angle(angle)
        return code

    def decode(self, z: Tensor, label: Tensor, angle: Tensor) -> Tensor:
        rows = self.picture(z - self.label(label) * self.angle(angle))
        return rows.sigmoid().view(-1, 1, 4, 4)


def test_of_two_labels_the_lines_that_make_one_row_of_them_are_named() -> None:
    module, classes, angles = TwoLabels(), nn.Linear(16, 10), nn.Linear(16, 1)

    def one(x: Tensor) -> Tensor:
        return classes(x.flatten(1)).softmax(1)

    def other(x: Tensor) -> Tensor:
        return angles(x.flatten(1)).sigmoid()

    with pytest.raises(GenrobustError, match="of several give one row") as raised:
        genrobust.wrap(module, labels=lambda x: (one(x), other(x)))
    told = str(raised.value).partition("of several give one row, such as ")[2]
    labels, encode = re.split(", and encode= and decode= .* such as encode=", told)
    scope = {"torch": torch, "one": one, "other": other, "module": module}
    model = genrobust.wrap(
        module,
        labels=eval(labels, scope),
        encode=eval(encode, scope),
        decode=lambda z, y: module.decode(z, y[:, :10], y[:, 10:]),
    )
    x = torch.rand(3, 1, 4, 4)
    given = one(x), other(x)
    wanted = module.decode(module.encode(x, *given), *given)
    torch.testing.assert_close(model.reconstruct(x), wanted)


def test_a_decoder_of_whole_numbers_that_gives_more_than_pictures_is_told() -> None:
    class More(Labelled):
        def decode(self, z: Tensor, label: Tensor) -> Any:
            return super().decode(z, label), z

    with pytest.raises(GenrobustError, match="pass decode= that returns the pictures alone"):
        genrobust.wrap(More(True), labels=category, input_shape=SHAPE)


class Spoken(nn.Module):
    """A conditional network whose encoder says its code in some form."""

    input_shape = SHAPE

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.form = form
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.to_mean, self.to_logvar = nn.Linear(66, 4), nn.Linear(66, 4)
            self.from_code = nn.Linear(6, 64)

    def encode(self, x: Tensor, label: Tensor) -> Any:
        both = torch.cat([x.flatten(1), label], 1)
        return self.form(3 * self.to_mean(both), self.to_logvar(both) - 2)

    def decode(self, z: Any, label: Tensor) -> Tensor:
        z = z[0] * z[1] if isinstance(z, list) else z
        return self.from_code(torch.cat([z, label], 1)).sigmoid().view(-1, *SHAPE)


class Spread(Spoken):
    def decode(self, *given: Tensor) -> Tensor:
        *codes, label = given
        return super().decode(codes, label)


def drawn(mean: Tensor, logvar: Tensor) -> Tensor:
    return mean + (0.5 * logvar).exp() * torch.randn_like(mean)


@pytest.mark.parametrize("labels", [category, hard(False)], ids=["category", "row"])
class TestAnyFormIsReadAsOfAnyOtherModel:
    def test_a_code_beside_its_mean_that_is_not_drawn_about_it_is_refused(
        self, labels: Callable[[Tensor], Any]
    ) -> None:
        module = Spoken(lambda m, v: {"mean": m, "logvar": v, "z": 2 * torch.tanh(m)})
        with pytest.raises(GenrobustError, match="'z' is neither 'mean' nor drawn") as caught:
            genrobust.wrap(module, labels=labels)
        typed = str(caught.value).split("; pass ")[1].split(" if that")[0]
        given = eval(f"dict({typed})", {"module": module})
        x = torch.rand(3, *SHAPE)
        label = hard(False)(x)
        wanted = module.decode(module.encode(x, label)["z"], label)
        model = genrobust.wrap(module, labels=labels, **given)
        torch.testing.assert_close(model.reconstruct(x), wanted)

    def test_which_of_three_is_the_mean_is_tried_and_told(
        self, labels: Callable[[Tensor], Any]
    ) -> None:
        module = Spoken(lambda m, v: (drawn(m, v), m, v))
        with pytest.warns(GenrobustWarning, match="number 2 is read as the mean"):
            model = genrobust.wrap(module, labels=labels)
        x = torch.rand(3, *SHAPE)
        label = hard(False)(x)
        wanted = module.decode(module.encode(x, label)[1], label)
        torch.testing.assert_close(model.reconstruct(x), wanted)

    def test_what_the_reading_leaves_out_is_told(self, labels: Callable[[Tensor], Any]) -> None:
        module = Spoken(lambda m, v: torch.distributions.Laplace(m, v.exp()))
        with pytest.warns(GenrobustWarning, match="a Laplace is read as the Gaussian"):
            genrobust.wrap(module, labels=labels)

    @pytest.mark.filterwarnings("error")
    def test_layers_are_given_to_decode_as_a_list(self, labels: Callable[[Tensor], Any]) -> None:
        module = Spoken(lambda m, v: [(m, v), (m[:, :1] - 1, v[:, :1])])
        model = genrobust.wrap(module, labels=labels)
        x = torch.rand(3, *SHAPE, requires_grad=True)
        label = hard(False)(x)
        wanted = module.decode([mean for mean, _ in module.encode(x, label)], label)
        torch.testing.assert_close(model.reconstruct(x), wanted)
        assert torch.autograd.grad(model.surrogate(x, "softmax").sum(), x)[0].any()

    def test_a_line_for_two_codes_gives_the_label_to_both_halves(
        self, labels: Callable[[Tensor], Any]
    ) -> None:
        module = Spread(lambda m, v: (m[:, :1], v))
        with pytest.raises(GenrobustError, match="cannot tell which") as caught:
            genrobust.wrap(module, labels=labels)
        typed = str(caught.value).split("; pass ")[1].split(" if these")[0]
        typed = typed.replace(" and decode", ", decode")
        given = eval(f"dict({typed})", {"module": module, "genrobust": genrobust})
        x = torch.rand(3, *SHAPE)
        label = hard(False)(x)
        wanted = module.decode(*module.encode(x, label), label)
        model = genrobust.wrap(module, labels=labels, **given)
        torch.testing.assert_close(model.reconstruct(x), wanted)

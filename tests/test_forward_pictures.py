"""A module's forward gives its picture in one of many forms: it is compared, or said not to be."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from told import warned as said
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.checks.check import check_model
from genrobust.models.checks.fidelity import fidelity
from genrobust.models.inputs import probe_images
from genrobust.models.model import FORWARD_ALONE
from genrobust.models.wrapping import adapt

SHAPE = (1, 8, 8)


class Toy(nn.Module):
    """8x8 images, four latents; its forward gives ``form`` of the picture, or of its negative."""

    input_shape = SHAPE

    def __init__(self, form: Callable[[Tensor], Any], negative: bool = False) -> None:
        super().__init__()
        self.form, self.negative = form, negative
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.to_code, self.from_code = nn.Linear(64, 4), nn.Linear(4, 64)

    def encode(self, x: Tensor) -> Tensor:
        return 3 * self.to_code(x.flatten(1))

    def logits(self, z: Tensor) -> Tensor:
        return 4 * self.from_code(z).view(-1, *SHAPE)

    def decode(self, z: Tensor) -> Tensor:
        return self.logits(z).sigmoid()

    def forward(self, x: Tensor) -> Any:
        image = self.decode(self.encode(x))
        return self.form(1 - image if self.negative else image)


class Slots:
    __slots__ = ("image", "loss")

    def __init__(self, image: Tensor) -> None:
        self.image, self.loss = image, 0.0


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "bytes, rounded": lambda i: (255 * i).round().to(torch.uint8),
    "bytes, cut off": lambda i: (255 * i).byte(),
    "whole numbers": lambda i: (255 * i).long(),
    "numpy": lambda i: i.detach().numpy(),
    "bytes of numpy": lambda i: (255 * i.detach().numpy()).astype(np.uint8),
    "one an image": lambda i: list(i),
    "one an image, in a tuple beside a loss": lambda i: (i.mean(), tuple(i)),
    "slots": Slots,
    "a deque": lambda i: deque([i]),
    "from 0 to 255": lambda i: 255 * i,
    "from -1 to 1": lambda i: 2 * i - 1,
}


def typed(words: str, module: nn.Module) -> Any:
    line = words.split("; pass ")[-1].split(", or do in")[0]
    return eval(f"dict({line})", {"module": module, "torch": torch})


@pytest.mark.parametrize("form", FORMS)
def test_an_honest_picture_in_any_form_is_no_alarm(form: str) -> None:
    module = Toy(FORMS[form])
    assert said(module) == []
    assert fidelity(genrobust.wrap(module), probe_images(SHAPE)).status == "equal"


@pytest.mark.parametrize("form", FORMS)
def test_another_picture_in_any_form_is_told_and_mended_by_the_line(form: str) -> None:
    module, x = Toy(FORMS[form], negative=True), probe_images(SHAPE)
    (words,) = said(module)
    assert "gives other pictures than decode(encode(x))" in words
    model = genrobust.wrap(module, **typed(words, module))
    shown = 1 - module.decode(module.encode(x))
    assert float((model.reconstruct(x) - shown).abs().max()) <= 1.01 / 255


TWICE: dict[str, Callable[[Tensor], Tensor]] = {
    "a second sigmoid": lambda i: i.sigmoid(),
    "from -1 to 1, which they are not": lambda i: (i + 1) / 2,
    "bytes, which they are not": lambda i: i / 255,
}


@pytest.mark.parametrize("again", TWICE)
def test_what_is_made_of_pictures_that_are_done_is_another_picture(again: str) -> None:
    """Forward's lie in [0, 1] already, so they are no logits, and not in other units."""
    module = Toy(lambda image: image)
    (words,) = said(module, decode=lambda z: TWICE[again](module.decode(z)))
    assert "gives other pictures than decode(encode(x))" in words


@pytest.mark.parametrize(("off", "status"), [(0.9, "equal"), (1.5, "differs")])
def test_a_picture_in_bytes_may_be_off_by_a_level(off: float, status: str) -> None:
    module = Toy(lambda i: (255 * (0.1 + 0.8 * i) + off).floor().to(torch.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = genrobust.wrap(module, decode=lambda z: 0.1 + 0.8 * module.decode(z))
    assert fidelity(model, probe_images(SHAPE)).status == status


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda i: i.mean(), r"gives a tensor of shape \(\) and no picture"),
        (lambda i: {"loss": i.mean()}, "gives a dict with keys"),
        (lambda i: i > 0.5, "and no picture"),
        (lambda i: i[:, None].expand(-1, 3, -1, -1, -1), "and no picture"),
        (
            lambda i: [{"shown": one} for one in i],
            "gives a list of 8, of which the first is a dict",
        ),
    ],
)
def test_a_forward_without_a_picture_is_said_once(
    form: Callable[[Tensor], Any], words: str
) -> None:
    with pytest.warns(GenrobustWarning, match=words) as caught:
        genrobust.wrap(Toy(form))
    assert len(caught) == 1
    assert "may be misread" not in str(caught[0].message)


def test_a_forward_of_rows_that_gives_the_code_does_take_the_images() -> None:
    class Coding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(64, 4), nn.Linear(4, 64)

        def forward(self, rows: Tensor) -> Tensor:
            code: Tensor = self.encoder(rows)
            return code

    (words,) = said(Coding(), input_shape=SHAPE, clamp=True)
    assert "its forward gives a tensor of shape (8, 4) and no picture" in words
    assert "let forward give it as a tensor, or pass deploy=" in words


def test_a_forward_without_a_picture_is_not_said_where_functions_say_what_is_read() -> None:
    module = Toy(lambda i: i.mean())
    assert said(module, encode=lambda x: module.encode(x)) == []
    assert said(module, deploy=lambda x: module.decode(module.encode(x))) == []
    whole = Whole(module)
    (words,) = said(whole, deploy=lambda x: module.decode(module.encode(x)))
    assert "is read by its forward alone, so that no attack knows its code" in words


class Whole(nn.Module):
    """It has no halves, and its forward gives what the one of a part gives."""

    input_shape = SHAPE

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Any:
        return self.part(x)


class Bent(Toy):
    """Its forward bends the code on the way, and gives ``form`` of the logits."""

    def __init__(self, form: Callable[[Tensor], Tensor], low: float, high: float) -> None:
        super().__init__(form)
        self.low, self.high = low, high

    def decode(self, z: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * super().decode(z)

    def shown(self, x: Tensor) -> Tensor:
        return self.logits(self.encode(x).roll(1, 1))

    def forward(self, x: Tensor) -> Any:
        return self.form(self.shown(x)), x.mean()


@pytest.mark.parametrize(
    ("form", "scale"),
    [
        (lambda logits: logits, "sigmoid"),
        (lambda logits: logits.sigmoid(), "unit"),
        (lambda logits: 255 * logits.sigmoid(), "bytes"),
        (lambda logits: (255 * logits.sigmoid()).round().to(torch.uint8), "whole"),
    ],
)
@pytest.mark.parametrize("declared", [(0, 1), (-1, 1), (0, 255), (-0.5, 0.5)])
def test_the_line_gives_the_picture_in_the_declared_range(
    form: Callable[[Tensor], Tensor], scale: str, declared: tuple[float, float]
) -> None:
    module, x = Bent(form, *declared), probe_images(SHAPE)
    (words,) = said(module, value_range=declared)
    model = genrobust.wrap(module, value_range=declared, **typed(words, module))
    shown = module.shown(x * (declared[1] - declared[0]) + declared[0]).sigmoid()
    torch.testing.assert_close(model.reconstruct(x), shown, atol=0.51 / 255, rtol=0)


class Overshooting(Toy):
    """What it gives is no logits: it goes beyond [-1, 1] here and there, which is clipped."""

    def decode(self, z: Tensor) -> Tensor:
        return 0.4 * self.logits(z)

    def forward(self, x: Tensor) -> Any:
        return 0.4 * self.logits(8 * self.encode(x))


def test_pictures_beyond_the_range_are_clipped_where_that_is_said() -> None:
    module = Overshooting(lambda image: image)
    given: dict[str, Any] = {"value_range": (-1, 1), "clamp": True}
    (words,) = said(module, **given)
    model, x = genrobust.wrap(module, **given, **typed(words, module)), probe_images(SHAPE)
    assert module(2 * x - 1).abs().max() > 1
    torch.testing.assert_close(model.reconstruct(x), module(2 * x - 1).clamp(-1, 1) / 2 + 0.5)


# Read by their forward alone


class UNet(nn.Module):
    """Lists of layers, called what an encoder and a decoder are called."""

    input_shape = SHAPE

    def __init__(self, one_list: bool = False) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 4, 3, 2, 1)])
        layers = [nn.ConvTranspose2d(4, 2, 4, 2, 1), nn.ConvTranspose2d(4, 1, 4, 2, 1)]
        self.decoder = nn.Sequential(*layers) if one_list else nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        large = torch.tanh(self.encoder[0](x))
        small = torch.tanh(self.decoder[0](torch.tanh(self.encoder[1](large))))
        return self.decoder[1](torch.cat([small, large], 1)).sigmoid()


class Skipping(UNet):
    """Its decoder takes more than a code."""

    def encode(self, x: Tensor) -> Any:
        large = torch.tanh(self.encoder[0](x))
        return torch.tanh(self.encoder[1](large)), [large]

    def decode(self, z: Tensor, kept: list[Tensor]) -> Tensor:
        return self.decoder[1](torch.cat([torch.tanh(self.decoder[0](z)), kept[0]], 1)).sigmoid()


class Recurrent(nn.Module):
    """A canvas that cells called encoder and decoder draw on."""

    input_shape = SHAPE

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.GRUCell(128, 4), nn.GRUCell(4, 64)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        canvas = torch.zeros_like(flat)
        for _ in range(2):
            code = self.encoder(torch.cat([flat, flat - canvas.sigmoid()], 1))
            canvas = self.decoder(code, canvas)
        return canvas.view(-1, *SHAPE).sigmoid()


def test_lists_of_layers_are_no_encoder_and_no_decoder() -> None:
    module, x = UNet(), probe_images(SHAPE)
    model = adapt(module)
    check_model(model)
    assert model.spec[FORWARD_ALONE]
    torch.testing.assert_close(model.reconstruct(x), module(x))


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (UNet(one_list=True), {}),
        (Skipping(), {"encode": lambda x: x[:, :, ::4, ::4].expand(-1, 4, -1, -1)}),
        (Recurrent(), {}),
    ],
)
def test_what_is_read_by_its_forward_alone_is_told_what_to_type(
    module: nn.Module, given: dict[str, Any]
) -> None:
    x = probe_images(SHAPE)
    with pytest.raises(GenrobustError, match=r"encode=torch\.nn\.Identity\(\)"):
        genrobust.wrap(module, **given)
    model = genrobust.wrap(module, encode=torch.nn.Identity())
    assert model.spec[FORWARD_ALONE]
    torch.testing.assert_close(model.reconstruct(x), module(x))


def test_a_forward_that_fails_too_is_no_way_out() -> None:
    module = UNet()
    module.encoder = module.decoder = nn.Linear(5, 5)
    with pytest.raises(GenrobustError, match="takes 5 numbers") as raised:
        genrobust.wrap(module)
    assert "Identity" not in str(raised.value)


class Alone(nn.Module):
    """Its halves are lists of layers, its forward gives losses or pictures, and a method others."""

    input_shape = SHAPE

    def __init__(self, pictures: bool, draws: bool = False) -> None:
        super().__init__()
        self.encoder, self.decoder = (nn.ModuleList([nn.Linear(64, 64)]) for _ in range(2))
        self.pictures, self.draws = pictures, draws

    def reconstruct(self, x: Tensor) -> Tensor:
        code = self.encoder[0](x.flatten(1))
        if self.draws:
            code = code + torch.randn_like(code)
        return self.decoder[0](code).sigmoid().view(-1, *SHAPE)

    def forward(self, x: Tensor) -> Any:
        image = 1 - self.reconstruct(x)
        return image if self.pictures else {"elbo": (image - x).square().mean()}


@pytest.mark.parametrize("pictures", [False, True])
def test_a_method_that_gives_other_pictures_than_a_forward_alone_is_named(pictures: bool) -> None:
    module, x = Alone(pictures), torch.rand(2, *SHAPE)
    (told,) = said(module)
    assert ("its reconstruct gives other pictures" in told) == pictures
    line = told.split("pass encode=torch.nn.Identity() and ")[1].split(" if those")[0]
    line = line.split(", the pictures")[0]
    given = eval(f"dict({line})", {"module": module})
    model = genrobust.wrap(module, encode=nn.Identity(), **given)
    torch.testing.assert_close(model.reconstruct(x), module.reconstruct(x))
    assert said(module, encode=nn.Identity(), **given) == []
    if pictures:  # it was asked for
        assert said(module, encode=nn.Identity()) == []
    assert "module.reconstruct" not in "".join(said(Alone(pictures, draws=True)))


def test_of_a_forward_alone_that_takes_channels_last_the_line_is_named() -> None:
    class Last(nn.Module):
        input_shape = (3, 8, 8)

        def __init__(self) -> None:
            super().__init__()
            self.mix, self.code = nn.Linear(3, 3), nn.Linear(192, 192)

        def forward(self, x: Tensor) -> Tensor:
            return self.code(self.mix(x).flatten(1)).sigmoid().view(-1, 8, 8, 3)

    module, x = Last(), torch.rand(2, 3, 8, 8)
    (told,) = said(module)
    assert "it takes images with their channels last" in told
    line = told.split("pass encode=torch.nn.Identity() and ")[1]
    model = genrobust.wrap(
        module, encode=nn.Identity(), **eval(f"dict({line})", {"module": module})
    )
    torch.testing.assert_close(
        model.reconstruct(x), module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    )


@pytest.mark.parametrize("labels", [None, lambda x: x.mean((1, 2, 3))])
def test_of_a_decoder_that_gives_a_mean_and_a_scale_the_mean_is_named(labels: Any) -> None:
    class Scaled(Toy):
        def encode(self, x: Tensor, *labels: Tensor) -> Tensor:
            return super().encode(x)

        def decode(self, z: Tensor, *labels: Tensor) -> Any:
            image = super().decode(z)
            return {"scale": torch.ones_like(image), "mean": image}

        forward = nn.Module.forward

    module, x = Scaled(lambda image: image), torch.rand(2, *SHAPE)
    (told,) = said(module, labels=labels)
    line = told.split("; pass ")[1].split(" if that is the picture")[0]
    given = eval(f"dict({line})", {"module": module})
    model = genrobust.wrap(module, labels=labels, **given)
    torch.testing.assert_close(model.reconstruct(x), module.decode(module.encode(x))["mean"])

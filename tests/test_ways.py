"""Where forward gives no picture, what is scored is compared with a method that does."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from told import said
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustWarning
from genrobust.models.checks.fidelity import fidelity
from genrobust.models.inputs import probe_images

pytestmark = pytest.mark.usefixtures("brief")

SHAPE = (1, 8, 8)


class Net(nn.Module):
    input_shape = SHAPE

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.to_code, self.from_code = nn.Linear(64, 4), nn.Linear(4, 64)
            self.book = nn.Parameter(torch.randn(8, 4))

    def encode(self, x: Tensor) -> Any:
        return 3 * self.to_code(x.flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        return self.from_code(z).sigmoid().view(-1, *SHAPE)

    def nearest(self, z: Tensor) -> Tensor:
        return self.book[torch.cdist(z, self.book).argmin(1)]


class Rounded(Net):
    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x).round())


class Scaled(Net):
    def generate(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x) / 2)


class Embeds(Rounded):
    """Lightning's first example: its forward is for the code alone."""

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(x)


class Forwardless(Rounded):
    """As LightningModule, which has a forward that fails."""

    def forward(self, *given: Any) -> Any:
        raise NotImplementedError


class Steps(Net):
    def quantize(self, z: Tensor) -> Tensor:
        return (4 * z).round() / 4


MISREAD = {
    Rounded: "reconstruct",
    Scaled: "generate",
    Embeds: "reconstruct",
    Forwardless: "reconstruct",
    Steps: "decode(quantize(encode(x)))",
}


@pytest.mark.parametrize("held", [False, True], ids=["bare", "DataParallel"])
@pytest.mark.parametrize("kind", MISREAD)
def test_a_method_that_gives_other_pictures_is_named_with_a_line_that_scores_them(
    kind: type[Net], held: bool
) -> None:
    module: nn.Module = nn.DataParallel(kind()) if held else kind()
    told = said(module)
    assert f"may be misread: the module's {MISREAD[kind]} gives other pictures" in told
    typed = re.split(", or do in", told.split("; pass ")[1])[0]
    given = eval(f"dict({typed})", {"module": module})
    x = probe_images(SHAPE)
    model = genrobust.wrap(module, input_shape=SHAPE, **given)
    torch.testing.assert_close(model.reconstruct(x), given["deploy"](x))
    assert fidelity(model, x).status == "equal"


class Same(Net):
    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class OfCodes(Net):
    def reconstruct(self, z: Tensor) -> Tensor:
        return self.decode(z)


class OfCount(Net):
    def generate(self, count: int) -> Tensor:
        return self.decode(torch.randn(count, 4))


class OfAsMany(Net):
    def generate(self, like: Tensor) -> Tensor:
        return self.decode(torch.randn(len(like), 4))


class OfLargeCodes(Net):
    """Its codes have the images' shape."""

    def encode(self, x: Tensor) -> Tensor:
        return x.flip(-1)

    def decode(self, z: Tensor) -> Tensor:
        return self.from_code(self.to_code(z.flatten(1))).sigmoid().view(-1, *SHAPE)

    def generate(self, z: Tensor) -> Tensor:
        return self.decode(z)


class NotYet(Net):
    @property
    def reconstruct(self) -> Any:
        raise RuntimeError("fit it first")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Same, "equal"),
        *((kind, "no forward") for kind in (OfCodes, OfCount, OfAsMany, OfLargeCodes, NotYet)),
    ],
)
def test_an_honest_method_raises_no_word(kind: type[Net], status: str) -> None:
    assert said(kind()) == ""
    assert fidelity(genrobust.wrap(kind()), probe_images(SHAPE)).status == status


def test_one_image_is_enough_to_compare_by() -> None:
    model, x = genrobust.wrap(Same()), probe_images(SHAPE)
    assert fidelity(model, x[:1]).status == "equal"


def test_a_spread_is_told_by_a_method_that_draws() -> None:
    class Draws(Net):
        def encode(self, x: Tensor) -> Any:
            mean = super().encode(x)
            return mean, (0.1 * mean - 2).exp()

        def reconstruct(self, x: Tensor) -> Tensor:
            mean, std = self.encode(x)
            return self.decode(mean + std * torch.randn_like(mean))

    assert "is a standard deviation, as its reconstruct draws; pass encode=" in said(Draws())


class InMethod(Net):
    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.nearest(self.encode(x)))


class Beside(Net):
    def quantize(self, z: Tensor) -> Any:
        return self.nearest(z), z.mean()


class LossFirst(Net):
    def quantize(self, z: Tensor) -> Any:
        return z.mean(), self.nearest(z), None


@pytest.mark.parametrize("kind", [InMethod, Beside, LossFirst])
def test_a_quantiser_without_a_forward_is_found(kind: type[Net]) -> None:
    module, x = kind(), probe_images(SHAPE)
    model = genrobust.wrap(module)
    assert "8-entry codebook" in model.encode(x).describe()
    wanted = module.decode(module.nearest(module.encode(x)))
    torch.testing.assert_close(model.reconstruct(x), wanted)


class Bounded(nn.Module):
    """A quantiser that gives something else of what it has given."""

    def forward(self, z: Tensor) -> Tensor:
        code = 3 * torch.tanh(z)
        return code + (code.round() - code).detach()


class QuantisesItself(Net):
    def __init__(self) -> None:
        super().__init__()
        self.quantizer = Bounded()


class InEncode(QuantisesItself):
    def encode(self, x: Tensor) -> Any:
        return self.quantizer(super().encode(x))


class InDecode(QuantisesItself):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.quantizer(z))


@pytest.mark.parametrize("kind", [InEncode, InDecode])
def test_a_quantiser_that_a_half_uses_is_not_used_again(kind: type[Net]) -> None:
    assert said(kind()) == ""


def test_a_method_that_ends_in_train_mode_leaves_the_module_in_eval_mode() -> None:
    class Infers(Net):
        @torch.no_grad()
        def generate(self, x: Tensor) -> Tensor:
            self.eval()
            image = self.decode(self.encode(x))
            self.train()
            return image

    module = Infers()
    assert said(module) == ""
    assert not any(part.training for part in module.modules())


def test_a_line_for_a_conditional_quantiser_gives_the_label_to_both_halves() -> None:
    class Labelled(Steps):
        def encode(self, x: Tensor, label: Tensor) -> Any:
            return super().encode(x) + label

        def decode(self, z: Tensor, label: Tensor) -> Tensor:
            return super().decode(z - label)

    def labels(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :1]

    module, x = Labelled(), probe_images(SHAPE)
    with pytest.warns(GenrobustWarning, match=r"decode\(quantize\(encode\(x\)\)\) gives") as caught:
        genrobust.wrap(module, labels=labels)
    typed = str(caught[0].message).split("; pass ")[1].split(", or do in")[0]
    given = eval(f"dict({typed})", {"module": module, "labels": labels})
    wanted = module.decode(module.quantize(module.encode(x, labels(x))), labels(x))
    model = genrobust.wrap(module, labels=labels, **given)
    torch.testing.assert_close(model.reconstruct(x), wanted)

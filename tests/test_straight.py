"""Quantisers that give no gradient: it is passed straight through, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from styles.libraries import LUCIDRAINS, lucidrains
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.inputs import probe_images
from genrobust.seeding import generator
from genrobust.suites import load_suite


class Levels(nn.Module):
    """Rounds to a grid between two projections, and says how far that was."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(count, 3), nn.Linear(3, count)
        self.grid = Grid()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        code = self.out(self.grid(self.into(z))["code"])
        return code, (code - z).square().mean()


class Grid(nn.Module):
    def forward(self, z: Tensor) -> dict[str, Tensor]:
        tokens = (8 * z).round().long()
        return {"tokens": tokens, "code": tokens / 8}


class Layers(nn.Module):
    """What everything goes through in turn."""

    input_shape = (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Flatten(), nn.Linear(16, 5), Levels(5), nn.Linear(5, 16)])
        for i, weight in enumerate(self.parameters()):
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator("layers", i))
        self.layers[-1].bias.data.fill_(0.5)
        self.layers[-1].weight.data *= 0.1

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x
        return x.view(-1, *self.input_shape)


class Halves(Layers):
    """The same, with the quantiser in encode."""

    def encode(self, x: Tensor) -> Tensor:
        flat, encoder, levels, _ = self.layers
        code: Tensor = levels(encoder(flat(x)))[0]
        return code

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.layers[-1](z)
        return image.view(-1, *self.input_shape)


class Beside(Halves):
    """The same, with the quantiser between the halves, where forward alone has it."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = self.layers[2]

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.layers[1](x.flatten(1))
        return code


def slope(module: Layers) -> Tensor:
    """The Jacobian of the network without its rounding, (16, 16)."""
    _, encoder, levels, decoder = module.layers
    return decoder.weight @ levels.out.weight @ levels.into.weight @ encoder.weight


@pytest.mark.parametrize("style", [Layers, Halves])
@pytest.mark.parametrize("max_batch", [None, 3])
def test_the_gradient_is_that_of_the_network_without_its_rounding(
    style: type[Layers], max_batch: int | None
) -> None:
    module = style()
    model = genrobust.wrap(module, max_batch=max_batch)
    x = probe_images(model.input_shape, 5).requires_grad_()
    image = model.surrogate(x, "softmax")
    assert torch.equal(model.reconstruct(x.detach()), module(x).detach())
    assert torch.equal(image.detach(), module(x).detach())
    (found,) = torch.autograd.grad(image.square().sum(), x)
    wanted = 2 * image.detach().flatten(1) @ slope(module)
    assert torch.allclose(found.flatten(1), wanted, atol=1e-6)


def test_the_innermost_part_is_passed_and_the_module_left_as_it_was() -> None:
    module = Halves()
    model = genrobust.wrap(module)
    assert model.straight == ("layers.2.grid",)
    assert not any(part._forward_hooks for part in module.modules())
    x = probe_images(model.input_shape).requires_grad_()
    assert not module(x).requires_grad


class Rounding(nn.Module):
    """Rounds as numbers, so that it has a gradient, and that is 0."""

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"code": (8 * z).round() / 8}


@pytest.mark.parametrize("max_batch", [None, 1])
def test_a_gradient_that_is_0_is_passed_as_one_that_is_cut(max_batch: int | None) -> None:
    module = Halves()
    module.layers[2].grid = Rounding()
    model = genrobust.wrap(module, max_batch=max_batch)
    assert model.straight == ("layers.2.grid",)
    x = probe_images(model.input_shape, 5).requires_grad_()
    image = model.surrogate(x, "softmax")
    # Of one image at a time a processor may round otherwise than of five.
    assert torch.allclose(image.detach(), module(x.detach()), atol=1e-6)
    (found,) = torch.autograd.grad(image.square().sum(), x)
    wanted = 2 * image.detach().flatten(1) @ slope(module)
    assert torch.allclose(found.flatten(1), wanted, atol=1e-6)


def test_units_that_died_are_no_quantiser() -> None:
    module = Halves()
    module.layers[1] = nn.Sequential(module.layers[1], nn.Threshold(100, 0.0))
    with pytest.raises(GenrobustError, match="one picture for all images"):
        genrobust.wrap(module)


class Digits(Halves):
    """Takes digits, of which it sees the means of areas."""

    input_shape = (1, 32, 32)

    def encode(self, x: Tensor) -> Tensor:
        return super().encode(F.avg_pool2d(x, 8))

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(self.layers[-1](z).view(-1, 1, 4, 4), scale_factor=8.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


@pytest.mark.usefixtures("brief")
def test_a_record_says_so_however_the_model_is_given(tmp_path: Path) -> None:
    suite = load_suite("digits").limited(2).with_attacks(["noise"])
    module = Digits()
    for number, model in enumerate((module, genrobust.wrap(module))):
        record = genrobust.bench(model, suite=suite, out=tmp_path / str(number))
        assert record.model.spec["straight"] == ["layers.2.grid"]
        assert record.model.fingerprint == genrobust.wrap(Digits()).fingerprint()


def test_a_check_says_so(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from test_straight import Halves\n\ndef build():\n    return Halves()\n")
    pictures = tmp_path / "pictures.npy"
    np.save(pictures, np.random.rand(8, 4, 4).astype("float32"))
    found = CliRunner().invoke(app, ["check", f"{file}:build", "--data", str(pictures)])
    assert found.exit_code == 0, found.output
    assert "passed straight through layers.2.grid" in found.output


def test_an_attack_follows_it() -> None:
    model = genrobust.wrap(Halves())
    x = probe_images(model.input_shape, 4)
    target = x.flip(0)
    threat: Any = {"norm": "linf", "eps": 0.3}
    found = genrobust.attack("latent", model, x, target=target, steps=20, **threat)
    start, end = (
        (model.encode(one).mode() - model.encode(target).mode()).norm(dim=1)
        for one in (x, found.x_adv)
    )
    assert (end < 0.7 * start).all()


def test_what_lies_between_the_halves_is_named_with_a_line_that_works() -> None:
    module = Beside()
    with pytest.warns(GenrobustWarning, match=r"decode=lambda z: module.decode\(module.levels\(z"):
        genrobust.wrap(module)
    model = genrobust.wrap(module, decode=lambda z: module.decode(module.levels(z)[0]))
    x = probe_images(model.input_shape)
    assert torch.equal(model.reconstruct(x), module(x).detach())
    assert model.straight == ("layers.2.grid",)


class Numbered(Halves):
    """Its halves go by the numbers of entries."""

    def encode(self, x: Tensor) -> Tensor:
        flat, encoder, levels, _ = self.layers
        return levels.grid(levels.into(encoder(flat(x))))["tokens"]

    def decode(self, tokens: Tensor) -> Tensor:
        return super().decode(self.layers[2].out(tokens / 8))


def test_what_goes_by_numbers_of_entries_is_read_by_its_forward() -> None:
    with pytest.raises(GenrobustError, match=r"encode=torch.nn.Identity\(\) to read it by its fo"):
        genrobust.wrap(Numbered())
    model = genrobust.wrap(Numbered(), encode=nn.Identity())
    assert model.straight == ("layers.2.grid",)


class Ungraded(Halves):
    """Nothing of it is computed with a gradient."""

    def encode(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().encode(x)


class Elsewhere(Halves):
    """It rounds in no part of its own."""

    def encode(self, x: Tensor) -> Tensor:
        return (8 * self.layers[1](x.flatten(1))).round().long() / 8


@pytest.mark.parametrize("style", [Ungraded, Elsewhere])
def test_a_path_that_no_part_cuts_is_refused(style: type[Layers]) -> None:
    with pytest.raises(GenrobustError, match="no gradient reaches the image"):
        genrobust.wrap(style())


@pytest.mark.slow
@pytest.mark.parametrize("name", LUCIDRAINS)
def test_quantisers_of_a_library_are_passed(name: str) -> None:
    pytest.importorskip("vector_quantize_pytorch")
    module = lucidrains(name).eval()
    model = genrobust.wrap(module)
    x = probe_images(model.input_shape).requires_grad_()
    (gradient,) = torch.autograd.grad(model.surrogate(x, "softmax").square().sum(), x)
    assert torch.allclose(model.reconstruct(x.detach()), module(x).detach(), atol=1e-6)
    assert gradient.flatten(1).norm(dim=1).min() > 0

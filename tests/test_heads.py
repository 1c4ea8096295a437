"""Layers that make the code of what an encoder gives, and lie beside it, are named with a line."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from told import said
from torch import Tensor, nn

import genrobust

pytestmark = pytest.mark.usefixtures("brief")

SHAPE = (1, 8, 8)
CODE = 4


class Net(nn.Module):
    """Four parts, and nothing that says how they go together."""

    input_shape = SHAPE

    def __init__(self, features: int, flat: bool = True) -> None:
        super().__init__()
        last: nn.Module = nn.Tanh() if flat else nn.Unflatten(1, (features, 1, 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, features), last)
            self.fc_mu, self.fc_var = nn.Linear(features, CODE), nn.Linear(features, CODE)
            self.decoder = nn.Sequential(nn.Linear(CODE, 64), nn.Sigmoid(), nn.Unflatten(1, SHAPE))

    def step(self, x: Tensor) -> tuple[Tensor, ...]:
        h = self.encoder(x).flatten(1)
        mean, logvar = self.fc_mu(h), self.fc_var(h)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        return z, self.decoder(z), mean, logvar


class Pictures(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)[1]


class All(Net):
    def forward(self, x: Tensor) -> Any:
        return self.step(x)


class Codes(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)[0]


class Run(Net):
    def _run_step(self, x: Tensor) -> Any:
        return self.step(x)


@pytest.mark.parametrize("held", [False, True], ids=["bare", "DataParallel"])
@pytest.mark.parametrize("features", [CODE, 16], ids=["as many as codes", "more"])
@pytest.mark.parametrize("kind", [Net, Pictures, All, Codes, Run])
def test_the_line_that_is_named_goes_through_them(
    kind: type[Net], features: int, held: bool
) -> None:
    inner = kind(features)
    module: nn.Module = nn.DataParallel(inner) if held else inner
    told = said(module)
    assert "fc_mu" in told
    typed = re.split(
        r" if they give|, the code that", told.split("; pass ")[-1].split(": pass ")[-1]
    )
    given = eval(f"dict({typed[0]})", {"module": module})
    assert said(module, **given) == ""
    x = torch.rand(3, *SHAPE)
    wanted = inner.decoder(inner.fc_mu(inner.encoder(x)))
    model = genrobust.wrap(module, input_shape=SHAPE, **given)
    torch.testing.assert_close(model.reconstruct(x), wanted)


def test_features_that_are_flattened_before_them_are_flattened_in_the_line() -> None:
    assert "(module.encoder(x).flatten(1))" in said(Net(16, flat=False))


def test_they_are_no_matter_where_forward_passes_them_over() -> None:
    class Plain(Net):
        def forward(self, x: Tensor) -> Tensor:
            image: Tensor = self.decoder(self.encoder(x))
            return image

    assert said(Plain(CODE)) == ""


class Parts(nn.Module):
    """An encoder, a decoder and another part, and no method that puts them together."""

    input_shape = SHAPE

    def __init__(self, **others: nn.Module) -> None:
        super().__init__()
        net = Net(CODE)
        self.encoder, self.decoder = net.encoder, net.decoder
        for name, part in others.items():
            setattr(self, name, part)


def test_a_part_that_fits_between_the_halves_is_named() -> None:
    module = Parts(quant_conv=nn.Linear(CODE, CODE), discriminator=nn.Linear(CODE, 1))
    told = said(module)
    assert "alone are scored, and not 'quant_conv', which fits between the two" in told
    given = {"encode": eval(told.split("pass encode=")[1].split(" if ")[0], {"module": module})}
    assert said(module, **given) == ""
    x = torch.rand(3, *SHAPE)
    wanted = module.decoder(module.quant_conv(module.encoder(x)))
    model = genrobust.wrap(module, **given)
    torch.testing.assert_close(model.reconstruct(x), wanted)


def test_a_part_that_does_not_fit_between_them_raises_no_word() -> None:
    module = Parts(discriminator=nn.Linear(CODE, 1), critic=nn.Linear(64, 1), act=nn.Tanh())
    assert said(module) == ""


def test_a_part_that_forward_passes_over_raises_no_word() -> None:
    class Whole(Parts):
        def forward(self, x: Tensor) -> Tensor:
            image: Tensor = self.decoder(self.encoder(x))
            return image

    assert said(Whole(predictor=nn.Linear(CODE, CODE))) == ""


def test_layers_of_a_prior_are_no_heads_of_the_encoder() -> None:
    layers = {name: nn.Linear(CODE, CODE) for name in ("prior_mu", "prior_logvar")}
    assert "code's mean and log-variance" not in said(Parts(**layers))

"""Forms of models that are in nobody's library: read right, or said what to type."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.judges import load_judge
from genrobust.models.inputs import probe_images
from genrobust.posterior import Codebook, Gaussian, Point

LATENTS = 6


class _VAE(nn.Module):
    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh())
        self.to_mean, self.to_logvar = nn.Linear(16, LATENTS), nn.Linear(16, LATENTS)
        self.out = nn.Linear(LATENTS, 64)

    def pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return 3 * self.to_mean(h), self.to_logvar(h) - 2

    def decode(self, z: Tensor) -> Tensor:
        return self.out(z).sigmoid().view(-1, 1, 8, 8)

    def forward(self, x: Tensor) -> Any:
        mean, logvar = self.pair(x)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        return _VAE.decode(self, z[:, :LATENTS]), mean, logvar


def _parts(model: genrobust.GenerativeModel) -> tuple[Any, ...]:
    return model.encode(probe_images(model.input_shape, 3)).parts


@pytest.mark.parametrize("key", ["posterior", "stats"])
def test_the_one_posterior_in_a_dictionary_is_read(key: str) -> None:
    class Nested(_VAE):
        def encode(self, x: Tensor) -> Any:
            mean, logvar = self.pair(x)
            held = {"mu": mean, "logvar": logvar} if key == "posterior" else (mean, logvar)
            return {key: held, "features": self.body(x)}

    module = Nested()
    (part,) = _parts(genrobust.wrap(module))
    assert isinstance(part, Gaussian)
    assert torch.equal(part.logvar, module.pair(probe_images((1, 8, 8), 3))[1])


def test_a_dictionary_of_two_posteriors_is_refused() -> None:
    class Two(_VAE):
        def encode(self, x: Tensor) -> Any:
            return {"q": self.pair(x), "p": self.pair(x)}

    with pytest.raises(GenrobustError, match="pass encode="):
        genrobust.wrap(Two())


def test_a_list_of_pairs_is_a_hierarchy_and_a_tuple_of_them_is_not() -> None:
    class Layers(_VAE):
        held: type = list

        def encode(self, x: Tensor) -> Any:
            mean, logvar = self.pair(x)
            return self.held([(mean, logvar), (mean[:, :2], logvar[:, :2])])

        def decode(self, codes: Any) -> Tensor:
            return super().decode(codes[0] + nn.functional.pad(codes[1], (0, LATENTS - 2)))

        def forward(self, x: Tensor) -> Tensor:
            return self.decode([mean for mean, _ in self.encode(x)])

    assert [part.mean.shape[1] for part in _parts(genrobust.wrap(Layers()))] == [LATENTS, 2]
    Layers.held = tuple  # such as (posterior, prior)
    with pytest.raises(GenrobustError, match="cannot tell"):
        genrobust.wrap(Layers())


def test_the_mean_and_log_variance_side_by_side_are_not_silently_one_point() -> None:
    class Halves(_VAE):
        def encode(self, x: Tensor) -> Tensor:
            return torch.cat(self.pair(x), 1)

        def decode(self, z: Tensor) -> Tensor:
            return super().decode(z[:, :LATENTS])

    module = Halves()
    with pytest.warns(GenrobustWarning, match=r"module\.encode\(x\)\.chunk\(2, 1\) if it is"):
        assert isinstance(_parts(genrobust.wrap(module))[0], Point)
    mended = genrobust.wrap(module, encode=lambda x: module.encode(x).chunk(2, 1))
    assert isinstance(_parts(mended)[0], Gaussian)


def test_heads_that_only_forward_applies_are_found_in_what_it_gives() -> None:
    class Headless(_VAE):
        def encode(self, x: Tensor) -> Tensor:
            return self.body(x)

    module = Headless()
    typed = "(lambda o: (o[1], o[2]))(module(x))"
    with pytest.raises(GenrobustError) as refused:
        genrobust.wrap(module)
    assert f"pass encode=lambda x: {typed}, the code that forward" in str(refused.value)
    model = genrobust.wrap(module, encode=eval(f"lambda x: {typed}", {"module": module}))
    assert isinstance(_parts(model)[0], Gaussian)


def test_statistics_of_the_batch_are_refused_with_their_cause() -> None:
    class Trains(_VAE):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16))

        def train(self, mode: bool = True) -> Any:
            return super().train(True)

        def encode(self, x: Tensor) -> Any:
            return self.pair(x)

    with pytest.raises(GenrobustError, match="normalises by the batch's own statistics"):
        genrobust.wrap(Trains())


def test_a_quantiser_by_the_angle_is_read_as_tokens() -> None:
    class ByAngle(nn.Module):
        input_shape = (1, 8, 8)

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.encoder, self.decoder = nn.Conv2d(1, 4, 4, 4), nn.ConvTranspose2d(4, 1, 4, 4)
            self.codes = nn.Parameter(nn.functional.normalize(torch.randn(12, 4)))

        def encode(self, x: Tensor) -> Tensor:
            return self.encoder(x)

        def decode(self, z: Tensor) -> Tensor:
            return self.decoder(z).sigmoid()

        def forward(self, x: Tensor) -> Tensor:
            rows = nn.functional.normalize(self.encode(x).movedim(1, -1), dim=-1)
            return self.decode(self.codes[(rows @ self.codes.T).argmax(-1)].movedim(-1, 1))

    module = ByAngle()
    model, x = genrobust.wrap(module), torch.rand(3, 1, 8, 8)
    assert isinstance(_parts(model)[0], Codebook)
    assert torch.allclose(model.reconstruct(x), module(x), atol=1e-6)


@pytest.mark.parametrize("attribute", ["Smiling", "Male", "Eyeglasses"])
def test_two_judges_of_each_attribute_ship(attribute: str) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for name in ("vgg", "resnet"):
        assert load_judge(f"celeba:{attribute}", name).labels(x).shape == (2,)


class _ChannelsLast(nn.Module):
    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.input_shape = shape
        self.colours = nn.Linear(shape[2], shape[2])

    def encode(self, x: Tensor) -> Tensor:
        return self.colours(x)

    def decode(self, z: Tensor) -> Tensor:
        return z.sigmoid()


@pytest.mark.parametrize("shape", [(16, 16, 3), (28, 28, 1), (8, 8, 4)])
def test_channels_that_are_last_are_told_with_a_line_that_works(
    shape: tuple[int, int, int],
) -> None:
    """Any shape of three can be read as channels first, and no check of a model fails on it."""
    module = _ChannelsLast(shape)
    with pytest.warns(GenrobustWarning, match="if the channels are last, pass ") as told:
        genrobust.wrap(module)
    line = str(told[0].message).partition(" pass ")[2].replace(" and decode=", ", decode=")
    model = eval(f"genrobust.wrap(module, {line})", {"genrobust": genrobust, "module": module})
    assert model.input_shape == (shape[2], *shape[:2])
    x = torch.rand(2, *model.input_shape, generator=torch.manual_seed(0))
    expected = module.decode(module.encode(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    assert torch.allclose(model.reconstruct(x), expected)


@pytest.mark.parametrize("shape", [(12, 50, 1), (4, 4, 4), (3, 3, 3), (16, 16, 16), (64, 1, 1)])
def test_other_shapes_with_few_at_the_end_are_no_alarm(shape: tuple[int, int, int]) -> None:
    assert genrobust.wrap(_ChannelsLast(shape)).input_shape == shape

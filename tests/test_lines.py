"""Where a module's halves do not go together as they are, the line that is named was tried."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from told import said
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.posterior import Categorical, Codebook, Gaussian, Part, Point

pytestmark = pytest.mark.usefixtures("brief")

SHAPE = (1, 8, 8)
LATENTS = 6


class Net(nn.Module):
    """Images as rows, and pictures of six numbers."""

    input_shape = SHAPE

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.build()

    def build(self) -> None:
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh())
        self.params, self.picture = nn.Linear(32, 2 * LATENTS), nn.Linear(LATENTS, 64)

    def encode(self, x: Tensor) -> Any:
        return self.params(self.body(x))[:, :LATENTS]

    def decode(self, z: Any) -> Tensor:
        return self.picture(z).sigmoid().view(-1, *SHAPE)


class Convolutions(Net):
    """Feature maps of 4 x 2 x 2 on both sides."""

    def build(self) -> None:
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.Tanh())
        self.decoder = nn.Sequential(nn.ConvTranspose2d(4, 1, 4, 4), nn.Sigmoid())
        self.quant_conv, self.post_quant_conv = nn.Conv2d(8, 8, 1), nn.Conv2d(4, 4, 1)
        self.fc_mu, self.fc_var = nn.Linear(32, 5), nn.Linear(32, 5)
        self.decoder_input = nn.Linear(5, 16)

    encode = decode = None


class SampleAndParameters(Net):
    def encode(self, x: Tensor) -> Any:
        params = self.params(self.body(x))
        mean, logvar = params.chunk(2, 1)
        return mean + (0.5 * logvar).exp() * torch.randn_like(mean), params

    def forward(self, x: Tensor) -> Any:
        z, params = self.encode(x)
        return self.decode(z), params


class CodeAndFeatures(Net):
    def encode(self, x: Tensor) -> Any:
        return super().encode(x), self.body(x)

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x)[0])


class TwoPieces(Net):
    def encode(self, x: Tensor) -> Any:
        code = super().encode(x)
        return code[:, :2], code[:, 2:]

    def forward(self, x: Tensor) -> Any:
        return self.decode(torch.cat(self.encode(x), 1))


class PosteriorBesideItsSample(Net):
    def encode(self, x: Tensor) -> Any:
        mean, logvar = self.params(self.body(x)).chunk(2, 1)
        return mean + (0.5 * logvar).exp() * torch.randn_like(mean), (mean, logvar)

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x)[0])


class OnASphere(Net):
    def forward(self, x: Tensor) -> Any:
        return self.decode(nn.functional.normalize(self.encode(x)))


class OneHot(Net):
    def encode(self, x: Tensor) -> Any:
        return super().encode(x).view(-1, 2, 3)

    def forward(self, x: Tensor) -> Any:
        one_hot = nn.functional.one_hot(self.encode(x).argmax(-1), 3)
        return self.decode(one_hot.float().flatten(1))


class Deconvolved(Net):
    def build(self) -> None:
        super().build()
        self.picture = nn.ConvTranspose2d(LATENTS, 1, 8)

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x)[..., None, None])


class Layered(Convolutions):
    """Layers between the halves that fit beside them without."""

    def forward(self, x: Tensor) -> Any:
        h = self.encoder(x).flatten(1)
        mean, logvar = self.fc_mu(h), self.fc_var(h)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        return self.decoder(self.decoder_input(z).view(-1, 4, 2, 2))


class Latent(Convolutions):
    """As the autoencoder of latent diffusion."""

    def forward(self, x: Tensor) -> Any:
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, 1)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        return self.decoder(self.post_quant_conv(z))


class Tokens(Convolutions):
    def encode(self, x: Tensor) -> Any:
        return self.encoder(x)[:, :4].flatten(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Any:
        return self.decoder(self.encode(x).transpose(1, 2).reshape(-1, 4, 2, 2))


class SignedSpread(Net):
    def encode(self, x: Tensor) -> Any:
        return self.params(self.body(x)).chunk(2, 1)

    def forward(self, x: Tensor) -> Any:
        mean, std = self.encode(x)
        return self.decode(mean + std * torch.randn_like(mean))


class CodeAndLikelihoods(Net):
    """As a codec's, it hands back what its rate is made of, beside the code."""

    def encode(self, x: Tensor) -> Any:
        return {"y": super().encode(x), "means": self.params(self.body(x))[:, LATENTS:]}

    def forward(self, x: Tensor) -> Any:
        found = self.encode(x)
        return {"x_hat": self.decode(found["y"]), **found}


CASES: dict[type[Net], tuple[type[Part], int]] = {
    SampleAndParameters: (Gaussian, 6),
    CodeAndFeatures: (Point, 6),
    TwoPieces: (Point, 6),
    PosteriorBesideItsSample: (Gaussian, 6),
    OnASphere: (Point, 6),
    OneHot: (Categorical, 6),
    Deconvolved: (Point, 6),
    Layered: (Gaussian, 5),
    Latent: (Gaussian, 16),
    Tokens: (Point, 16),
    SignedSpread: (Gaussian, 6),
    CodeAndLikelihoods: (Point, 6),
}


def typed(module: nn.Module, told: str) -> dict[str, Any]:
    line = re.search(r"pass ((?:en|de)code=lambda .*?)(?:, the code that| if |$)", told)
    assert line is not None, told
    scope = {"module": module, "genrobust": genrobust, "torch": torch}
    given: dict[str, Any] = eval(f"dict({line[1].replace(' and decode=', ', decode=')})", scope)
    return given


@pytest.mark.parametrize("kind", CASES)
def test_the_line_reads_the_code_that_forward_decodes_at_once(kind: type[Net]) -> None:
    module = kind()
    given = typed(module, said(module))
    assert said(module, **given) == ""
    x = torch.rand(3, *SHAPE)
    model = genrobust.wrap(module, **given)
    (part,) = model.encode(x).parts
    assert (type(part), part.mode()[0].numel()) == CASES[kind]


@pytest.mark.parametrize("kind", [CodeAndFeatures, Deconvolved, TwoPieces])
def test_without_a_forward_a_line_is_named_that_decode_takes(kind: type[Net]) -> None:
    module = type(kind.__name__, (kind,), {"forward": nn.Module.forward})()
    given = typed(module, said(module))
    (part,) = genrobust.wrap(module, **given).encode(torch.rand(3, *SHAPE)).parts
    assert part.mode()[0].numel() == LATENTS


def test_without_a_forward_layers_that_are_left_out_are_told_with_all_that_they_take() -> None:
    module = Convolutions()
    module.encoder[0] = nn.Conv2d(1, 4, 4, 4)  # whose maps the decoder takes
    module.fc_mu, module.fc_var = nn.Linear(16, 5), nn.Linear(16, 5)
    told = said(module)
    assert "'fc_mu' and 'fc_var' take what the encoder gives, and no part" in told
    (part,) = genrobust.wrap(module, **typed(module, told)).encode(torch.rand(3, *SHAPE)).parts
    assert isinstance(part, Gaussian)
    assert part.mean.shape == (3, 5)


class Entries(Convolutions):
    """Its encode ends, and its decode begins, with the numbers of entries."""

    def build(self) -> None:
        super().build()
        self.encoder, self.table = nn.Conv2d(1, 4, 4, 4), nn.Embedding(16, 4)

    def numbers(self, x: Tensor) -> Tensor:
        features = self.encoder(x).movedim(1, -1)
        return (features[..., None, :] - self.table.weight).square().sum(-1).argmin(-1)

    def encode(self, x: Tensor) -> Any:
        return self.numbers(x)

    def decode(self, numbers: Tensor) -> Tensor:
        return self.decoder(self.table(numbers).movedim(-1, 1))

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.numbers(x))


class EntriesAndFeatures(Entries):
    def encode(self, x: Tensor) -> Any:
        return self.numbers(x), self.encoder(x)


@pytest.mark.parametrize("kind", [Entries, EntriesAndFeatures])
def test_numbers_of_entries_are_read_as_a_codebook_by_the_parts(kind: type[Entries]) -> None:
    module, x = kind(), torch.rand(3, *SHAPE)
    model = genrobust.wrap(module)
    (part,) = model.encode(x).parts
    assert isinstance(part, Codebook)
    torch.testing.assert_close(model.reconstruct(x), module(x))


def test_whole_numbers_beside_features_are_named_where_decode_takes_them() -> None:
    module = type("Bare", (EntriesAndFeatures,), {"forward": nn.Module.forward})()
    told = said(module)
    assert "decode takes the whole numbers at [0]" in told
    line = told.split("without a gradient, ")[1].replace(" and diff", ", diff")
    model = genrobust.wrap(module, **eval(f"dict({line})", {"module": module}))
    x = torch.rand(3, *SHAPE)
    torch.testing.assert_close(model.reconstruct(x), module.decode(module.numbers(x)))


class Between(Net):
    """A layer between the halves, beside so many that nothing takes."""

    unused = 0

    def build(self) -> None:
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
        self.decoder = nn.Sequential(nn.Linear(5, 64), nn.Sigmoid(), nn.Unflatten(1, SHAPE))
        self.squeeze = nn.Linear(12, 5)
        for n in range(self.unused):
            setattr(self, f"other_{n}", nn.Linear(3, 3))

    encode = decode = None

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.squeeze(self.encoder(x)))


@pytest.mark.parametrize(("unused", "is_named"), [(7, True), (8, False)])
def test_parts_are_tried_where_they_are_few(unused: int, is_named: bool) -> None:
    module = type("Between", (Between,), {"unused": unused})()
    with pytest.raises(GenrobustError) as refused:
        genrobust.wrap(module)
    assert ("module.squeeze(" in str(refused.value)) is is_named


class LossesBeside(Between):
    """Two numbers for each image stand beside the picture, and one beside the code."""

    def encode(self, x: Tensor) -> Any:
        code = self.encoder(x)
        return code, code.square().sum(1)

    def forward(self, x: Tensor) -> Any:
        code = self.encode(x)[0]
        return self.decoder(self.squeeze(code)), code.mean(1), code.square().mean(1)


def test_a_number_for_each_image_is_no_code() -> None:
    with pytest.raises(GenrobustError, match=r"module\.squeeze\("):
        genrobust.wrap(LossesBeside())


class FromNoise(Net):
    """Whose forward draws pictures of nothing: no code of an image is the one that it decodes."""

    def encode(self, x: Tensor) -> Any:
        mean, spread = self.params(self.body(x)).chunk(2, 1)
        return mean, spread - 40  # below 0 for all images: squashed, one code

    def forward(self, x: Tensor) -> Any:
        return self.decode(torch.randn(len(x), LATENTS))


def test_one_code_for_all_images_is_none() -> None:
    told = said(FromNoise())
    assert "module(x)" in told
    assert "encode=" not in told.split("pass", 1)[1].split(", or ")[0]


class Video(Net):
    """Takes batches of videos, and gives them in a dictionary."""

    def build(self) -> None:
        self.frames = nn.Conv3d(1, 4, (1, 4, 4), (1, 4, 4))
        self.back = nn.ConvTranspose3d(4, 1, (1, 4, 4), (1, 4, 4))

    def encode(self, x: Tensor) -> Any:
        return self.frames(x)

    def decode(self, z: Any) -> Any:
        return {"video": self.back(z).sigmoid()}


def test_a_model_of_videos_is_given_images_as_one_frame_by_the_line() -> None:
    module, x = Video(), torch.rand(3, *SHAPE)
    told = said(module)
    assert "it takes videos, such as of one frame" in told
    model = genrobust.wrap(module, **typed(module, told))
    shown = module.decode(module.encode(x[:, :, None]))["video"][:, :, 0]
    torch.testing.assert_close(model.reconstruct(x), shown)


class LastChannels(Net):
    """Takes images as Keras lays them out, and gives a sample beside the code and its spread."""

    def build(self) -> None:
        pixels = math.prod(SHAPE)
        self.rows, self.back = nn.Linear(pixels, 8), nn.Linear(4, pixels)

    def encode(self, x: Tensor) -> Any:
        assert x.shape[-1] == SHAPE[0]
        mean, logvar = self.rows(x.flatten(1)).chunk(2, 1)
        return mean, logvar, mean + (0.5 * logvar).exp() * torch.randn_like(mean)

    def decode(self, z: Any) -> Any:
        channels, height, width = SHAPE
        return self.back(z).sigmoid().view(-1, height, width, channels)


def test_a_model_of_channels_last_is_given_images_so_by_the_line() -> None:
    module, x = LastChannels(), torch.rand(3, *SHAPE)
    told = said(module)
    assert "it takes images with their channels last" in told
    with pytest.warns(GenrobustWarning, match="number 1 is read as the mean"):
        model = genrobust.wrap(module, **typed(module, told))
    shown = module.decode(module.encode(x.movedim(1, -1))[0]).movedim(-1, 1)
    torch.testing.assert_close(model.reconstruct(x), shown)

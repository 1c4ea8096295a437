"""Of a module whose network is a part of it, as training modules have it, the halves are named."""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.checks.fidelity import fidelity

pytestmark = pytest.mark.usefixtures("brief")

SHAPE = (1, 8, 8)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.to_code, self.from_code = nn.Linear(64, 8), nn.Linear(4, 64)

    def encode(self, x: Tensor) -> Any:
        return self.to_code(x.flatten(1)).chunk(2, 1)

    def decode(self, z: Tensor) -> Tensor:
        return self.from_code(z).sigmoid().view(-1, *SHAPE)

    def forward(self, x: Tensor) -> Tensor:
        mean, logvar = self.encode(x)
        return self.decode(mean + (0.5 * logvar).exp() * torch.randn_like(mean))


class Trainer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vae = Network()


class Draws(Trainer):
    def forward(self, x: Tensor) -> Tensor:
        return self.vae(x)


class Loss(Trainer):
    def forward(self, x: Tensor) -> Tensor:
        return (self.vae(x) - x).square().mean()


class Unwritten(Trainer):
    """As LightningModule, whose forward passes on to torch's, which fails."""

    def forward(self, *given: Any) -> Any:
        return super().forward(*given)


class Half(Draws):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = Trainer()


@pytest.mark.parametrize("held", [False, True], ids=["bare", "DataParallel"])
@pytest.mark.parametrize("kind", [Trainer, Draws, Loss, Unwritten, Half, Deep])
def test_the_part_that_has_both_is_named_with_a_line_that_works(
    kind: type[nn.Module], held: bool
) -> None:
    module: nn.Module = nn.DataParallel(kind()) if held else kind()
    with pytest.raises(GenrobustError, match=r"pass encode=module\..*, which its part") as caught:
        genrobust.wrap(module, input_shape=SHAPE)
    one, two = re.findall(r"(?:encode|decode)=(module\.\S+?)(?:,| and)", str(caught.value))[-2:]
    given = {"encode": eval(one, {"module": module}), "decode": eval(two, {"module": module})}
    x, network = torch.rand(3, *SHAPE), Network()
    with warnings.catch_warnings():
        warnings.simplefilter("error", GenrobustWarning)
        model = genrobust.wrap(module, input_shape=SHAPE, **given)
    torch.testing.assert_close(model.reconstruct(x), network.decode(network.encode(x)[0]))


class Spread(Network):
    """Gives a standard deviation, which its forward alone tells."""

    def encode(self, x: Tensor) -> Any:
        mean, raw = super().encode(x)
        return mean, raw.exp()

    def forward(self, x: Tensor) -> Tensor:
        mean, std = self.encode(x)
        return self.decode(mean + std * torch.randn_like(mean))


@pytest.mark.parametrize("far", [False, True])
def test_functions_through_the_halves_of_a_part_are_told_what_its_forward_draws(far: bool) -> None:
    """Also where the part lies in a part, and the functions are the module's own methods."""

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vae = Spread()

        def encode(self, x: Tensor) -> Any:
            return self.vae.encode(x)

        def decode(self, z: Tensor) -> Tensor:
            return self.vae.decode(z)

    module = nn.ModuleDict({"holder": Holder()}) if far else Holder()
    given = {} if not far else {"encode": lambda x: module["holder"].vae.encode(x)}
    if far:
        given["decode"] = lambda z: module["holder"].vae.decode(z)
    with pytest.warns(GenrobustWarning, match=r"a standard deviation.*2 \* s\.log\(\)"):
        genrobust.wrap(module, input_shape=SHAPE, **given)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_scale_that_is_left_out_shows_beside_the_forward_of_a_part(scaled: bool) -> None:
    class Exact(nn.Module):
        """Its own inverse, as one that is well trained nearly is."""

        def __init__(self) -> None:
            super().__init__()
            turned = torch.linalg.qr(torch.randn(64, 64))[0]
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 64, bias=False))
            self.decoder = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Unflatten(1, SHAPE))
            self.encoder[1].weight.data, self.decoder[0].weight.data = turned, turned.T.clone()

        def forward(self, x: Tensor) -> Any:
            return self.decoder(self.encoder(x))

    class Latent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vae = Exact()

        def encode(self, x: Tensor) -> Any:
            return 0.18 * self.vae.encoder(x)

        def decode(self, z: Tensor) -> Any:
            return self.vae.decoder(z / 0.18 if scaled else z)

    model, x = genrobust.wrap(Latent(), input_shape=SHAPE, clamp=True), torch.rand(6, *SHAPE)
    found = fidelity(model, x)
    assert (found.status == "differs") != scaled
    assert ("forward of its part 'vae'" in str(found)) != scaled


@pytest.mark.parametrize(("off", "told"), [(0.0398, False), (0.0402, True)])
def test_pictures_with_four_times_the_error_of_a_parts_forward_are_told(
    off: float, told: bool
) -> None:
    class Lighter(nn.Module):
        """Gives images back a little lighter."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Identity(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.decoder(self.encoder(x)) + 0.02

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vae = Lighter()

        def encode(self, x: Tensor) -> Any:
            return self.vae.encoder(x)

        def decode(self, z: Tensor) -> Any:
            return self.vae.decoder(z) + off

    model = genrobust.wrap(Holder(), input_shape=SHAPE, clamp=True)
    found = fidelity(model, 0.3 + 0.3 * torch.rand(6, *SHAPE))
    assert (found.status == "differs") == told


class Tokens(Network):
    """Quantises in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(torch.randn(16, 4))

    def encode(self, x: Tensor) -> Tensor:
        mean, _ = super().encode(x)
        return mean

    def forward(self, x: Tensor) -> Tensor:
        code = self.encode(x)
        entries = self.table(torch.cdist(code, self.table.weight).argmin(1))
        return self.decode(code + (entries - code).detach())


def _holding(network: nn.Module, kind: type[Trainer]) -> Trainer:
    module = kind()
    module.vae = network
    return module


@pytest.mark.filterwarnings("ignore:.*nothing tells whether it is read right")
@pytest.mark.parametrize("kind", [Trainer, Loss])
def test_the_forward_of_a_part_whose_halves_are_given_tells_how_it_is_read(
    kind: type[Trainer],
) -> None:
    module = _holding(Spread(), kind)
    given = {"encode": module.vae.encode, "decode": module.vae.decode}
    with pytest.warns(GenrobustWarning, match="is a standard deviation") as said:
        genrobust.wrap(module, input_shape=SHAPE, **given)
    (line,) = re.findall(r"encode=(lambda x: .*)", str(said[0].message))
    assert "module.vae.encode(x)" in line
    given["encode"] = eval(line, {"module": module})
    x = torch.rand(3, *SHAPE)
    (part,) = genrobust.wrap(module, input_shape=SHAPE, **given).encode(x).parts
    torch.testing.assert_close(part.tensors()[1], 2 * module.vae.encode(x)[1].log())


@pytest.mark.parametrize("kind", [Trainer, Loss])
def test_the_quantiser_of_a_part_whose_halves_are_given_is_found(kind: type[Trainer]) -> None:
    module = _holding(Tokens(), kind)
    model = genrobust.wrap(
        module, input_shape=SHAPE, encode=module.vae.encode, decode=module.vae.decode
    )
    x = torch.rand(3, *SHAPE)
    assert "codebook" in model.encode(x).describe()
    torch.testing.assert_close(model.reconstruct(x), module.vae(x))


class Normalises(Trainer):
    def forward(self, x: Tensor) -> Tensor:
        return self.vae((x - 0.13) / 0.31)


def test_the_picture_of_what_holds_a_part_tells_before_its_own() -> None:
    module = Normalises()
    given = {"encode": module.vae.encode, "decode": module.vae.decode}
    with pytest.warns(GenrobustWarning, match=r"other pictures .*deploy=lambda x: module\(x\)"):
        genrobust.wrap(module, input_shape=SHAPE, **given)


def test_another_part_of_the_same_class_is_another_model() -> None:
    class Two(nn.Module):
        input_shape = (1, 8, 8)

        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Network(), Network()

    module = Two()
    one, other = (
        genrobust.wrap(module, encode=part.encode, decode=part.decode)
        for part in (module.one, module.other)
    )
    assert (one.part, other.part) == ("one", "other")
    assert one.fingerprint() != other.fingerprint()


def test_parts_of_torch_itself_are_no_networks_of_images() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = nn.Transformer(8, 2, 1, 1, 8, batch_first=True)

    with pytest.raises(GenrobustError, match="pass encode=, a function"):
        genrobust.wrap(Model(), input_shape=SHAPE)


class Steady(Trainer):
    """As a training module that is deployed, whose forward decodes the mean."""

    def forward(self, x: Tensor) -> Tensor:
        return self.vae.decode(self.vae.encode(x)[0])


class Averaged(Steady):
    """Beside its moving average, which is deployed."""

    def __init__(self) -> None:
        super().__init__()
        self.ema = copy.deepcopy(self.vae)
        with torch.no_grad():
            for weight in self.ema.parameters():
                weight.mul_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.ema.decode(self.ema.encode(x)[0])


@pytest.mark.parametrize(
    ("module", "part"),
    [
        (Steady(), "vae"),
        (Averaged(), "ema"),
        (nn.DataParallel(Steady()), "vae"),
        (AveragedModel(Steady().vae), "module"),
    ],
)
def test_a_forward_that_goes_through_a_part_with_both_halves_is_told_them(
    module: nn.Module, part: str
) -> None:
    if part == "module":
        module.module.forward = lambda x: module.module.decode(module.module.encode(x)[0])
    with pytest.warns(GenrobustWarning, match=f"its part '{part}' gives the same") as said:
        alone = genrobust.wrap(module, input_shape=SHAPE)
    (line,) = (str(one.message).rpartition("; pass ")[2] for one in said)
    given = eval(f"dict({line.replace(' and ', ', ')})", {"module": module})
    with warnings.catch_warnings():
        warnings.simplefilter("error", GenrobustWarning)
        model = genrobust.wrap(module, input_shape=SHAPE, **given)
    x = torch.rand(3, *SHAPE)
    assert model.encode(x).describe() == "4 Gaussian"
    torch.testing.assert_close(model.reconstruct(x), alone.reconstruct(x))


def test_a_part_that_gives_other_pictures_or_whose_halves_are_not_asked_for_raises_no_word() -> (
    None
):
    class Inverted(Trainer):
        def forward(self, x: Tensor) -> Tensor:
            return 1 - self.vae.decode(self.vae.encode(x)[0])

    with warnings.catch_warnings():
        warnings.simplefilter("error", GenrobustWarning)
        genrobust.wrap(Inverted(), input_shape=SHAPE)
        genrobust.wrap(Steady(), input_shape=SHAPE, encode=nn.Identity())

"""Modules as people write them, asked by their own forward: what it shows is said, what it cannot
take harms nobody."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from principal import principal
from told import warned as said
from torch import Tensor, nn
from torch import distributions as D

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.foreign import build
from genrobust.models.checks.fidelity import fidelity
from genrobust.models.inputs import probe_images
from genrobust.models.wrapping import adapt

pytestmark = pytest.mark.usefixtures("brief")

SHAPE = (1, 8, 8)


class Toy(nn.Module):
    """8x8 images, four latents, log-variances from -4 to -1, so that no form is like another."""

    input_shape: tuple[int, int, int] = SHAPE

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.to_code, self.from_code = nn.Linear(64, 4), nn.Linear(4, 64)
            self.places = nn.Embedding(10, 4)
        self.register_buffer("spread", torch.linspace(-4, -1, 4))

    def mean(self, x: Tensor) -> Tensor:
        return 3 * self.to_code(x.flatten(1))

    def logvar(self, x: Tensor) -> Tensor:
        return self.spread + 0.1 * self.mean(x)

    def encode(self, x: Tensor, *labels: Tensor) -> Any:
        return self.mean(x), self.logvar(x)

    def decode(self, z: Tensor, *labels: Tensor) -> Any:
        return self.from_code(z).sigmoid().view(-1, *SHAPE)

    def draw(self, mean: Tensor, logvar: Tensor) -> Tensor:
        return mean + (0.5 * logvar).exp() * torch.randn_like(mean)

    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        return self.decode(self.draw(*self.encode(x)))


# Works in place on what it is given


class Normalising(Toy):
    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        x = x.sub_(0.13).div_(0.31) if self.inplace else (x - 0.13) / 0.31
        return super().forward(x)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_forward_that_works_in_place_is_compared_too(inplace: bool) -> None:
    (words,) = said(Normalising(inplace))
    assert "gives other pictures than decode(encode(x))" in words


# Conditional models


class Conditional(Toy):
    """Its encoder gives ``form`` of what it holds; its forward draws as that should be read."""

    def __init__(self, form: str, shifted: bool = False) -> None:
        super().__init__()
        self.form, self.shifted = form, shifted

    def encode(self, x: Tensor, *labels: Tensor) -> Any:
        mean = self.mean(x) + self.places(labels[0])
        logvar = self.logvar(x)
        second = {"std": (0.5 * logvar).exp(), "log std": 0.5 * logvar}.get(self.form, logvar)
        return (second, mean) if self.form == "swapped" else (mean, second)

    def decode(self, z: Tensor, *labels: Tensor) -> Any:
        return super().decode(z - self.places((labels[0] + 1) % 10))

    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        x = (x - 0.13) / 0.31 if self.shifted else x
        mean, second = self.encode(x, *labels)[:: -1 if self.form == "swapped" else 1]
        logvar = {"std": 2 * second.log(), "log std": 2 * second}.get(self.form, second)
        return self.decode(self.draw(mean, logvar), *labels)


def threes(x: Tensor) -> Tensor:
    return torch.full((len(x),), 3, device=x.device)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Conditional("std"), "is a standard deviation"),
        (Conditional("log std"), "is the logarithm of a standard deviation"),
        (Conditional("swapped"), "forward decodes what is read as the log-variance"),
        (Conditional("mean", shifted=True), "gives other pictures"),
    ],
)
def test_a_conditional_model_is_compared_with_its_forward_by_its_labels(
    module: nn.Module, words: str
) -> None:
    (told,) = said(module, labels=threes)
    assert words in told
    if "pass encode=" in told:
        typed = told.split("; pass ")[-1].split(" if they are")[0]
        given = eval(f"dict({typed})", {"module": module, "torch": torch})
        assert said(module, labels=threes, **given) == []


def test_an_honest_conditional_model_is_wrapped_without_a_word() -> None:
    module = Conditional("mean")
    assert said(module, labels=threes) == []
    model = genrobust.wrap(module, labels=threes)
    assert fidelity(model, probe_images(SHAPE, 6)).status == "equal"


# Draws in training alone


class Training(Toy):
    """Most people's reparameterize: in eval mode it is the mean."""

    def __init__(self, form: str = "log-variance", layers: bool = False) -> None:
        super().__init__()
        self.form = form
        self.between = nn.Sequential(*((nn.BatchNorm1d(4), nn.Dropout(0.5)) if layers else ()))

    def encode(self, x: Tensor, *labels: Tensor) -> Any:
        sign = {"log-variance": 1.0, "log std": 0.5, "log-precision": -1.0}[self.form]
        return self.between(self.mean(x)), sign * self.logvar(x)

    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        mean, second = self.encode(x)
        logvar = {"log std": 2 * second, "log-precision": -second}.get(self.form, second)
        return self.decode(self.draw(mean, logvar) if self.training else mean)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("log std", "is the logarithm of a standard deviation"),
        ("log-precision", "is the logarithm of a precision"),
    ],
)
@pytest.mark.parametrize("layers", [False, True])
def test_a_spread_that_is_drawn_in_training_alone_is_told(
    form: str, words: str, layers: bool
) -> None:
    module = Training(form, layers)
    module.train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    (told,) = said(module)
    assert words in told
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("layers", [False, True])
def test_an_honest_spread_that_is_drawn_in_training_alone_raises_no_word(layers: bool) -> None:
    assert said(Training(layers=layers)) == []


# Draws other numbers too, or cannot be copied


class Drawing(Toy):
    """What its encoder gives beside the mean, and what its forward draws besides."""

    def __init__(self, form: str, how: str, in_training: bool = False) -> None:
        super().__init__()
        self.form, self.how, self.in_training = form, how, in_training
        self.lock = threading.Lock() if how == "locked" else None  # which cannot be copied
        self.calls = 0

    def encode(self, x: Tensor, *labels: Tensor) -> Any:
        logvar = self.logvar(x)
        return self.mean(x), (0.5 * logvar).exp() if self.form == "std" else logvar

    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        self.calls += self.training
        if self.how == "mask":
            x = x * torch.bernoulli(torch.full_like(x, 0.9))
        if self.how == "noisy":
            x = x + 0.1 * torch.randn_like(x)
        mean, std = self.mean(x), (0.5 * self.logvar(x)).exp()
        if self.how == "one more":
            mean = mean + 0 * torch.rand(1)
        normal = torch.randn_like(mean)
        if self.how == "numpy":
            normal = torch.from_numpy(np.random.standard_normal(mean.shape)).to(mean)
        if self.how == "Laplace":
            normal = D.Laplace(0.0, 0.5**0.5).sample(mean.shape)
        if self.how == "momentum":
            mean = mean + 3 * torch.randn_like(mean)
        return self.decode(mean + std * normal if self.training or not self.in_training else mean)


DRAWING = [
    ("mask", False),
    ("noisy", False),
    ("noisy", True),
    ("one more", False),
    ("one more", True),
    ("locked", True),
]


@pytest.mark.parametrize(("how", "in_training"), DRAWING)
def test_a_spread_is_told_whatever_else_is_drawn(how: str, in_training: bool) -> None:
    module = Drawing("std", how, in_training)
    (told,) = said(module)
    assert "is a standard deviation" in told
    assert module.calls == 0


@pytest.mark.parametrize("how", ["numpy", "Laplace"])
def test_a_spread_that_no_held_noise_shows_is_said_not_to_be_confirmed(how: str) -> None:
    (told,) = said(Drawing("std", how))
    assert "nothing confirms what is read as the log-variance" in told
    assert "may be misread" not in told


@pytest.mark.parametrize(("form", "words"), [("std", 1), ("logvar", 0)])
def test_a_spread_is_told_where_the_pictures_are_nearly_black_and_white(
    form: str, words: int
) -> None:
    class Saturating(Drawing):
        def decode(self, z: Tensor, *labels: Tensor) -> Tensor:
            return super().decode(10 * z, *labels)

        def logvar(self, x: Tensor) -> Tensor:
            return super().logvar(x) + 1.5

    assert len(said(Saturating(form, "numpy"))) == words


@pytest.mark.parametrize(
    ("how", "in_training"),
    [*DRAWING, *((how, False) for how in ("numpy", "Laplace", "locked", "momentum"))],
)
def test_an_honest_spread_raises_no_word_whatever_else_is_drawn(
    how: str, in_training: bool
) -> None:
    assert said(Drawing("logvar", how, in_training)) == []


# Writes to what it holds


class Writing(Toy):
    """Its forward moves a buffer, a weight or both in eval mode, as a moving codebook may."""

    def __init__(self, write: Callable[[Any], None], only: str = "") -> None:
        super().__init__()
        self.write, self.only = write, only
        self.register_buffer("moving", torch.zeros(4))

    def mean(self, x: Tensor) -> Tensor:
        return super().mean(x) + self.moving

    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        if self.only == "fails":
            self.write(self)
            raise RuntimeError
        image = self.decode(self.mean(x))
        self.write(self)
        return image


def in_place(module: Any) -> None:
    module.moving += 1


def anew(module: Any) -> None:
    module.moving = module.moving + 1


def past_autograd(module: Any) -> None:
    module.places.weight.data.add_(1)
    module.moving.data = module.moving.data + 1


WRITES = {in_place: "'moving'", anew: "'moving'", past_autograd: "'moving', 'places.weight'"}


@pytest.mark.parametrize("write", WRITES)
def test_what_forward_writes_to_is_put_back_and_told(write: Callable[[Any], None]) -> None:
    module, x = Writing(write), probe_images(SHAPE, 6)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    held = dict(module.named_buffers())
    (told,) = said(module)
    assert f"its forward writes to {WRITES[write]} in eval mode" in told
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(buffer is held[name] for name, buffer in module.named_buffers())
    assert fidelity(adapt(module), x).status == "equal"
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_a_refused_module_and_one_whose_forward_fails_are_left_as_they_were() -> None:
    class Refused(Writing):
        def encode(self, x: Tensor, *labels: Tensor) -> Any:
            self.write(self)  # another code each time
            return super().encode(x)

    for module in (Refused(in_place), Writing(in_place, "fails")):
        with suppress(GenrobustError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            genrobust.wrap(module)
        assert float(module.moving.abs().max()) == 0


def test_a_forward_that_fails_is_said_and_one_for_something_else_is_not() -> None:
    class Decoding(Toy):
        def forward(self, x: Tensor, *labels: Tensor, **more: Tensor) -> Any:
            raise NotImplementedError

    two = Toy()
    vars(two).update(forward=lambda x, other: x)
    failing = Writing(in_place, "fails")
    (told,) = said(failing)
    assert "its forward fails on the images alone" in told
    assert said(Decoding()) == said(two) == []
    # Led to by a function of one's own, it may be for other images than those that are scored.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        genrobust.wrap(failing, encode=lambda x: failing.encode(x))
        genrobust.wrap(failing, deploy=lambda x: failing.decode(failing.encode(x)[0]))


# Takes so many images at once


class Few(Toy):
    """It takes no more images than that, and its forward does something else."""

    def __init__(self, most: int, triple: bool = False, scale: float = 0.31) -> None:
        super().__init__()
        self.most, self.triple, self.scale = most, triple, scale

    def mean(self, x: Tensor) -> Tensor:
        assert len(x) <= self.most
        return super().mean(x)

    def encode(self, x: Tensor, *labels: Tensor) -> Any:
        mean, logvar = super().encode(x)
        return (mean, mean, logvar) if self.triple else (mean, logvar)

    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        mean, logvar = super().encode(x / self.scale)
        return self.decode(mean + (0.5 * logvar).exp() * torch.randn_like(mean)), mean, logvar


@pytest.mark.parametrize("most", [1, 3])
def test_a_module_that_takes_few_images_at_once_is_compared_in_pieces(most: int) -> None:
    (told,) = said(Few(most), max_batch=most)
    assert "gives other pictures than decode(encode(x))" in told
    assert "o[1], o[2]" in told
    assert said(Few(most, scale=1.0), max_batch=most) == []


def test_an_encoder_that_takes_one_image_is_tried_with_one() -> None:
    (told,) = said(Few(1, triple=True, scale=1.0), max_batch=1)
    assert "number 1 is read as the mean and number 3 as the log-variance" in told


# What a module may refuse


class Choosy(Toy):
    """Asserts the range of its pixels, and its codes."""

    def encode(self, x: Tensor, *labels: Tensor) -> Any:
        assert x.min() >= 0
        assert x.max() <= 1
        return super().encode(x)

    def decode(self, z: Tensor, *labels: Tensor) -> Any:
        assert z.abs().max() < 8
        return super().decode(z)

    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        return self.decode(self.mean((x - 0.13).clamp(0, 1)))  # other pictures: all is tried


def test_a_module_that_asserts_what_it_takes_is_read_all_the_same() -> None:
    model = genrobust.wrap(Toy())
    choosy = Choosy()
    with pytest.warns(GenrobustWarning, match="gives other pictures"):
        wrapped = genrobust.wrap(choosy)
    x = probe_images(SHAPE, 6)
    assert torch.equal(wrapped.reconstruct(x), model.reconstruct(x))
    assert fidelity(wrapped, x).status == "differs"


class Flow(Toy):
    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        base = D.Normal(self.mean(x), 1.0)
        flow = D.TransformedDistribution(base, [D.TanhTransform()])
        return self.decode(base.mean), flow


class Relaxed(Toy):
    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        return D.RelaxedBernoulli(torch.tensor(0.5), probs=self.decode(self.mean(x)))


@pytest.mark.parametrize(
    ("module", "status", "words"),
    [(Flow(), "equal", []), (Relaxed(), "not compared", ["gives a RelaxedBernoulli and no pict"])],
)
def test_a_distribution_without_a_mean_is_no_picture(
    module: nn.Module, status: str, words: list[str]
) -> None:
    told = said(module)
    assert all(part in whole for part, whole in zip(words, told, strict=True))
    assert fidelity(adapt(module), probe_images(SHAPE, 6)).status == status


# Several pictures


class Drafted(nn.Module):
    """The zoo's model, whose forward brings its picture ``part`` of the way to the image."""

    input_shape = (1, 32, 32)

    def __init__(self, part: float, noisy: bool = False) -> None:
        super().__init__()
        self.inner = genrobust.load_model("vae").module
        self.part, self.noisy = part, noisy

    def encode(self, x: Tensor) -> Any:
        return self.inner.encode(x)

    def decode(self, z: Tensor) -> Any:
        return self.inner.decode(z)

    def forward(self, x: Tensor) -> Any:
        draft = self.decode(self.encode(x).mode())
        refined = draft + self.part * (x - draft)
        return (x + 0.1 * torch.randn_like(x) if self.noisy else refined), draft


def test_a_draft_that_is_scored_is_told_where_forward_gives_better() -> None:
    x = genrobust.load_images("digits").take(range(8))
    found = fidelity(genrobust.wrap(Drafted(0.3)), x)  # 0.49 of the squared error
    assert found.status == "differs"
    assert found.mend == "pass deploy=lambda x: module(x)[0] if that is what people get"
    deployed = Drafted(0.3)
    given = genrobust.wrap(deployed, deploy=lambda x: deployed(x)[0])
    assert fidelity(given, x).status in ("equal", "declared")


@pytest.mark.parametrize("module", [Drafted(0.29), Drafted(-0.5), Drafted(0.0, noisy=True)])
def test_other_pictures_are_no_alarm(module: nn.Module) -> None:
    """Hardly better, worse, or the input with noise."""
    x = genrobust.load_images("digits").take(range(8))
    assert fidelity(genrobust.wrap(module), x).status == "equal"


# What pictures are put together from


@pytest.mark.parametrize(
    "lay",
    [
        lambda image: image.flatten(1),
        lambda image: image.flatten(1)[:, None],
        lambda image: image.flatten(2),
        lambda image: image,
    ],
)
def test_pixels_in_the_images_own_order_are_read(lay: Callable[[Tensor], Tensor]) -> None:
    shape = (3, 4, 4)
    picture = torch.rand(2, *shape)
    model = genrobust.wrap(
        nn.Linear(2, 2),
        encode=lambda x: x.flatten(1),
        decode=lambda z: lay(z.view(-1, *shape)),
        input_shape=shape,
    )
    assert torch.equal(model.decode(picture.flatten(1)), picture)


@pytest.mark.parametrize(
    ("shape", "lay"),
    [
        ((3, 4, 4), lambda image: image.flatten(2).movedim(1, 2)),  # (B, H * W, C)
        ((1, 8, 8), lambda image: image.view(-1, 16, 4)),  # patches of 2 x 2
        ((3, 4, 4), lambda image: image.flatten(1, 2)),  # (B, C * H, W), or patches
    ],
)
def test_pixels_in_another_order_are_refused(
    shape: tuple[int, int, int], lay: Callable[[Tensor], Tensor]
) -> None:
    with pytest.raises(GenrobustError, match="decode=, a function that gives images of that shape"):
        genrobust.wrap(
            nn.Linear(2, 2),
            encode=lambda x: x.flatten(1),
            decode=lambda z: lay(z.view(-1, *shape)),
            input_shape=shape,
        )


# What is said to be probabilities


def joint(disc: Callable[[Tensor], Tensor]) -> genrobust.GenerativeModel:
    toy = Toy()
    return genrobust.wrap(
        nn.ModuleList([toy]),
        input_shape=SHAPE,
        encode=lambda x: {"disc": [disc(toy.mean(x))]},
        decode=toy.decode,
    )


@pytest.mark.parametrize(
    "disc",
    [
        lambda logits: logits.softmax(1),
        lambda logits: logits.softmax(1).half().float(),
        lambda logits: 1.019 * logits.softmax(1),
    ],
)
def test_probabilities_are_taken(disc: Callable[[Tensor], Tensor]) -> None:
    assert joint(disc).encode(probe_images(SHAPE, 2)).parts[0].mode().shape == (2, 4)


@pytest.mark.parametrize(
    "disc",
    [
        lambda logits: logits,
        lambda logits: logits.log_softmax(1),
        lambda logits: logits.sigmoid(),
        lambda logits: 1.021 * logits.softmax(1),
        lambda logits: 0.979 * logits.softmax(1),
    ],
)
def test_what_is_no_probability_is_not_taken_for_one(disc: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(GenrobustError, match=r"no probabilities; pass encode=.*softmax\(1\)"):
        joint(disc)


def test_whole_numbers_beside_a_code_are_no_log_variance() -> None:
    toy = Toy()
    with pytest.raises(GenrobustError, match=r"pass encode=lambda x: your_encode\(x\)\[0\]"):
        genrobust.wrap(toy, encode=lambda x: (toy.mean(x), (toy.mean(x) > 0).long()))


def test_a_module_in_place_of_a_function_is_one_sentence(tmp_path: Any) -> None:
    (tmp_path / "own.py").write_text("from torch import nn\nmodel = nn.Linear(2, 2)\n")
    with pytest.raises(GenrobustError, match=r"is a Linear, not a function; .* return model"):
        build(f"{tmp_path / 'own.py'}:model")


# Trained on, once it is wrapped


class Normed(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def mean(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(super().mean(x))
        return found


class Always(Toy):
    """It has no other mode."""

    def train(self, mode: bool = True) -> Any:
        return super().train(True)


def test_an_attack_on_a_module_in_train_mode_is_that_on_the_model() -> None:
    module, x = Normed(), torch.rand(3, *SHAPE)
    model = genrobust.wrap(module)
    settings: dict[str, Any] = {"target": x.flip(0), "eps": 0.1, "steps": 5}
    wanted = genrobust.attack("latent", model, x, **settings)
    module.train()
    for weight in module.parameters():
        weight.requires_grad_()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = genrobust.attack("latent", model, x, **settings)
    assert torch.equal(found.x_adv, wanted.x_adv)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.norm.training
    assert all(weight.requires_grad for weight in module.parameters())


def test_a_run_on_a_module_in_train_mode_is_that_on_the_model() -> None:
    network = copy.deepcopy(principal().module)  # others have it too
    with_norm = nn.Sequential(nn.BatchNorm2d(1))
    model = genrobust.wrap(
        nn.ModuleList([network, with_norm]),
        encode=lambda x: network.encode(with_norm(x)),
        decode=network.decode,
        input_shape=(1, 32, 32),
        clamp=True,
    )
    settings: dict[str, Any] = {"attacks": ["noise"], "eps": [0.05], "limit": 3}
    wanted = genrobust.bench(model, **settings)
    model.module.train()
    found = genrobust.bench(model, **settings)
    assert found.model.fingerprint == wanted.model.fingerprint
    assert found.scores == wanted.scores
    assert model.module.training
    assert float(with_norm[0].running_mean.abs().max()) == 0


def test_calls_of_ones_own_in_train_mode_are_one_sentence() -> None:
    module, x = Normed(), torch.rand(3, *SHAPE)
    model = genrobust.wrap(module)
    module.train()
    for call in (model.encode, model.reconstruct, lambda x: model.decode(torch.zeros(len(x), 4))):
        with pytest.raises(GenrobustError, match=r"train mode again.*eval\(\)"):
            call(x)
    module.eval()
    assert model.reconstruct(x).shape == x.shape


def test_a_part_in_train_mode_is_one_sentence_too() -> None:
    module, x = Normed(), torch.rand(3, *SHAPE)
    model = genrobust.wrap(module)
    module.norm.train()
    with pytest.raises(GenrobustError, match=r"a part of the module .*train mode again.*eval\(\)"):
        model.reconstruct(x)
    module.eval()
    assert model.reconstruct(x).shape == x.shape


def test_a_half_that_was_replaced_is_not_scored_as_it_was() -> None:
    first, other, decoder = (nn.Linear(*sizes) for sizes in ((64, 4), (64, 4), (4, 64)))
    module = nn.ModuleDict({"encoder": first, "decoder": nn.Sequential(decoder, nn.Sigmoid())})
    model, x = genrobust.wrap(module, input_shape=SHAPE), torch.rand(3, *SHAPE)
    wanted = model.reconstruct(x)
    module["encoder"] = other
    with pytest.raises(GenrobustError, match=r"the encoder of .* another than .*wrap the module"):
        model.reconstruct(x)
    module["encoder"] = first
    assert torch.equal(model.reconstruct(x), wanted)


def test_halves_that_a_property_makes_each_time_are_no_others() -> None:
    class Made(Toy):
        @property
        def encoder(self) -> nn.Module:
            return nn.Sequential(nn.Flatten(), self.to_code)

    Made.encode = None
    x = torch.rand(3, *SHAPE)
    assert genrobust.wrap(Made()).reconstruct(x).shape == x.shape


def test_a_covariance_is_told_as_such_and_is_no_misread_spread() -> None:
    class Full(Toy):
        def encode(self, x: Tensor, *labels: Tensor) -> Any:
            lower = torch.ones(4, 4).tril() * (0.5 * self.logvar(x)).exp()[..., None]
            return D.MultivariateNormal(self.mean(x), scale_tril=lower)

        def forward(self, x: Tensor, *labels: Tensor) -> Any:
            return self.decode(self.encode(x).rsample())

    (words,) = said(Full())
    assert "the Gaussian of its mean and its variances" in words


class Flow(nn.Module):
    """Rows of pixels to codes of their size by one of its ways, and back by the other."""

    input_shape = SHAPE

    def __init__(self, forward_encodes: bool) -> None:
        super().__init__()
        self.shift, self.forward_encodes = nn.Linear(32, 32), forward_encodes

    def moved(self, x: Tensor, sign: int) -> Tensor:
        a, b = x.flatten(1).chunk(2, 1)
        return torch.cat([a, b + sign * self.shift(a)], 1)

    def encode(self, x: Tensor) -> Tensor:
        return self.moved(x, 1)

    def decode(self, z: Tensor) -> Tensor:
        return self.moved(z, -1).view(-1, *SHAPE)

    def forward(self, x: Tensor) -> Any:
        code = self.moved(x, 1 if self.forward_encodes else -1)
        return code, code.sum(1)


@pytest.mark.parametrize("encodes", [True, False])
def test_what_a_flow_makes_of_images_is_not_taken_for_pictures(encodes: bool) -> None:
    module = Flow(encodes)
    assert said(module, clamp=True) == []
    found = fidelity(genrobust.wrap(module, clamp=True), probe_images(SHAPE, 4))
    assert (found.status, found.what) == (
        "not compared",
        "its forward leads from images to codes or back",
    )


def test_a_code_of_the_images_size_hides_no_other_picture_beside_it() -> None:
    class Beside(Flow):
        def forward(self, x: Tensor) -> Any:
            code = self.encode(x)
            return self.decode(0.5 * code), code

    assert "gives other pictures" in "; ".join(said(Beside(True), clamp=True))


def test_a_module_without_an_eval_mode_is_taken_as_it_is() -> None:
    assert genrobust.wrap(Always()).reconstruct(torch.rand(2, *SHAPE)).shape == (2, *SHAPE)

"""Models that clip their images: black and white pixels have no gradient, and attacks need one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from principal import bright
from torch import Tensor, nn
from torch.nn import functional as F

import genrobust
from genrobust.errors import GenrobustError
from genrobust.models import GenerativeModel
from genrobust.models.checks.edges import MARGINS, STUCK
from genrobust.models.portable import export_model, load_portable
from genrobust.posterior import Gaussian, Posterior
from genrobust.runner.options import Options
from genrobust.runner.prepare import prepare
from genrobust.seeding import generator
from genrobust.suites import load_suite

Front = Callable[[Tensor], Tensor]


def _from_lowest(x: Tensor, lowest: Tensor) -> Tensor:
    return F.relu(x - lowest) + lowest


#: Which change no picture, or none that can be seen.
FRONTS: dict[str, Front] = {
    "clamp": lambda x: x.clamp(1e-6, 1 - 1e-6),
    "logit": lambda x: torch.logit(x, eps=1e-4).sigmoid(),
    "hardtanh": lambda x: F.hardtanh(x, 0, 1),
    "relu6": F.relu6,
    "in place": lambda x: x.clone().clamp_(1e-3, 0.999),
    "log": lambda x: x.clamp_min(1e-5).log().exp(),
    "gamma": lambda x: (x ** (1 / 2.2)) ** 2.2,
    "root": lambda x: x.sqrt().square(),
    "logarithm": lambda x: x.log().exp(),
    "inverse of tanh": lambda x: ((2 * x - 1).atanh().tanh() + 1) / 2,
    "whites alone": lambda x: x.minimum(torch.tensor(1 - 1e-6)),
    "of half of the columns": lambda x: torch.cat([F.relu6(x[..., :16]), x[..., 16:]], 3),
    "from the lowest pixel": lambda x: _from_lowest(x, x.amin((1, 2, 3), keepdim=True).detach()),
    "from one of the lowest": lambda x: _from_lowest(
        x, x.flatten(1).min(1)[0][:, None, None, None]
    ),
    "two depths": lambda x: x.clamp(2e-3, 1 - 1e-6),
    "two depths in columns": lambda x: torch.cat(
        [x[..., :16].clamp_min(2e-3), x[..., 16:].clamp(1e-6, 1 - 1e-5)], 3
    ),
}


class Fronted(nn.Module):
    """Something smooth and small of digits, or another module, behind something."""

    input_shape = (1, 32, 32)

    def __init__(self, front: Front, net: Any = None) -> None:
        super().__init__()
        self.front, self.net = front, net or Smooth()

    def encode(self, x: Tensor) -> Posterior:
        posterior: Posterior = self.net.encode(self.front(x))
        return posterior

    def decode(self, z: Tensor) -> Tensor:
        shown: Tensor = self.net.decode(z)
        return shown


class Smooth(nn.Module):
    """Every pixel has a gradient in it, much like that of those around: it clips nothing itself."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        draws = generator("smooth")
        self.one, self.two = nn.Linear(1024, 20), nn.Linear(10, 1024)
        for weight in self.parameters():
            weight.data.normal_(std=0.1, generator=draws)
        fields = self.one.weight.data.view(-1, *self.input_shape)
        fields.copy_(F.avg_pool2d(fields, 5, 1, 2))

    def encode(self, x: Tensor) -> Posterior:
        mean, logvar = self.one(x.flatten(1)).tanh().chunk(2, 1)
        return Posterior((Gaussian(mean, logvar),))

    def decode(self, z: Tensor) -> Tensor:
        return self.two(z).sigmoid().view(-1, *self.input_shape)


def trained() -> nn.Module:
    return genrobust.load_model("vae").module


def trained_and_cheap() -> nn.Module:
    """Good on digits, too."""
    return copy.deepcopy(bright().module)


def gradient(model: GenerativeModel, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model.surrogate(x, "deployed").square().sum(), x)[0]


def black_and_white() -> Tensor:
    return genrobust.load_images("digits").take(range(8)).round()


@pytest.mark.parametrize("name", FRONTS)
def test_a_model_that_clips_has_the_gradients_of_one_that_does_not(name: str) -> None:
    plain, clipped = genrobust.wrap(Smooth()), genrobust.wrap(Fronted(FRONTS[name]))
    x = black_and_white()
    assert clipped.edge
    same = F.cosine_similarity(gradient(plain, x).flatten(1), gradient(clipped, x).flatten(1))
    assert same.min() > 0.98
    with torch.no_grad():  # what is scored is the model's own
        assert torch.equal(clipped.reconstruct(x), plain.decode(clipped.module.encode(x).mode()))


def _soft(depth: float, beta: float) -> Front:
    return lambda x: F.softplus(x - depth, beta=beta) + depth


def _of_whites(front: Front) -> Front:
    return lambda x: 1 - front(1 - x)


@pytest.mark.parametrize(
    ("front", "depth", "end"),
    [
        (_soft(0.03, 200), 0.03, 0),
        (_soft(0.03, 5000), 0.03, 0),
        (_soft(0.01, 1000), 0.01, 0),
        (_of_whites(_soft(0.03, 200)), 0.03, 1),
        (lambda x: F.silu((x - 0.04) * 300) / 300 + 0.04, 0.04, 0),
        (lambda x: F.leaky_relu(x - 0.03, 3e-3) + 0.03, 0.03, 0),
        (lambda x: x.clamp_min(0.04), 0.04, 0),
    ],
    ids=["soft", "underflows", "shallow", "white", "silu", "leaky", "hard and deep"],
)  # fmt: skip
def test_a_soft_clip_is_one(front: Front, depth: float, end: int) -> None:
    """It leaves black or white pixels a gradient, and one that is too small to move them."""
    require_soft(genrobust.wrap(Fronted(front)), depth, end)


def test_a_soft_clip_of_what_is_blurred_is_one() -> None:
    blurred = Fronted(lambda x: _soft(0.03, 200)(F.avg_pool2d(x, 3, 1, 1)), trained())
    require_soft(genrobust.wrap(blurred), 0.03, 0)


def require_soft(model: GenerativeModel, depth: float, end: int) -> None:
    margins = model.edge[0]
    assert 0.8 * depth < margins[end] < 1.5 * depth
    assert margins[1 - end] == 0
    x = black_and_white()
    size, bare = (gradient(m, x)[x == end].abs().median() for m in (model, replace(model, edge=())))
    assert size > 10 * bare


@pytest.mark.parametrize(
    "front",
    [
        lambda x: torch.log1p(10 * x) / 2.4,
        lambda x: torch.logit(0.98 * x + 0.01) / 9 + 0.5,
        lambda x: torch.atanh(0.99 * (2 * x - 1)) / 5 + 0.5,
        lambda x: torch.tanh(2 * x),
        lambda x: torch.sigmoid(20 * (x - 0.5)),
        lambda x: (x - 0.13) / 0.31,
        lambda x: F.group_norm(x, 1) / 3 + 0.13,
        lambda x: torch.where(x < 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4),
        F.gelu,
    ],
    ids=["log1p", "logit", "atanh", "tanh", "stretched", "scaled", "standardised", "srgb", "gelu"],
)  # fmt: skip
def test_a_curve_is_no_clip(front: Front) -> None:
    assert genrobust.wrap(Fronted(front)).edge == ()


@pytest.mark.parametrize(("slope", "is_faint"), [(0.09, True), (0.175, False)])
def test_a_gradient_counts_as_none_where_it_is_small_beside_that_inside(
    slope: float, is_faint: bool
) -> None:
    """Below a tenth; of pixels at the limit some are below it and some above."""
    leaky = genrobust.wrap(Fronted(lambda x: F.leaky_relu(x - 0.03, slope) + 0.03))
    assert bool(leaky.edge) is is_faint


@pytest.mark.parametrize(
    "how", ["live", "wrapped", pytest.param("as data", marks=pytest.mark.slow)]
)
def test_a_bench_attacks_from_inside_however_it_is_given(how: str) -> None:
    model: nn.Module | GenerativeModel = Fronted(F.relu6)
    if how == "wrapped":
        model = genrobust.wrap(Fronted(F.relu6))
    prepared = prepare(model, load_suite("digits").limited(4), Options(evidence=how == "as data"))
    assert prepared.loaded.scorer.model.edge


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_as_robust_as_one_that_does_not(norm: str) -> None:
    images, judge = genrobust.load_images("digits"), genrobust.load_judge("digits", "lenet")
    vae = genrobust.load_model("vae")
    ids = load_suite("digits").sample_ids[:12]
    fell = [
        genrobust.attack(
            "classifier", model, images.take(ids), labels=images.labels_of(ids), judge=judge,
            norm=norm, eps={"linf": 0.06, "l2": 1.0}[norm], steps=15,
        ).success.sum()
        for model in (vae, genrobust.wrap(Fronted(F.relu6, vae.module)))
    ]  # fmt: skip
    assert fell[0] >= 6
    assert fell[1] >= fell[0] - 1


def test_a_clip_of_few_pixels_is_let_be() -> None:
    """What it hides is a part of the image, as the limit says."""

    def clips(columns: int) -> GenerativeModel:
        def front(x: Tensor) -> Tensor:
            return torch.cat([F.relu6(x[..., :columns]), x[..., columns:]], 3)

        return genrobust.wrap(Fronted(front))

    assert clips(int(32 * STUCK) + 1).edge
    assert clips(int(32 * STUCK) - 2).edge == ()


@pytest.mark.parametrize(("slope", "is_steep"), [(7, False), (14, True)])
def test_a_slope_that_no_change_follows_is_not_the_gradient(slope: float, is_steep: bool) -> None:
    """Above ten times that inside, as of ``sqrt(x + 1e-8)``: attacks would change black alone."""

    def front(x: Tensor) -> Tensor:
        return torch.where(x < 1e-3, slope * x, x + 1e-3 * (slope - 1))

    assert bool(genrobust.wrap(Fronted(front)).edge) == is_steep


def test_binary_images_are_no_reason_to_refuse_a_model_that_clips() -> None:
    vae = genrobust.models.check_model(genrobust.wrap(Fronted(F.relu6)), black_and_white())
    assert vae.gradient > 0
    bare = replace(vae.model, edge=())
    assert genrobust.models.check_model(bare, black_and_white()).model.edge == vae.model.edge


def test_what_is_infinite_at_other_pixels_too_is_refused() -> None:
    def front(x: Tensor) -> Tensor:
        return x + (x - x.detach()).square().sum((2, 3), keepdim=True).sqrt()

    with pytest.raises(GenrobustError, match="NaN or infinite"):
        genrobust.wrap(Fronted(front))


class Small(nn.Module):
    """A small network of colours, behind something."""

    input_shape = (3, 8, 8)

    def __init__(self, front: Front, bias: float = 0.0) -> None:
        super().__init__()
        self.front, self.bias = front, bias
        self.one, self.two = nn.Linear(192, 16), nn.Linear(16, 192)

    def encode(self, x: Tensor) -> Tensor:
        return (self.one(self.front(x).flatten(1)) + self.bias).relu()

    def decode(self, z: Tensor) -> Tensor:
        return self.two(z).sigmoid().view(-1, 3, 8, 8)


def test_a_clip_of_one_colour_is_seen_and_one_in_a_range_of_the_models_own() -> None:
    def red(x: Tensor) -> Tensor:
        return torch.cat([F.relu6(x[:, :1]), x[:, 1:]], 1)

    assert genrobust.wrap(Small(red)).edge
    assert genrobust.wrap(Small(F.hardtanh), value_range=(-1, 1)).edge
    assert genrobust.wrap(nn.Sequential(nn.ReLU6(), nn.Conv2d(3, 3, 3, padding=1), nn.Sigmoid()),
                          input_shape=(3, 8, 8)).edge  # fmt: skip


def test_each_end_of_each_colour_has_a_margin_of_its_own() -> None:
    """Of pictures as ImageNet's networks see them, clipped; in [0, 1] the depths are as below."""
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    spread = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    model = genrobust.wrap(Small(lambda x: ((x - mean) / spread).clamp(-2, 2)))
    depths = torch.cat([mean - 2 * spread, 1 - mean - 2 * spread], 2).squeeze(1).clamp_min(0)
    margins = torch.tensor(model.edge)
    assert torch.equal(margins > 0, depths > 0)
    assert ((margins >= depths) & (margins <= 1.7 * depths)).all()
    x = torch.rand(2, 3, 8, 8).round()
    assert (gradient(model, x) != 0).float().mean() > 0.9


@pytest.mark.parametrize(
    "front",
    [
        lambda x: x,
        lambda x: x * (x.detach() > 0.5),
        lambda x: F.threshold(x, 0.1, 0),
        lambda x: F.pad(x[..., 2:6], (2, 2)),
    ],
    ids=["nothing", "a threshold within", "a low threshold", "a border that is cut off"],
)  # fmt: skip
def test_no_other_model_is_changed(front: Front) -> None:
    assert genrobust.wrap(Small(front)).edge == ()


def test_units_that_are_dead_are_no_clip() -> None:
    """Few of such a network's units give any gradient, in grey pixels as in black ones."""
    for bias in (-0.3, -0.2, -0.1, 0.0):
        for seed in range(5):
            torch.manual_seed(seed)
            model = Small(lambda x: x, bias)
            try:
                wrapped = genrobust.wrap(model)
            except genrobust.GenrobustError:  # of which none gives any
                continue
            assert wrapped.edge == ()


@pytest.mark.parametrize("name", ["vae", "vae-wd", "betavae", "jointvae", "betavae-capacity"])
def test_the_zoo_is_as_it_was(name: str) -> None:
    assert genrobust.load_model(name).edge == ()


def test_what_is_handed_on_clips_as_well() -> None:
    model = genrobust.wrap(Fronted(F.relu6))
    read = load_portable(*export_model(model))
    assert read.edge == model.edge
    x = black_and_white()
    torch.testing.assert_close(gradient(read, x), gradient(model, x), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "seen"),
    [
        (Fronted, lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)),
        (Fronted, lambda x: F.avg_pool2d(x, 3, 1, 1)),
        (Fronted, lambda x: F.interpolate(F.interpolate(x, (7, 7)), (32, 32))),
        (Small, lambda x: x.mean(1, keepdim=True).expand_as(x)),
    ],
    ids=["smaller", "blurred", "one pixel of twenty", "without colour"],
)
def test_a_clip_of_what_is_no_single_pixel(net: Callable[[Front], nn.Module], seen: Front) -> None:
    assert genrobust.wrap(net(lambda x: seen(x).clamp(1e-6, 1 - 1e-6))).edge
    assert genrobust.wrap(net(seen)).edge == ()


@pytest.mark.parametrize(
    ("precision", "net"),
    [(torch.float64, Smooth), (torch.float16, Smooth), (torch.bfloat16, trained_and_cheap)],
)
def test_a_clip_in_any_precision(precision: torch.dtype, net: Callable[[], nn.Module]) -> None:
    """Rounding is no change that shows that a clip is none."""
    for low, high in ((0.0, 1.0), (1e-3, 0.999), (0.02, 0.98)):
        model = Fronted(partial(F.hardtanh, min_val=low, max_val=high), net()).to(precision)
        black, white = genrobust.wrap(model).edge[0]
        assert low <= black <= max(0.004, 1.5 * low)
        assert 1 - high <= white <= max(0.004, 1.5 * low)
    assert genrobust.wrap(Fronted(lambda x: x, net()).to(precision)).edge == ()


def test_no_pixel_is_left_behind_the_clip() -> None:
    """Of pixels that are put inside unevenly, all are behind a clip that lies amid their depths."""
    model = genrobust.wrap(Fronted(lambda x: x.clamp_min(1.003 * MARGINS[40])))
    x = black_and_white()
    whole = gradient(genrobust.wrap(Smooth()), x) != 0
    assert ((gradient(model, x) != 0) == whole).all()


def test_a_random_model_that_clips() -> None:
    def noisy(x: Tensor) -> Tensor:
        return (x + 0.05 * torch.randn_like(x)).clamp(0, 1)

    assert genrobust.wrap(Fronted(lambda x: noisy(x.clamp(1e-6, 1 - 1e-6))), draws=4).edge

"""Each image has its own result: in any batch, order and company, each time it is asked for."""

from __future__ import annotations

import dataclasses
import datetime
import random
import secrets
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError
from genrobust.models.checks import batches
from genrobust.models.checks.batches import _batches, _kept, tolerance_of
from genrobust.models.checks.check import check_model
from genrobust.models.inputs import probe_images
from genrobust.runner.options import Options
from genrobust.runner.prepare import prepare
from genrobust.suites import Suite

Change = Callable[[Tensor], Tensor]


class Plain(nn.Module):
    """A small model whose code, picture and service can be disturbed."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.enc, self.dec = nn.Linear(64, 6), nn.Linear(3, 64)

    def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.enc(x.flatten(1)).chunk(2, 1)
        return mean, logvar

    def image(self, z: Tensor) -> Tensor:
        return self.dec(z).sigmoid().view(-1, 1, 8, 8)


def disturbed(change: Change, stage: str, draws: int = 1) -> genrobust.GenerativeModel:
    """The plain model with one stage's result changed; changes take and give (B, ...)."""
    plain = Plain()

    def encode(x: Tensor) -> Any:
        mean, logvar = plain.code(x)
        if stage == "logvar":
            return mean, change(logvar)
        return (change(mean) if stage == "encode" else mean), logvar

    def decode(z: Tensor) -> Tensor:
        return change(plain.image(z)) if stage == "decode" else plain.image(z)

    def deploy(x: Tensor) -> Tensor:
        return change(plain.image(plain.code(x)[0]))

    return genrobust.wrap(
        plain,
        encode=encode,
        decode=decode,
        deploy=deploy if stage == "deploy" else None,
        clamp=True,
        draws=draws,
    )


def rows(t: Tensor) -> Tensor:
    """The number of each image in its batch, to be added to what it gives."""
    return torch.arange(len(t), dtype=t.dtype).view(-1, *[1] * (t.ndim - 1))


def noise_by_row(t: Tensor) -> Tensor:
    noise = torch.rand(t.shape, generator=torch.Generator().manual_seed(0))
    return t + 0.1 * noise


def last_first(t: Tensor) -> Tensor:
    """The first image is as it should be."""
    return torch.cat([t[:1], t[1:].flip(0)])


BY_COMPANY: dict[str, Change] = {
    "noise by row": noise_by_row,
    "noise by row but the first": lambda t: t + 0.1 * (rows(t) > 0) * torch.ones_like(t),
    "a tenth by row": lambda t: t + 0.01 * rows(t),
    "its neighbour": lambda t: t + 0.1 * t.roll(1, 0),
    "the batch's mean": lambda t: t - 0.1 * t.mean(0),
    "the batch's largest": lambda t: t / t.abs().max(),
    "the first of all": lambda t: t + 0.1 * t[:1] - 0.1 * t[0].mean(),
    "large batches": lambda t: t + 0.1 * (len(t) > 2),
    "odd batches": lambda t: t + 0.1 * (len(t) % 2),
    "the last row": lambda t: t + 0.1 * (rows(t) == len(t) - 1),
    "all but the first reversed": last_first,
}


@pytest.mark.parametrize("stage", ["encode", "decode", "deploy", "logvar"])
@pytest.mark.parametrize("change", BY_COMPANY)
def test_an_image_that_depends_on_the_others_is_found(change: str, stage: str) -> None:
    with pytest.raises(GenrobustError, match="changes with the others in its batch"):
        disturbed(BY_COMPANY[change], stage)


@pytest.mark.parametrize("stage", ["encode", "decode", "deploy", "logvar"])
def test_a_model_that_treats_images_one_by_one_passes(stage: str) -> None:
    disturbed(lambda t: 0.9 * t + 0.01, stage)


@pytest.mark.parametrize("stage", ["encode", "decode", "deploy", "logvar"])
def test_results_may_differ_by_rounding_and_no_more(stage: str) -> None:
    """From call to call by a hundred-thousandth, and between batches by a ten-thousandth."""
    for size, said in ((0.9e-5, None), (1.2e-5, "another reconstruction each time")):
        calls = count()

        def by_call(t: Tensor, calls: Iterator[int] = calls, size: float = size) -> Tensor:
            return t + size * (next(calls) % 2)

        with nullcontext() if said is None else pytest.raises(GenrobustError, match=said):
            disturbed(by_call, stage)
    for size, said in ((0.9e-4, None), (1.1e-4, "changes with the others in its batch")):
        with nullcontext() if said is None else pytest.raises(GenrobustError, match=said):
            disturbed(lambda t, size=size: t + size * (len(t) % 2), stage)


class Ties(nn.Module):
    """Codes of which one is as near to a feature of the first probe as another: rounding decides.

    As with kernels that add up in another order, features hang on how many images there are.
    """

    input_shape = (1, 8, 8)

    def __init__(self, rounding: float) -> None:
        super().__init__()
        self.to_code, self.from_code = nn.Linear(64, 4), nn.Linear(4, 64)
        self.table, self.rounding = nn.Embedding(16, 4), rounding
        with torch.no_grad():
            middle = self.to_code(probe_images(self.input_shape)[:1].flatten(1))
            side = torch.tensor([1.0, 0.0, 0.0, 0.0])
            self.table.weight[:2] = middle + 0.1 * torch.stack([side, -side])

    def encode(self, x: Tensor) -> Tensor:
        features: Tensor = self.to_code(x.flatten(1))
        return features + self.rounding * (-1) ** len(x)

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.from_code(z).sigmoid().view(-1, *self.input_shape)
        return image

    def forward(self, x: Tensor) -> Tensor:
        z = self.encode(x)
        entries = self.table(torch.cdist(z, self.table.weight).argmin(1))
        return self.decode(z + (entries - z).detach())


def test_a_choice_that_hangs_on_rounding_is_no_dependence_on_the_others() -> None:
    torch.manual_seed(0)
    model = genrobust.wrap(Ties(1e-7))
    assert "codebook" in model.encode(probe_images(model.input_shape)).describe()
    with pytest.raises(GenrobustError, match="changes with the others in its batch"):
        genrobust.wrap(Ties(1e-2))


@pytest.mark.parametrize(("share", "fine"), [(0.07, True), (0.09, False)])
def test_others_move_an_image_by_no_more_than_four_times_what_rounding_does(
    share: float, fine: bool
) -> None:
    """What hangs on rounding in every image may not do in a batch as it pleases."""

    class Rough(nn.Module):
        input_shape = (1, 8, 8)

        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1)

        def decode(self, z: Tensor) -> Tensor:
            up_or_down = (1e7 * z.sum(1)).sin().sign().view(-1, 1, 1, 1)
            beside = share * (len(z) % 2)
            return 0.3 + 0.3 * z.view(-1, 1, 8, 8) + 0.01 * up_or_down + beside

    said = pytest.raises(GenrobustError, match="changes with the others in its batch")
    with nullcontext() if fine else said:
        genrobust.wrap(Rough(), differentiable=False)  # its slope too hangs on what is beside


@pytest.mark.parametrize(("dtype", "steps"), [(torch.float16, 2**-10), (torch.bfloat16, 2**-7)])
def test_in_lower_precision_results_may_differ_by_four_steps(
    dtype: torch.dtype, steps: float
) -> None:
    model = genrobust.load_model("vae")
    assert tolerance_of(model) == 1e-4
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2, dtype=dtype)])
    assert tolerance_of(dataclasses.replace(model, module=layers)) == 4 * steps


@pytest.mark.parametrize(("share", "fine"), [(0.045, True), (0.055, False)])
def test_gradients_may_differ_by_a_twentieth_of_their_length(share: float, fine: bool) -> None:
    """The picture is the same in every batch, and its slope is not."""

    def steeper(t: Tensor) -> Tensor:
        return t + share * (len(t) % 2) * (t - t.detach())

    said = pytest.raises(GenrobustError, match="the gradient of an image changes with the others")
    with nullcontext() if fine else said:
        disturbed(steeper, "decode")


def test_sixty_four_images_at_most_are_tried_alone_and_all_in_other_batches() -> None:
    for number, alone in ((1, 1), (64, 64), (65, 33), (128, 64), (129, 43)):
        batches = [*_batches(number)]
        assert [len(batch) for batch in batches[:alone]] == [1] * alone
        assert number == 1 or len(batches) == alone + 4
        assert {i for batch in batches[alone:] for i in batch} == {*range(number)} - (
            {0} if number == 1 else set()
        )


def test_a_hundredth_of_the_pixels_of_a_deployed_image_may_lie_on_an_edge() -> None:
    found = [_kept(pixels, 0.01) for pixels in (1, 2, 64, 199, 200, 1000)]
    assert found == [1, 1, 63, 198, 198, 990]
    assert _kept(64, 0) == 64


def test_rounding_at_the_edge_between_two_levels_is_no_dependence() -> None:
    """A deployment in bytes: another batch's rounding may move a pixel by a level, and no more."""

    def edge(t: Tensor) -> Tensor:
        image = (255 * t).round() / 255
        moved = image.clone()
        moved[:, 0, 0, 0] += (len(t) % 2) / 255
        return moved

    disturbed(edge, "deploy")

    def edges(t: Tensor) -> Tensor:
        moved = edge(t)
        moved[:, 0, 0, 1] += (len(t) % 2) / 255
        return moved

    with pytest.raises(GenrobustError, match="changes with the others"):
        disturbed(edges, "deploy")
    with pytest.raises(GenrobustError, match="changes with the others"):
        disturbed(edge, "decode")  # what attacks differentiate has no levels


class Coupled(torch.autograd.Function):
    """The right image, and a gradient divided by all in the batch."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        return t.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] / gradients[0].flatten(1).norm(dim=1).sum()


@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_a_gradient_that_depends_on_the_others_is_found(stage: str) -> None:
    with pytest.raises(GenrobustError, match="gradient of an image changes with the others"):
        disturbed(Coupled.apply, stage)


def test_a_gradient_of_the_rows_is_found() -> None:
    def detached(t: Tensor) -> Tensor:
        return torch.cat([t[:1], t[1:].detach()])

    with pytest.raises(GenrobustError, match="gradient of an image changes with the others"):
        disturbed(detached, "decode")


@pytest.mark.parametrize(("moved", "fine"), [(4.9e-4, True), (5.1e-4, False)])
def test_of_a_gradient_a_hundredth_of_the_largest_or_less_a_twentieth_of_that_may_change(
    moved: float, fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding is as large on all images, and all that some gradients of a sure softmax are."""

    def gradient(model: genrobust.GenerativeModel, x: Tensor) -> Tensor:
        found = torch.zeros_like(x)
        found[:, 0, 0, 0] = torch.where(x[:, 0, 0, 0] > 0.5, 1.0, 1e-3)
        found[:, 0, 0, 1] = torch.where(x[:, 0, 0, 0] > 0.5, 0.0, moved * (len(x) < 4))
        return found

    monkeypatch.setattr(batches, "_gradient", gradient)
    x = torch.rand(4, 1, 2, 2) / 2
    x[0, 0, 0, 0] = 1
    known = nullcontext() if fine else pytest.raises(GenrobustError, match="the gradient of an")
    with known:
        batches.check_gradients(genrobust.load_model("vae"), x)


# What a run does


def zoo(change: Change) -> genrobust.GenerativeModel:
    vae = genrobust.load_model("vae")
    return genrobust.wrap(
        vae.module,
        encode=vae.encode,
        decode=lambda z: change(vae.decode(z)),
        clamp=True,
    )


def test_a_run_checks_batches_of_the_size_that_it_uses(small_suite: Suite) -> None:
    """On four images, and on eight, nothing shows."""
    model = zoo(lambda t: t + 0.2 * (len(t) > 8))
    whole = genrobust.suites.load_suite("digits")
    quick = whole.with_attacks(["noise"]).limited(12)
    for size, seen in ((8, False), (9, True), (45, True)):
        suite = quick.model_copy(update={"chunk_size": size})
        if not seen:
            prepare(model, suite, Options())
            continue
        with pytest.raises(GenrobustError, match="changes with the others"):
            prepare(model, suite, Options())


def test_a_run_checks_every_image_of_its_first_batch() -> None:
    quick = genrobust.suites.load_suite("digits").with_attacks(["noise"]).limited(20)
    model = zoo(lambda t: t + 0.2 * (rows(t) == 17))
    with pytest.raises(GenrobustError, match="changes with the others"):
        prepare(model, quick, Options())


@pytest.mark.parametrize("name", ["vae", "jointvae"])
def test_the_zoo_passes_on_as_many_images_as_a_run_takes(name: str) -> None:
    images = genrobust.load_images("digits")
    check_model(genrobust.load_model(name), images.take(range(45)))


# Draws


def once(make: Callable[[], float]) -> Change:
    return lambda t: t + 0.1 * make()


def an_image(make: Callable[[tuple[int, ...]], Any]) -> Change:
    """Another number for each image."""
    return lambda t: t + 0.1 * torch.as_tensor(make((len(t), *[1] * (t.ndim - 1)))).to(t)


OWN = np.random.default_rng(3)
OWN_PYTHON = random.Random(3)
OWN_TORCH = torch.Generator().manual_seed(3)
COUNTER = iter(range(10**9))

SOURCES: dict[str, Change] = {
    "torch": an_image(torch.rand),
    "numpy": an_image(lambda shape: np.random.random(shape)),
    "python": once(random.random),
    "numpy's own": an_image(OWN.random),
    "numpy's new": an_image(lambda shape: np.random.default_rng().random(shape)),
    "python's own": once(OWN_PYTHON.random),
    "torch's own": an_image(lambda shape: torch.rand(shape, generator=OWN_TORCH)),
    "the operating system": once(lambda: secrets.randbelow(10**6) / 10**6),
    "the clock": once(lambda: time.perf_counter() * 1e4 % 1),
    "the date": once(lambda: datetime.datetime.now().microsecond * 7919 % 997 / 997),
    "a counter": once(lambda: next(COUNTER) % 7 / 7),
}
KEYED = {"torch", "numpy", "python"}


@pytest.mark.parametrize("stage", ["encode", "decode", "deploy", "logvar"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_model_that_draws_and_does_not_say_so_is_refused(source: str, stage: str) -> None:
    with pytest.raises(GenrobustError, match=r"another reconstruction each time.*draws=16"):
        disturbed(SOURCES[source], stage)


@pytest.mark.parametrize("stage", ["encode", "decode", "deploy"])
@pytest.mark.parametrize("source", [name for name in SOURCES if name not in KEYED])
def test_draws_that_cannot_be_drawn_again_are_refused(source: str, stage: str) -> None:
    words = rf"{stage} draws cannot be drawn again.*torch\.manual_seed, np\.random\.seed and random"
    with pytest.raises(GenrobustError, match=words):
        disturbed(SOURCES[source], stage, draws=4)


@pytest.mark.parametrize("stage", ["encode", "decode", "deploy"])
@pytest.mark.parametrize("source", ["torch", "numpy"])
def test_draws_that_can_be_drawn_again_pass(source: str, stage: str) -> None:
    assert disturbed(SOURCES[source], stage, draws=4).draws == 4


def test_one_draw_for_a_whole_batch_is_not_many_draws() -> None:
    with pytest.raises(GenrobustError, match="one random number for all images of a batch"):
        disturbed(SOURCES["python"], "deploy", draws=4)


class OneShift(nn.Module):
    """Shifts all images of a batch by as much."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.scale * x.roll(int(torch.randint(8, (1,))), 3)).clamp(0, 1)


def test_the_line_that_one_draw_for_a_batch_is_told_works() -> None:
    module = OneShift()
    with pytest.raises(GenrobustError) as told:
        genrobust.wrap(module, draws=4)
    line = str(told.value).partition("pass deploy=")[2]
    assert line.startswith("lambda x: ")
    assert genrobust.wrap(module, draws=4, deploy=eval(line, {"module": module, "torch": torch}))


def test_what_is_not_random_in_a_random_model_is_checked_as_ever() -> None:
    def both(t: Tensor) -> Tensor:
        return noise_by_row(t) if t.ndim == 2 else SOURCES["torch"](t)

    plain = Plain()
    with pytest.raises(GenrobustError, match="changes with the others"):
        genrobust.wrap(
            plain,
            encode=lambda x: both(plain.code(x)[0]),
            decode=lambda z: both(plain.image(z)),
            clamp=True,
            draws=4,
        )


def test_random_results_that_lean_on_the_others_are_found() -> None:
    def change(t: Tensor) -> Tensor:
        return t + 0.02 * torch.randn_like(t) + 5 * (t - t.mean(0))

    with pytest.raises(GenrobustError, match="standard errors"):
        disturbed(change, "deploy", draws=4)
    disturbed(lambda t: t + 0.02 * torch.randn_like(t), "deploy", draws=4)


def test_the_check_leaves_the_generators_alone() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for source in ("torch", "numpy", "python"):
                with pytest.raises(GenrobustError):
                    disturbed(SOURCES[source], "decode")
        states.append((torch.rand(1).item(), np.random.random(), random.random()))
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    untouched = (torch.rand(1).item(), np.random.random(), random.random())
    assert states == [untouched, untouched]


def test_one_image_alone_can_be_checked() -> None:
    plain = Plain()
    model = genrobust.wrap(plain, encode=plain.code, decode=plain.image)
    assert check_model(model, probe_images((1, 8, 8), 1)).code_size == 3

"""A model that knows the suite's sources by heart is told, and no honest one is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.data import Images
from genrobust.evidence.checks import RejectionError
from genrobust.models.model import GenerativeModel
from genrobust.seeding import generator
from genrobust.suites import load_suite
from genrobust.verify import generality
from genrobust.verify.generality import (
    FACTOR,
    FOLLOWED,
    Ratios,
    followed_ratio,
    reconstruction_ratios,
    require_general,
)

pytestmark = pytest.mark.usefixtures("brief")

SUITE = load_suite("digits")
IMAGES = genrobust.load_images("digits", "test")
zoo = cache(genrobust.load_model)


class Memory(nn.Module):
    """An untrained attention over stored images."""

    input_shape = (1, 32, 32)

    def __init__(self, stored: Tensor) -> None:
        super().__init__()
        self.register_buffer("stored", stored.flatten(1))

    def encode(self, x: Tensor) -> Tensor:
        far = self.stored.square().sum(1) - 2 * x.flatten(1) @ self.stored.T
        return (-0.3 * far).softmax(1)  # the image's own size is in all distances alike

    def decode(self, code: Tensor) -> Tensor:
        return (code @ self.stored).view(-1, 1, 32, 32)


def memory(whole: bool = False) -> GenerativeModel:
    """Of the suite's sources, or of all images of the data set."""
    return genrobust.wrap(Memory(IMAGES.take(range(len(IMAGES)) if whole else SUITE.sample_ids)))


def blended(share: float) -> GenerativeModel:
    """Partly an honest model, partly the image itself where it is a source."""
    vae, stored = zoo("vae"), IMAGES.take(SUITE.sample_ids).flatten(1)

    def deploy(x: Tensor) -> Tensor:
        nearest, honest = stored[torch.cdist(x.flatten(1), stored).argmin(1)], vae.reconstruct(x)
        known = (x.flatten(1) - nearest).norm(dim=1) < 1e-3
        cheat = share * nearest.view_as(x) + (1 - share) * honest
        return torch.where(known.view(-1, 1, 1, 1), cheat, honest)

    return dataclasses.replace(vae, deploy=deploy)


def test_a_model_that_knows_the_sources_is_refused() -> None:
    with pytest.raises(RejectionError, match=r"times that on the suite's sources: it knows these"):
        require_general(memory(), IMAGES, SUITE, seed=0)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_a_model_that_knows_the_whole_data_set_is_refused(seed: int) -> None:
    """No image of it is another one; shifted by a pixel, all are."""
    model = memory(whole=True)
    assert reconstruction_ratios(model, IMAGES, SUITE, seed).others < 2
    with pytest.raises(RejectionError, match=r"on the sources shifted is .* it knows these"):
        require_general(model, IMAGES, SUITE, seed)


@pytest.mark.parametrize("noise", [0.1, 0.15])
def test_noise_on_what_is_known_does_not_hide_that_it_is(noise: float) -> None:
    """The error on the sources is then as large as an honest model's."""
    known = memory()
    added = noise * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(4))

    def deploy(x: Tensor) -> Tensor:
        return (known.reconstruct(x) + added).clamp(0, 1)

    model = genrobust.wrap(known.module, encode=known.encode, decode=known.decode, deploy=deploy)
    x = IMAGES.take(SUITE.sample_ids)
    assert float((model.reconstruct(x) - x).square().flatten(1).sum(1).mean()) > 3
    with pytest.raises(RejectionError, match="it knows these"):
        require_general(model, IMAGES, SUITE, seed=0)


def test_one_that_knows_only_the_very_pixels_is_told_by_moving_them() -> None:
    model = blended(0.9)
    assert reconstruction_ratios(model, IMAGES, SUITE, seed=1).moved > FACTOR
    with pytest.raises(RejectionError):
        require_general(model, IMAGES, SUITE, seed=1)


@pytest.mark.parametrize(("share", "refused"), [(0.29, False), (0.34, True)])
def test_the_limit_is_a_factor_of_two_and_what_chance_allows(share: float, refused: bool) -> None:
    """An error that is (1 - share) squared of the usual one, which is 1.09 on other images."""
    model = blended(share)
    found = reconstruction_ratios(model, IMAGES, SUITE, seed=0)
    assert found.by_chance == pytest.approx(0.158, abs=1e-3)
    assert (found.others > FACTOR * 1.158) == refused
    if refused:
        with pytest.raises(RejectionError, match=r"on other images of the data set is 2\.5 times"):
            require_general(model, IMAGES, SUITE, seed=0)
    else:
        require_general(model, IMAGES, SUITE, seed=0)


@pytest.mark.parametrize(("least", "refused"), [(0.26, False), (0.24, True)])
def test_a_smaller_error_is_allowed_by_chance_alone(
    least: float, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few sources, whose mean error may be off by all of itself: a quarter is the least."""
    found = Ratios(others=1.0, moved=1.0, beside=(least, 1.0), shifted=1.0, by_chance=2.0)
    monkeypatch.setattr(generality, "reconstruction_ratios", lambda *_: found)
    monkeypatch.setattr(generality, "driven_ratios", lambda *_: (1.0,))
    model = zoo("vae")
    if refused:
        with pytest.raises(RejectionError, match=r"is 0\.24 of that on the suite's sources"):
            require_general(model, IMAGES, SUITE, seed=0)
    else:
        monkeypatch.setattr(generality, "followed_ratio", lambda *_: (1.0, 0.0))
        require_general(model, IMAGES, SUITE, seed=0)


EVEN: dict[str, Any] = {"others": 1.0, "moved": 1.0, "shifted": 1.0, "by_chance": 0.0}


@pytest.mark.parametrize(
    ("ratios", "driven", "said"),
    [
        ({"others": 1.99}, 1.0, None),
        ({"others": 2.01}, 1.0, "on other images of the data set is 2.0 times"),
        ({"moved": 1.99}, 1.0, None),
        ({"moved": 2.01, "by_chance": 0.5}, 1.0, "on the sources moved a little is 2.0 times"),
        ({"shifted": 2.99}, 1.0, None),
        ({"shifted": 3.01, "by_chance": 0.5}, 1.0, "on the sources shifted is 3.0 times"),
        ({"others": 0.51}, 1.0, None),
        ({"others": 0.49}, 1.0, "on other images of the data set is 0.49 of"),
        ({"beside": (1.0, 1.0, 0.51)}, 1.0, None),
        ({"beside": (1.0, 1.0, 0.49)}, 1.0, "on the sources moved a little is 0.49 of"),
        ({}, 0.51, None),
        ({}, 0.49, "moved as its own gradient leads is 0.49 of"),
    ],
)
def test_the_limits_of_each_ratio(
    ratios: dict[str, Any], driven: float, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Ratios(**{**EVEN, "beside": (1.0, 1.0), **ratios})
    monkeypatch.setattr(generality, "reconstruction_ratios", lambda *_: found)
    monkeypatch.setattr(generality, "driven_ratios", lambda *_: (1.0, driven, 1.0))
    monkeypatch.setattr(generality, "followed_ratio", lambda *_: (1.0, 0.0))
    model = zoo("vae")
    if said is None:
        require_general(model, IMAGES, SUITE, seed=0)
        return
    with pytest.raises(RejectionError, match=said):
        require_general(model, IMAGES, SUITE, seed=0)


def test_contents_are_shifted_by_a_pixel_of_32_along_either_side() -> None:
    ramp = (torch.arange(32.0) / 32).expand(1, 1, 32, 32)
    both = torch.cat([ramp, ramp.transpose(2, 3)])
    for turn, along_x, along_y in ((1, 1, 1), (3, -1, 1), (5, -1, -1), (7, 1, -1)):
        moved = generality._shifted(both, torch.full((2,), turn * math.pi / 4)) - both
        inner = moved[:, 0, 2:-2, 2:-2]
        expected = torch.tensor([along_x, along_y]).view(2, 1, 1).expand_as(inner) / 32
        torch.testing.assert_close(inner, expected, rtol=0, atol=1e-5)


def test_what_gives_sources_back_errs_by_the_shift_of_which_a_sixth_counts() -> None:
    """Its error, 0.1 of 1 in each pixel, is beside the shift's own size in the denominator."""
    suite = SUITE.limited(5)
    x = IMAGES.take(suite.sample_ids)

    def deploy(given: Tensor) -> Tensor:
        at = (given.flatten(1)[:, None] - x.flatten(1)).square().sum(2).argmin(1)
        return torch.where(x[at] > 0.5, x[at] - 0.1, x[at] + 0.1)

    model = dataclasses.replace(zoo("vae"), deploy=deploy)
    found = reconstruction_ratios(model, IMAGES, suite, seed=0)
    angles = 2 * math.pi * torch.rand(5, generator=generator("shifted", 0))
    shifted = generality._shifted(x, angles)

    def apart(one: Tensor, other: Tensor) -> float:
        return float((one - other).double().square().flatten(1).sum(1).mean())

    usual = 0.01 * 1024
    beside = usual + apart(shifted, x) / 6
    assert found.shifted == pytest.approx(apart(shifted, deploy(x)) / beside, rel=1e-4)
    rough, smooth = (
        sum(float(one.diff(dim=d).double().square().sum()) for d in (2, 3)) for one in (x, shifted)
    )
    assert smooth < 0.95 * rough
    error = apart(shifted, deploy(x)) * rough / smooth
    assert found.beside[-1] == pytest.approx(error / usual, rel=1e-4)
    assert len(found.beside) == 1 + len(suite.eps) + 2, "each radius, smoothly, and shifted"


def test_sources_are_moved_by_a_hundredth_and_by_each_radius(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite, seen = SUITE.limited(5), list[Tensor]()

    def errors(model: GenerativeModel, x: Tensor, chunk: int) -> Tensor:
        seen.append(x)
        return torch.ones(len(x)).double()

    monkeypatch.setattr(generality, "_errors", errors)
    reconstruction_ratios(zoo("vae"), IMAGES, suite, seed=0)
    x, *moved = seen
    assert torch.equal(x, IMAGES.take(suite.sample_ids))
    far = [float((one - x).abs().max()) for one in moved[: len(suite.eps) + 2]]
    assert far == pytest.approx([0.01, *suite.eps, suite.eps[-1]], rel=0.01)
    others = moved[-1]
    assert len(others) == 200
    used = IMAGES.take([*SUITE.limited(5).sample_ids, *SUITE.limited(5).target_ids])
    assert (torch.cdist(others.flatten(1), used.flatten(1)) > 0).all()


@pytest.mark.parametrize("name", ["vae", "betavae", "betavae-capacity", "jointvae", "vae-wd"])
def test_no_model_of_the_zoo_is_refused(name: str) -> None:
    found = reconstruction_ratios(zoo(name), IMAGES, SUITE, seed=3)
    assert all(0.7 < ratio < 1.3 for ratio in (found.others, found.moved)), found
    assert min(found.beside) > 0.8, found
    assert 0.5 < found.shifted < 1.5, found


def test_a_data_set_without_other_images_says_so() -> None:
    """Of one's own pictures all may be sources; nothing is claimed of images that are not there."""
    raw = IMAGES.take(SUITE.sample_ids[:10])
    images = dataclasses.replace(IMAGES, raw=raw, labels=None)
    suite = SUITE.limited(10).model_copy(
        update={"sample_ids": tuple(range(10)), "target_ids": (*range(1, 10), 0)}
    )
    said = require_general(zoo("vae"), images, suite, seed=0)
    assert said.startswith("there are no other images; ")
    assert "on other images" not in said
    assert "on other images" in require_general(zoo("vae"), IMAGES, SUITE.limited(10), seed=0)


@pytest.mark.parametrize("side", [8, 16])
def test_an_honest_model_of_rough_pictures_is_not_refused(side: int) -> None:
    """Shifted by parts of a pixel they are smoother, and what averages errs little of those."""

    class Averages(nn.Module):
        input_shape = (3, 16, 16)

        def encode(self, x: Tensor) -> Tensor:
            return nn.functional.avg_pool2d(x, 4).flatten(1)

        def decode(self, code: Tensor) -> Tensor:
            return nn.functional.interpolate(code.view(-1, 3, 4, 4), size=16)

    rough = torch.rand(60, 3, side, side, generator=generator("rough", side))
    images = Images(nn.functional.interpolate(rough, size=16), None, (16, 16))
    ids = {"sample_ids": tuple(range(20)), "target_ids": (*range(1, 20), 0)}
    suite = SUITE.limited(20).model_copy(update=ids)
    require_general(genrobust.wrap(Averages()), images, suite, seed=0)


def test_a_model_without_error_makes_no_difference() -> None:
    class Identity(nn.Module):
        input_shape = (1, 32, 32)

        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1)

        def decode(self, code: Tensor) -> Tensor:
            return code.view(-1, 1, 32, 32)

    found = reconstruction_ratios(genrobust.wrap(Identity()), IMAGES, SUITE, seed=0)
    assert (found.others, *found.beside[:-1]) == pytest.approx(7 * (1.0,))
    assert 1 < found.beside[-1] < 2, "it errs as much on what is smoother"
    assert max(found.moved, found.shifted) < 1e-6
    require_general(genrobust.wrap(Identity()), IMAGES, SUITE, seed=0)


def test_what_gives_no_noise_back_errs_by_it_and_knows_nothing() -> None:
    """A code of what images have in common: hardly an error on them, and all of the noise."""
    x = IMAGES.take(range(len(IMAGES))).flatten(1)
    _, _, directions = torch.linalg.svd(x - x.mean(0), full_matrices=False)

    class Subspace(nn.Module):
        input_shape = (1, 32, 32)

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", directions[:60])
            self.register_buffer("mean", x.mean(0))

        def encode(self, x: Tensor) -> Tensor:
            return (x.flatten(1) - self.mean) @ self.kept.T

        def decode(self, code: Tensor) -> Tensor:
            return (self.mean + code @ self.kept).view(-1, 1, 32, 32)

    model = genrobust.wrap(Subspace(), clamp=True)
    found = reconstruction_ratios(model, IMAGES, SUITE, seed=0)
    assert found.beside[0] > FACTOR
    assert found.moved < 1.2
    require_general(model, IMAGES, SUITE, seed=0)


def test_another_seed_draws_other_images() -> None:
    model = zoo("vae")
    found = {reconstruction_ratios(model, IMAGES, SUITE, seed) for seed in (1, 2)}
    assert len(found) == 2
    assert reconstruction_ratios(model, IMAGES, SUITE, 1) in found


def led(deploy: Callable[[Tensor], Tensor], name: str = "vae") -> GenerativeModel:
    """A model of the zoo to which each image comes changed."""
    honest = zoo(name)
    return dataclasses.replace(honest, encoder=lambda x: honest.encoder(deploy(x)))


def towards(stored: Tensor, left: float, within: float = math.inf) -> Callable[[Tensor], Tensor]:
    """The nearest stored image, and that part of the way from it to the image that is left."""

    def moved(x: Tensor) -> Tensor:
        apart, at = torch.cdist(x.flatten(1), stored.flatten(1)).min(1)
        return torch.where(
            (apart < within).view(-1, 1, 1, 1), stored[at] + left * (x - stored[at]), x
        )

    return moved


def mixed(x: Tensor) -> Tensor:
    """The images of the split, by how near they are."""
    apart = torch.cdist(x.flatten(1), SPLIT.flatten(1)).square()
    return ((-apart).softmax(1) @ SPLIT.flatten(1)).view_as(x)


SPLIT = IMAGES.take(range(len(IMAGES)))
SOURCES = IMAGES.take(SUITE.sample_ids)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (towards(SPLIT, 0.5), "vae"),
        (towards(SPLIT, 0.15), "jointvae"),
        (towards(SPLIT, 0.3, within=3.0), "vae"),
        (towards(SOURCES, 0.3, within=4.0), "vae"),
        (lambda x: (x + mixed(x)) / 2, "vae"),
    ],
)
def test_a_model_that_leads_back_to_images_it_knows_is_refused(
    change: Callable[[Tensor], Tensor], name: str
) -> None:
    """Each errs about as an honest one does, on whatever it is tried."""
    with pytest.raises(RejectionError, match="leads back to images that it knows"):
        require_general(led(change, name), IMAGES, SUITE, seed=0)


def test_one_that_leads_codes_back_is_refused() -> None:
    vae = zoo("vae")
    with torch.no_grad():
        known = vae.encode(SPLIT).mode()

    def deploy(x: Tensor) -> Tensor:
        code = vae.encode(x).mode()
        nearest = known[torch.cdist(code, known).argmin(1)]
        return vae.decode(nearest + 0.3 * (code - nearest))

    with pytest.raises(RejectionError, match="leads back to images that it knows"):
        require_general(dataclasses.replace(vae, deploy=deploy), IMAGES, SUITE, seed=0)


@pytest.mark.parametrize("left", [0.2, 0.6])
def test_what_is_left_of_a_change_is_how_far_it_is_followed(left: float) -> None:
    """Of the image itself: a quarter of the way to the nearest never leads to another."""
    suite = SUITE.limited(40)
    change = towards(SPLIT, left)
    model = dataclasses.replace(zoo("vae"), deploy=change)
    followed, off = followed_ratio(model, IMAGES, suite, seed=0)
    assert followed == pytest.approx(left, abs=0.02)
    assert off < 0.01


def binary(x: Tensor) -> Tensor:
    return (x > 0.5).float()


@pytest.mark.parametrize(
    "model",
    [
        *(led(lambda x: x, name) for name in ("vae", "betavae", "betavae-capacity", "jointvae")),
        led(binary),
        led(lambda x: (x * 3).round() / 3),
        led(lambda x: nn.functional.avg_pool2d(x, 3, 1, 1)),
        led(towards(genrobust.load_images("digits", "train").take(range(1198)), 0.3)),
        dataclasses.replace(zoo("vae"), deploy=lambda x: 0 * x + 0.2),
    ],
)
def test_honest_models_follow_small_changes_as_they_follow_large_ones(
    model: GenerativeModel,
) -> None:
    """Also of quantised and blurred inputs, or where images are led to those of training."""
    followed, _ = followed_ratio(model, IMAGES, SUITE, seed=0)
    assert followed > 1.2 * FOLLOWED


@pytest.mark.parametrize("chance", [0.0, 0.5])
@pytest.mark.parametrize(("times", "refused"), [(1.01, False), (0.99, True)])
def test_the_limit_of_what_is_followed_is_lower_by_what_chance_allows(
    times: float, refused: bool, chance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = times * 0.75 / (1 + chance)
    even = Ratios(**EVEN, beside=(1.0,))
    monkeypatch.setattr(generality, "reconstruction_ratios", lambda *_: even)
    monkeypatch.setattr(generality, "driven_ratios", lambda *_: (1.0,))
    monkeypatch.setattr(generality, "followed_ratio", lambda *_: (followed, chance))
    if not refused:
        require_general(zoo("vae"), IMAGES, SUITE, seed=0)
        return
    with pytest.raises(RejectionError, match=rf"sources {followed:.2f} times as far as the change"):
        require_general(zoo("vae"), IMAGES, SUITE, seed=0)


def test_a_single_source_tells_nothing_of_what_is_followed() -> None:
    model = led(towards(SPLIT, 0.3))
    assert followed_ratio(model, IMAGES, SUITE.limited(1), seed=0) == (1.0, 0.0)
    assert followed_ratio(model, IMAGES, SUITE.limited(2), seed=0)[0] < 0.5


@pytest.mark.slow
def test_a_run_of_it_does_not_pass_a_replay(tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--attack", "noise", "--limit", "20", "--evidence", "--out", str(out)]
    (tmp_path / "memory.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_generality import memory as build\n"
    )
    ran = CliRunner().invoke(app, ["bench", "--model", f"{tmp_path}/memory.py:build", *options])
    assert ran.exit_code == 0, ran.output
    (folder,) = {path.parent for path in out.rglob("evidence.zip")}
    found = CliRunner().invoke(app, ["verify", str(folder)])
    assert found.exit_code == 1
    assert "it knows these" in " ".join(found.output.split())

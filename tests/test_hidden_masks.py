"""Hidden masks are told by finite differences and broken by a stand-in; odd models are neither."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

import genrobust
from genrobust.attacks.differences import cosine, directions, jacobian
from genrobust.batch import Batch
from genrobust.errors import GenrobustError
from genrobust.models import GenerativeModel
from genrobust.outcomes import flags
from genrobust.outcomes.outcome import Counts, Damaged, Directional, Signs
from genrobust.runner.signs import diagnose
from genrobust.suites import Suite, load_suite
from genrobust.testing.masks import HELD_OUT, MASKS, TUNED
from genrobust.testing.odd import ODD

COUNT = 12
CATEGORICAL = {"too-sure", "sure"}
TOLD = {
    "latents-detached": "latents without a true gradient",
    "latents-rounded": "latents without a true gradient",
    "pixels-30": "gradients are wrong in part",
    "pixels-50": "gradients are wrong in part",
    "wrong-on-a-part": "gradients are wrong in part",
    "too-sure": "categories are too sure",
    "detector": "reconstructions jump",
}


@cache
def zoo(name: str) -> GenerativeModel:
    return genrobust.load_model(name)


def masked(name: str) -> GenerativeModel:
    return MASKS.get(name)(zoo("jointvae" if name in CATEGORICAL else "vae"))


def odd(name: str) -> GenerativeModel:
    return ODD.get(name)(zoo("jointvae" if name in CATEGORICAL else "vae"))


def digits(count: int = COUNT) -> Batch:
    images = genrobust.load_images("digits")
    ids = load_suite("digits").sample_ids[:count]
    judge = genrobust.load_judge("digits", "lenet")
    return Batch(images.take(ids), ids, 0, images.labels_of(ids), judge=judge)


def told(model: GenerativeModel, count: int = COUNT, eps: tuple[float, ...] = ()) -> set[str]:
    batch = digits(count)
    eligible = batch.judge.labels(model.reconstruct(batch.x)) == batch.labels
    found = diagnose(model, batch, eligible, "linf", eps).signs
    suite = load_suite("digits").model_copy(update={"eps": eps, "attacks": ()})
    counts = Counts(*torch.zeros(4, 2, len(eps), dtype=torch.int64))
    raised = flags.raised(suite, eligible, found, counts)
    return {flag.name for flag in raised} - {"few eligible sources"}


def test_every_mask_is_on_one_of_the_two_lists() -> None:
    assert {*TUNED, *HELD_OUT} == {*MASKS.names()}
    assert not {*TUNED} & {*HELD_OUT}
    assert TOLD.keys() == {*TUNED}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "detector" else n for n in TOLD]
)
def test_a_hidden_mask_is_told(name: str) -> None:
    assert TOLD[name] in told(masked(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TUNED, *(n for n in HELD_OUT if n != "first-of-batch")])
def test_a_hidden_mask_hardly_changes_what_a_model_gives(name: str) -> None:
    batch, model = digits(24), masked(name)
    same = zoo("jointvae" if name in CATEGORICAL else "vae").reconstruct(batch.x)
    labels = [batch.judge.labels(image) for image in (same, model.reconstruct(batch.x))]
    assert (labels[0] == labels[1]).float().mean() > 0.85


def test_a_gradient_for_one_of_the_batch_is_refused() -> None:
    with pytest.raises(GenrobustError, match="changes with the others in its batch"):
        masked("first-of-batch")


def test_a_gradient_that_is_only_small_is_harmless() -> None:
    assert told(masked("scaled-gradient"), eps=(0.1,)) == set()


@pytest.mark.parametrize("name", ["largest-of-four", "quantised"])
def test_an_odd_model_has_no_flag(name: str) -> None:
    assert told(odd(name)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD.names())
def test_no_odd_model_has_a_flag(name: str) -> None:
    assert told(odd(name), 48, eps=(0.04, 0.1)) == set()


# The limits


def directional(**changed: Tensor) -> Directional:
    one, zero = torch.ones(COUNT), torch.zeros(COUNT)
    sound = {"along": one, "along_latent": one, "jump": zero, "response": one, "lead": zero}
    return Directional(**{**sound, **changed})


@pytest.mark.parametrize(
    ("sign", "bad", "good", "name"),
    [
        ("along", 0.79, flags.ALONG, "gradients are wrong in part"),
        ("along", float("nan"), flags.ALONG, "gradients are wrong in part"),
        ("along_latent", 0.79, flags.ALONG, "latents without a true gradient"),
        ("jump", 0.51, flags.JUMP, "reconstructions jump"),
        ("response", 0.009, flags.RESPONSE, "reconstructions do not follow the image"),
        ("lead", 60.1, flags.LEAD, "categories are too sure"),
    ],
)
def test_a_flag_is_raised_beyond_its_limits_alone(
    sign: str, bad: float, good: float, name: str
) -> None:
    def raised(values: Tensor) -> list[str]:
        eligible = torch.ones(COUNT, dtype=torch.bool)
        found = flags._directional(directional(**{sign: values}), eligible)
        return [flag.name for flag in found]

    values = torch.full((COUNT,), good)
    assert raised(values) == []
    values[: COUNT // 4] = bad  # a quarter is the limit
    assert raised(values) == []
    values[: COUNT // 4 + 1] = bad
    assert raised(values) == [name]


def test_the_whole_box_flag_is_raised_beyond_its_limit_alone() -> None:
    fooled, eligible = torch.ones(20, dtype=torch.bool), torch.ones(20, dtype=torch.bool)
    fooled[:15] = False
    assert flags._unbounded(fooled, eligible) is None
    fooled[15] = False
    flag = flags._unbounded(fooled, eligible)
    assert flag is not None
    assert flag.name == "stands in the whole box"


def test_damage_that_does_not_grow_is_told_of_what_stands() -> None:
    suite: Suite = load_suite("digits").model_copy(update={"eps": (0.02, 0.04)})
    eligible, count = torch.ones(20, dtype=torch.bool), 20
    still = dict.fromkeys(("clean", "clean_similarity", "constant"), torch.zeros(count))

    def raised(growth: float, standing: int, share: float) -> bool:
        last = torch.where(torch.arange(count) < share * standing, growth, 2.0)
        damaged = Damaged(**still, attacked_shift=torch.stack([torch.ones(count), last]))
        radius = torch.where(torch.arange(count) < standing, 2, 0)
        return flags._still(suite, damaged, eligible, radius) is not None

    assert raised(1.0, standing=20, share=0.6)
    assert not raised(1.0, standing=20, share=0.5)
    assert not raised(1.2, standing=20, share=1.0)
    assert not raised(1.0, standing=10, share=1.0)


def test_signs_that_older_runs_lack_raise_nothing() -> None:
    batch = digits()
    found = diagnose(masked("pixels-30"), batch, torch.ones(COUNT, dtype=torch.bool), "linf", ())
    tensors = found.signs.tensors()
    older = {n: t for n, t in tensors.items() if "directional" not in n and "unbounded" not in n}
    suite = load_suite("digits").model_copy(update={"eps": (), "attacks": ()})
    eligible, counts = torch.ones(COUNT, dtype=torch.bool), Counts(*torch.zeros(4, 2, 0).long())
    for each, wanted in ((older, False), (tensors, True)):
        raised = flags.raised(suite, eligible, Signs.of(each), counts)
        assert any(flag.name == "gradients are wrong in part" for flag in raised) is wanted


# Differences


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 32, 32)])
def test_the_jacobian_of_a_linear_function_is_its_matrix(shape: tuple[int, int, int]) -> None:
    x = torch.rand(2, *shape, dtype=torch.float64)
    matrix = torch.randn(3, *shape, dtype=torch.float64)
    found, passes = jacobian(lambda x: torch.einsum("bchw,fchw->bf", x, matrix), x, 0.01)
    torch.testing.assert_close(found, matrix.expand(2, -1, -1, -1, -1))
    assert passes == 2048


def test_large_images_are_moved_in_blocks() -> None:
    along = directions(torch.Size((3, 64, 64)))
    assert len(along) == 1024
    assert (along.abs() == 1).all()
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    found, _ = jacobian(lambda x: x.flatten(1).sum(1, keepdim=True), x, 0.01)
    torch.testing.assert_close(found.sum(), torch.tensor(3.0 * 64 * 64, dtype=torch.float64))


def test_cosines_do_not_go_by_scale() -> None:
    one = torch.tensor([[1e-30, 0.0], [0.0, 0.0], [0.0, 0.0]])
    other = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(cosine(one, other, 1), torch.tensor([0.6, 1.0, 0.0]))


# The attack


def standing(name: str, model: GenerativeModel, batch: Batch) -> tuple[int, Tensor]:
    found = genrobust.attack(
        name, model, batch.x, labels=batch.labels, judge=batch.judge, eps=0.06,
        sample_ids=batch.sample_ids,
    )  # fmt: skip
    return int((~found.success).sum()), found.forwards


def test_an_honest_model_pays_for_a_look_alone() -> None:
    _, forwards = standing("stand-in", zoo("vae"), digits(4))
    assert int(forwards.max()) < 40


@pytest.mark.slow
@pytest.mark.parametrize("name", ["latents-detached", "wrong-on-a-part"])
def test_a_stand_in_breaks_what_hides_its_gradient(name: str) -> None:
    batch = digits(8)
    bound, _ = standing("classifier", zoo("vae"), batch)
    fooled, _ = standing("classifier", masked(name), batch)
    broken, _ = standing("stand-in", masked(name), batch)
    assert fooled > bound
    assert broken <= bound + 1


@pytest.mark.slow
def test_a_stand_in_gives_the_same_in_any_batch() -> None:
    batch, model = digits(3), masked("pixels-50")

    def x_adv(batch: Batch) -> Tensor:
        given = {"labels": batch.labels, "judge": batch.judge, "sample_ids": batch.sample_ids}
        return genrobust.attack("stand-in", model, batch.x, eps=0.06, rounds=1, **given).x_adv

    alone = x_adv(batch[torch.tensor([1])])
    torch.testing.assert_close(x_adv(batch)[1:2], alone, atol=1e-3, rtol=0)

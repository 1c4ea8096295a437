"""Hidden masks are told by finite differences and broken by a stand-in; odd models are neither."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from diagnosed import before_attacks, is_beyond, sound
from principal import smooth
from torch import Tensor
from torch.autograd.function import once_differentiable

import genrobust
from genrobust.attacks import stand_in
from genrobust.attacks.differences import agreement, cosine, directions, jacobian
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError
from genrobust.models import GenerativeModel
from genrobust.objectives.classifier import JudgeMargin
from genrobust.optimizers import Problem
from genrobust.outcomes import flags, marks
from genrobust.outcomes.outcome import Counts, Damaged, Signs
from genrobust.posterior import Posterior
from genrobust.records.record import Flag
from genrobust.runner import curve, signs
from genrobust.runner.directional import _by_size, with_long
from genrobust.runner.followed import followed
from genrobust.runner.signs import attacked_response, diagnose, signs_of
from genrobust.runner.unreached import unreached
from genrobust.suites import Suite, load_suite
from genrobust.testing.masks import HELD_OUT, MASKS, OUTSIDE, TUNED
from genrobust.testing.odd import ODD, UNUSUAL

COUNT = 5
CATEGORICAL = {"too-sure", "sure"}
TOLD = {
    "latents-detached": "latents without a true gradient",
    "latents-rounded": "latents without a true gradient",
    "pixels-30": "gradients are wrong in part",
    "pixels-50": "gradients are wrong in part",
    "wrong-on-a-part": "gradients are wrong in part",
    "too-sure": "categories are too sure",
    "detector": "reconstructions jump",
    "largest-kept": "pixels without a true gradient",
    "off-the-data": "gradients are wrong where attacks lead",
    "gate": "reconstructions are held where attacks lead",
    "coarse-ripple": "a smoothed gradient leads further",
    "hard-label": "codes that no gradient reaches",
    "moat": "gradients are wrong on the way of attacks",
    "in-a-crowd": "gradients are wrong on the way of attacks",
}
#: Told after an attack, and those that take long.
ATTACKED = {"off-the-data", "gate", "moat", "in-a-crowd"}
SLOW = {"detector", *ATTACKED}
#: Told of a model that takes a small part of the zoo's time too.
QUICK = {"pixels-30", "pixels-50", "wrong-on-a-part", "largest-kept", "coarse-ripple", "hard-label"}


@cache
def zoo(name: str) -> GenerativeModel:
    return genrobust.load_model(name)


@cache
def masked(name: str) -> GenerativeModel:
    return MASKS.get(name)(zoo("jointvae" if name in CATEGORICAL else "vae"))


@cache
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
    diagnosis = diagnose(model, batch, eligible, "linf", eps)
    found = signs_of(model, batch, diagnosis) if eps else before_attacks(diagnosis)
    suite = load_suite("digits").model_copy(update={"eps": eps, "attacks": ()})
    counts = Counts(*torch.zeros(4, 2, len(eps), dtype=torch.int64))
    raised = flags.raised(suite, eligible, found, counts)
    return {flag.name for flag in raised} - {"few eligible sources"}


def test_every_mask_is_on_one_of_the_lists() -> None:
    assert sorted((*TUNED, *HELD_OUT, *OUTSIDE)) == sorted(MASKS.names())
    assert TOLD.keys() == {*TUNED}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TOLD],
)
def test_a_hidden_mask_is_told(name: str) -> None:
    model = MASKS.get(name)(smooth()) if name in QUICK else masked(name)
    count, eps = 12 if name in SLOW else COUNT, (0.1,) if name in ATTACKED else ()
    assert TOLD[name] in told(model, count, eps)


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
@pytest.mark.parametrize(
    "name", [n for n in ODD.names() if n not in UNUSUAL or n in ("max-pooled", "bfloat16-weights")]
)
def test_no_odd_model_has_a_flag(name: str) -> None:
    assert told(odd(name), 10, eps=(0.04, 0.1)) == set()


# The limits


def raised(eligible: Tensor, **columns: Tensor) -> list[Flag]:
    """The flags of a sound model but for some columns."""
    suite = load_suite("digits").model_copy(update={"eps": (0.1,), "attacks": ()})
    counts = Counts(*torch.zeros(4, 2, 1, dtype=torch.int64))
    found = flags.raised(suite, eligible, Signs.of({**sound(len(eligible), 1), **columns}), counts)
    return [flag for flag in found if flag.name != "few eligible sources"]


@pytest.mark.parametrize(
    ("sign", "bad", "good", "name"),
    [
        ("along_either", float("nan"), marks.ALONG, "gradients are wrong in part"),
        ("along_either", 0.79, marks.ALONG, "gradients are wrong in part"),
        ("along_latent_either", 0.79, marks.ALONG, "latents without a true gradient"),
        ("along_pixels", 0.79, marks.ALONG, "pixels without a true gradient"),
        ("jump", 0.51, marks.JUMP, "reconstructions jump"),
        ("response", 0.009, marks.RESPONSE, "reconstructions do not follow the image"),
        ("lead", 60.1, marks.LEAD, "categories are too sure"),
    ],
)
def test_a_flag_is_raised_beyond_its_limits_alone(
    sign: str, bad: float, good: float, name: str
) -> None:
    def names(values: Tensor) -> list[str]:
        eligible = torch.ones(12, dtype=torch.bool)
        return [flag.name for flag in raised(eligible, **{f"directional.{sign}": values})]

    values = torch.full((12,), good)
    assert names(values) == []
    values[:3] = bad  # a quarter is the limit
    assert names(values) == []
    values[:4] = bad
    assert names(values) == [name]


def test_the_flag_of_what_is_held_is_raised_beyond_its_limits_alone() -> None:
    response, eligible = torch.full((20,), marks.HELD), torch.ones(20, dtype=torch.bool)
    assert not raised(eligible, response_attacked=response)
    response[:12] = torch.tensor([0.24, float("nan")]).repeat(6)  # six tenths are the limit
    assert not raised(eligible, response_attacked=response)
    response[12] = 0.24
    (flag,) = raised(eligible, response_attacked=response)
    assert (flag.value, flag.limit) == (13 / 20, marks.HOLDS)
    eligible[:7] = False  # those that count alone
    assert not raised(eligible, response_attacked=response)


@pytest.mark.slow
def test_what_a_gate_holds_moves_less_where_attacks_lead() -> None:
    batch = digits(4)
    eligible = torch.tensor([True, True, False, True])
    found = {}
    for name, model in (("vae", zoo("vae")), ("gate", masked("gate"))):
        diagnosis = diagnose(model, batch, eligible, "linf", (0.1,))
        found[name] = attacked_response(model, batch, diagnosis)
        assert found[name][2] == 1  # no attack ran on it
    assert float(found["gate"][eligible].max()) < marks.HELD / 2
    assert float(found["vae"].min()) > marks.HELD


@pytest.mark.slow
def test_a_curve_is_told_what_a_bench_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "SEARCHES", ())
    suite = load_suite("digits-v1").limited(3).with_eps([0.1]).with_attacks(["noise"])
    bench, curved = (
        [flag.name for flag in run(masked("gate"), suite).flags]
        for run in (genrobust.bench, genrobust.minimum_norm)
    )
    assert bench == curved
    assert "reconstructions are held where attacks lead" in curved


def test_the_flag_of_ripples_is_raised_beyond_its_limits_alone() -> None:
    gain, eligible = torch.full((20,), marks.GAIN), torch.ones(20, dtype=torch.bool)
    assert not raised(eligible, smoothed_gain=gain)
    gain[:9] = torch.tensor([0.41, float("nan"), 1.0]).repeat(3)  # nine of twenty are the limit
    assert not raised(eligible, smoothed_gain=gain)
    gain[9] = 0.41
    (flag,) = raised(eligible, smoothed_gain=gain)
    assert (flag.value, flag.limit) == (10 / 20, marks.RIPPLED)
    eligible[:3] = False  # those that count alone
    assert not raised(eligible, smoothed_gain=gain)


def gain_of(model: GenerativeModel, batch: Batch) -> Tensor:
    own, _ = signs._gradients(model, batch)
    return signs._smoothed_gain(model, batch, own)


def test_a_mean_of_gradients_leads_further_through_a_ripple_alone() -> None:
    batch = digits(6)
    rippled, plain = (gain_of(model, batch) for model in (masked("coarse-ripple"), zoo("vae")))
    assert float(rippled.mean()) > marks.GAIN > 2 * float(plain.abs().max())
    alone = gain_of(zoo("vae"), batch[torch.tensor([3])])
    assert torch.allclose(alone, plain[[3]], atol=1e-4)  # whatever else is in the batch


def test_the_flag_of_unreached_codes_is_raised_beyond_its_limits_alone() -> None:
    hidden, eligible = torch.full((20,), marks.HIDDEN), torch.ones(20, dtype=torch.bool)
    hidden[:5] = 0.31
    assert not raised(eligible, **{"directional.unreached": hidden})
    hidden[5] = 1.0
    (flag,) = raised(eligible, **{"directional.unreached": hidden})
    assert (flag.value, flag.limit) == (6 / 20, marks.UNREACHED)
    eligible[:2] = False  # those that count alone
    assert not raised(eligible, **{"directional.unreached": hidden})


def test_what_no_gradient_reaches_is_told_of_each_source_alone() -> None:
    batch = digits(4)
    whole = unreached(Context(masked("hard-label"), batch))
    assert float(whole.min()) > marks.HIDDEN
    alone = unreached(Context(masked("hard-label"), batch[torch.tensor([2])]))
    assert torch.allclose(alone, whole[[2]], atol=1e-4)
    # Gradients of any scale can be followed, and attacks switch what is discrete.
    for model in (zoo("vae"), zoo("jointvae"), odd("quantised"), masked("scaled-gradient")):
        assert float(unreached(Context(model, batch)).max()) == 0.0


class _Once(torch.autograd.Function):
    """A pass backward that autograd does not follow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope


def _backward_once(model: GenerativeModel) -> GenerativeModel:
    def encode(x: Tensor) -> Posterior:
        return model.encode(_Once.apply(x))

    return replace(model, encoder=encode)


def test_a_gradient_without_a_gradient_is_looked_at_number_by_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And raises nothing where the code has too many numbers for that."""
    batch = digits(2)
    assert float(unreached(Context(_backward_once(zoo("vae")), batch)).max()) == 0.0
    hidden = Context(_backward_once(masked("hard-label")), batch)
    found = unreached(hidden)
    assert torch.allclose(found, unreached(Context(masked("hard-label"), batch)), atol=1e-4)
    assert float(found.min()) > marks.HIDDEN
    parts = hidden.source_posterior.parts
    numbers = max(part.relaxed(1.0).flatten(1).shape[1] for part in parts)
    for most, known in ((numbers, True), (numbers - 1, False)):
        monkeypatch.setattr("genrobust.runner.unreached.NUMBERS", most)
        assert bool(unreached(hidden).any()) == known


@pytest.mark.parametrize("name", ["coarse-ripple", pytest.param("gate", marks=pytest.mark.slow)])
def test_draws_hide_no_mask(name: str) -> None:
    """A model that says it is random is looked at with one draw, the same for all images."""
    model, batch = replace(masked(name), draws=2), digits(4)
    honest = replace(zoo("vae"), draws=2)
    eligible = torch.ones(4, dtype=torch.bool)
    for one, is_told in ((model, True), (honest, False)):
        if name == "gate":
            diagnosis = diagnose(one, batch, eligible, "linf", (0.1,))
            held = attacked_response(one, batch, diagnosis)
            assert (float((held < marks.HELD).float().mean()) > marks.HOLDS) == is_told
        else:
            gain = gain_of(one, batch)
            assert (float((gain > marks.GAIN).float().mean()) > marks.RIPPLED) == is_told


def test_the_flag_of_late_gradients_is_raised_beyond_its_limits_alone() -> None:
    along, eligible = torch.full((20,), marks.ALONG), torch.ones(20, dtype=torch.bool)
    along[:5] = 0.79
    assert not raised(eligible, along_attacked=along)
    along[5] = float("nan")
    (flag,) = raised(eligible, along_attacked=along)
    assert flag.name == "gradients are wrong where attacks lead"


def test_the_flag_of_the_way_is_raised_beyond_its_limits_alone() -> None:
    cosine, eligible = torch.full((20,), marks.ALONG), torch.ones(20, dtype=torch.bool)
    cosine[:5] = 0.79
    assert not raised(eligible, followed=cosine)
    cosine[5] = float("nan")
    (flag,) = raised(eligible, followed=cosine)
    assert flag.name == "gradients are wrong on the way of attacks"


@pytest.mark.parametrize("draws", [1, 2])
def test_a_gradient_that_is_right_at_both_ends_alone_is_not_followed(draws: int) -> None:
    """From digit to digit: the border between two classes lies on the way."""
    batch = digits(8)
    ends = batch.x.roll(1, 0)
    plain, moat = (replace(m, draws=draws) for m in (zoo("vae"), masked("moat")))
    assert float(followed(plain, batch, ends).min()) > 0.95
    assert float((followed(moat, batch, ends) < marks.ALONG).float().mean()) > 2 * marks.WRONG
    (at_sources, _) = agreement(Context(masked("moat"), batch))
    assert float((at_sources < marks.ALONG).float().mean()) <= marks.WRONG


def test_what_the_batch_is_does_not_move_what_is_followed() -> None:
    batch = digits(4)
    ends, alone = batch.x.roll(1, 0), torch.arange(1)
    whole = followed(zoo("vae"), batch, ends)
    assert torch.allclose(whole[:1], followed(zoo("vae"), batch[alone], ends[:1]), atol=1e-4)


def test_a_way_of_no_length_is_followed() -> None:
    batch = digits(2)
    assert followed(zoo("vae"), batch, batch.x).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["bfloat16-weights", "coarsely-quantised"])
def test_rounding_on_a_short_way_is_followed(name: str) -> None:
    """Eight bits lose what parts of less than a thousandth do, and not what four of them do."""
    batch, model = digits(), odd(name)
    _, gradient = Problem.of(JudgeMargin(), Context(model, batch)).gradient(batch.x)
    ends = (batch.x - 0.015 * gradient.sign()).clamp(0, 1)
    assert float((followed(model, batch, ends) < marks.ALONG).float().mean()) <= marks.WRONG


def test_a_group_counts_where_its_differences_tell_of_a_slope() -> None:
    """Maxima that change within a difference have no gradient where they are not."""
    context = Context(odd("largest-of-four"), digits(12))
    assert (_by_size(context) < marks.ALONG).float().mean() <= marks.WRONG


def test_rounding_that_hides_short_differences_is_no_lie() -> None:
    """The shorter differences keep their value beside it; the flag goes by the longer ones too."""
    context = Context(odd("bfloat16-weights"), digits())
    along = agreement(context)
    _, latent_either = with_long(context, *along)
    assert (along[1] < marks.ALONG).float().mean() > marks.WRONG
    assert (latent_either < marks.ALONG).float().mean() <= marks.WRONG


def test_a_sound_run_has_no_flag() -> None:
    assert raised(torch.ones(12, dtype=torch.bool)) == []


def test_the_whole_box_flag_is_raised_beyond_its_limit_alone() -> None:
    fooled, eligible = torch.ones(20, dtype=torch.bool), torch.ones(20, dtype=torch.bool)
    fooled[:15] = False
    assert not is_beyond(flags._unbounded(fooled, eligible))
    fooled[15] = False
    flag = flags._unbounded(fooled, eligible)
    assert is_beyond(flag)
    assert flag.name == "stands in the whole box"


def test_damage_that_does_not_grow_is_told_of_what_stands() -> None:
    suite: Suite = load_suite("digits").model_copy(update={"eps": (0.02, 0.04)})
    eligible, count = torch.ones(20, dtype=torch.bool), 20
    still = dict.fromkeys(("clean", "clean_similarity", "constant"), torch.zeros(count))

    def raised(growth: float, standing: int, share: float, suite: Suite = suite) -> bool:
        last = torch.where(torch.arange(count) < share * standing, growth, 2.0)
        damaged = Damaged(**still, attacked_shift=torch.stack([torch.ones(count), last]))
        radius = torch.where(torch.arange(count) < standing, 2, 0)
        return is_beyond(flags._still(suite, damaged, eligible, radius))

    assert raised(1.0, standing=20, share=0.6)
    assert not raised(1.0, standing=20, share=0.5)
    assert raised(1.09, standing=20, share=1.0)
    assert not raised(1.1, standing=20, share=1.0)
    assert raised(float("nan"), standing=20, share=1.0)
    near = suite.model_copy(update={"eps": (0.02, 0.039)})
    assert not raised(1.0, standing=20, share=1.0, suite=near), "not twice as large"
    assert not raised(1.0, standing=10, share=1.0)
    assert raised(1.0, standing=11, share=1.0)


def test_damage_is_not_compared_with_what_a_radius_of_0_leaves() -> None:
    suite: Suite = load_suite("digits")
    still = dict.fromkeys(("clean", "clean_similarity", "constant"), torch.zeros(20))

    def raised(shifts: dict[float, float]) -> bool:
        shift = torch.tensor([*shifts.values()])[:, None].expand(-1, 20)
        run = suite.model_copy(update={"eps": tuple(shifts)})
        found = Damaged(**still, attacked_shift=shift)
        radius = torch.full((20,), len(shifts))
        return is_beyond(flags._still(run, found, torch.ones(20, dtype=torch.bool), radius))

    assert not raised({0.0: 1e-6}), "of rounding"
    assert not raised({0.0: 0.0, 0.04: 1.0})
    assert raised({0.0: 0.0, 0.02: 1.0, 0.04: 1.0})
    assert not raised({0.0: 0.0, 0.02: 1.0, 0.04: 2.0})


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


@pytest.mark.parametrize("looks", [(0.79, 0.8), (0.8,), (0.79, 0.79)])
def test_a_fit_is_made_where_two_looks_disagree(
    looks: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look alone meets a kink of an honest model now and then; a fit takes 8,000 passes."""
    left, seeds = list(looks), []

    def agreement(context: Context) -> tuple[Tensor, Tensor]:
        seeds.append(context.batch.seed)
        return torch.ones(1), torch.tensor([left.pop(0)])

    monkeypatch.setattr(stand_in, "agreement", agreement)
    monkeypatch.setattr(stand_in.StandIn, "_improve", lambda *_: fits.append(1))
    fits: list[int] = []
    _, forwards = standing("stand-in", zoo("vae"), digits(1))
    assert len(fits) == (4 if looks == (0.79, 0.79) else 0)
    assert not left
    assert len(set(seeds)) == len(looks), "each under other noise"
    assert int(forwards[0]) - 33 * len(looks) in range(4)


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
    batch, model = digits(2), masked("pixels-50")

    def x_adv(batch: Batch) -> Tensor:
        given = {"labels": batch.labels, "judge": batch.judge, "sample_ids": batch.sample_ids}
        return genrobust.attack("stand-in", model, batch.x, eps=0.06, rounds=1, **given).x_adv

    alone = x_adv(batch[torch.tensor([1])])
    torch.testing.assert_close(x_adv(batch)[1:2], alone, atol=1e-3, rtol=0)

"""Every flag at its limits: a value at the limit is none of the sign, and the next one is; as many
sources as are allowed raise nothing, and one more does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diagnosed import is_beyond, sound
from torch import Tensor

from genrobust.outcomes import flags
from genrobust.outcomes.marks import misjudged
from genrobust.outcomes.outcome import Counts, Damaged, Signs
from genrobust.rules.line import LINE
from genrobust.suites import AttackEntry, Suite

COUNT = 1000
EPS = (0.0, 0.05, 0.1)

#: Of each sign of single sources: the last value that is none, the way to the first that is, how
#: many of a thousand may bear it, and the flag.
SIGNS = {
    "gradient_norm": (1e-38, 0.0, 100, "gradients vanish"),
    "gradient_cosine": (0.5, -1.0, 250, "gradients are random"),
    "descent_relaxed": (0.1, -1.0, 250, "gradients mislead"),
    "smoothed_gain": (0.4, 1.0, 450, "a smoothed gradient leads further"),
    "directional.along_either": (0.8, -1.0, 250, "gradients are wrong in part"),
    "directional.along_latent_either": (0.8, -1.0, 250, "latents without a true gradient"),
    "directional.along_pixels": (0.8, -1.0, 250, "pixels without a true gradient"),
    "directional.jump": (0.5, 1.0, 250, "reconstructions jump"),
    "directional.response": (0.01, 0.0, 250, "reconstructions do not follow the image"),
    "directional.unreached": (0.3, 1.0, 250, "codes that no gradient reaches"),
    "directional.lead": (60.0, 100.0, 250, "categories are too sure"),
    "along_attacked": (0.8, -1.0, 250, "gradients are wrong where attacks lead"),
    "response_attacked": (0.25, 0.0, 600, "reconstructions are held where attacks lead"),
    "followed": (0.8, -1.0, 250, "gradients are wrong on the way of attacks"),
}


def first(count: int) -> Tensor:
    return torch.arange(COUNT) < count


@pytest.fixture
def suite(small_suite: Suite) -> Suite:
    entries = tuple(AttackEntry(attack=a, goal="untargeted") for a in ("classifier", "square"))
    return small_suite.model_copy(update={"attacks": entries, "eps": EPS})


def names(suite: Suite, tried: int = 0, fell: int = 0, **columns: Tensor) -> list[str]:
    signs = {**sound(COUNT, len(EPS)), **columns}
    counts = torch.zeros(4, len(suite.attacks) + 2, len(EPS), dtype=torch.int64)
    counts[0, 1, 1], counts[1, 1, 1] = tried, fell
    found = flags.raised(suite, first(COUNT), Signs.of(signs), Counts(*counts))
    return [flag.name for flag in found]


@pytest.mark.parametrize("column", SIGNS)
def test_a_sign_begins_right_beyond_its_limit(suite: Suite, column: str) -> None:
    at, towards, _, name = SIGNS[column]
    values = torch.full((COUNT,), at)
    assert names(suite, **{column: values}) == []
    beyond = torch.nextafter(values, torch.tensor(towards))
    assert names(suite, **{column: beyond if at > 1e-37 else 0 * values}) == [name]


@pytest.mark.parametrize("column", SIGNS)
def test_one_source_more_than_may_bear_it_raises_the_flag(suite: Suite, column: str) -> None:
    at, towards, most, name = SIGNS[column]
    for few, told in ((most, []), (most + 1, [name])):
        assert names(suite, **{column: torch.where(first(few), towards, at)}) == told


def fooled(*counts: int) -> Tensor:
    """So many at each radius."""
    return torch.stack([first(count) for count in counts])


def unlike(count: int) -> dict[str, Tensor]:
    """So many of another class on the surrogate than on the deployed path."""
    return {"surrogate_label": torch.where(first(count), -1, torch.arange(COUNT) % 10)}


#: Of what whole attacks give: how many of a thousand may differ, as columns, and the flag.
DIFFER: list[tuple[int, Callable[[int], dict[str, Tensor]], str]] = [
    (100, unlike, "surrogate and deployed path disagree"),
    (100, lambda n: {"probe.stopped": fooled(0, n, 0)}, "surrogate and deployed path disagree"),
    (
        50,
        lambda n: dict.fromkeys(("probe.success", "probe.again"), fooled(0, n, 0)),
        "a larger eps succeeds less",
    ),
    (
        50,
        lambda n: dict.fromkeys(("probe.success", "probe.again"), fooled(0, 900, 900 - n)),
        "a larger eps succeeds less",
    ),
    (250, lambda n: {"probe.again": fooled(0, n, 0)}, "restarts disagree"),
    (
        50,
        lambda n: {"longer.tried": first(COUNT), "longer.success": first(n)},
        "loss still falling at the last step",
    ),
    (750, lambda n: {"probe.unbounded": ~first(n)}, "stands in the whole box"),
]


@pytest.mark.parametrize(("most", "columns", "name"), DIFFER)
def test_one_more_than_may_differ_raises_the_flag(
    suite: Suite, most: int, columns: Callable[[int], dict[str, Tensor]], name: str
) -> None:
    assert names(suite, **columns(most)) == []
    assert names(suite, **columns(most + 1)) == [name]


def test_the_attackers_judge_may_err_of_a_quarter(suite: Suite) -> None:
    signs = sound(COUNT, len(EPS))
    for few, told in ((250, []), (251, ["the attacker's judge errs without an attack"])):
        label = torch.where(first(few), 10, signs["deployed_label"])
        mark = misjudged(Signs.of(signs).guidance, label)
        found = flags._marked(suite, [mark], first(COUNT), None)
        assert [flag.name for flag in found] == told


def test_a_gradient_free_attack_may_break_a_twentieth(suite: Suite) -> None:
    assert names(suite, tried=COUNT, fell=50) == []
    beats = ["a gradient-free attack beats the gradient ones"]
    assert names(suite, tried=COUNT, fell=51) == beats
    assert names(suite, tried=2, fell=1) == []
    assert names(suite, tried=2, fell=2) == beats


def damaged(**changes: Tensor) -> Damaged:
    """Of a thousand sources that are reconstructed and moved by as much as the radius says."""
    ones, table = torch.ones(COUNT), torch.ones(len(EPS), COUNT)
    usual = {"clean": 0 * ones, "constant": ones, "clean_similarity": ones}
    moved = torch.tensor(EPS)[:, None] * table
    return Damaged(**{**usual, "attacked": table, "attacked_shift": moved, **changes})


def told(suite: Suite, what: Damaged, radius: Tensor | None = None) -> list[str]:
    nothing = Counts(*torch.zeros(4, len(suite.attacks) + 2, len(EPS), dtype=torch.int64))
    signs = Signs.of(sound(COUNT, len(EPS)))
    found = flags.raised(suite, first(COUNT), signs, nothing, what, radius)
    return [flag.name for flag in found]


def test_a_quarter_may_be_no_better_reconstructed_than_by_one_picture(suite: Suite) -> None:
    """Which is to be at a part of that picture's distance, or beyond."""
    at = LINE * torch.ones(COUNT, dtype=torch.float64)
    assert told(suite, damaged(clean=at * first(250))) == []
    assert told(suite, damaged(clean=at * first(251))) == ["does not reconstruct"]
    assert told(suite, damaged(clean=at * (1 - 1e-9))) == []


STANDS = len(EPS)


def still(suite: Suite, standing: int, few: int, growth: float, eps: Any = EPS) -> bool:
    """Whether it is told that of those that stand so many move no farther than that."""
    shift = torch.stack([0 * torch.ones(COUNT), *2 * [torch.ones(COUNT)]])
    shift[-1] = torch.where(first(few), growth, 3.0)
    radius = torch.where(first(standing), STANDS, 0)
    found = told(suite.model_copy(update={"eps": eps}), damaged(attacked_shift=shift), radius)
    assert set(found) <= {"damage does not grow with the radius"}
    return bool(found)


def test_what_stands_moves_a_tenth_farther_in_a_ball_twice_as_large(suite: Suite) -> None:
    below = float(torch.nextafter(torch.tensor(1.1), torch.tensor(0.0)))
    assert still(suite, COUNT, 501, below)
    assert not still(suite, COUNT, 501, 1.1)
    assert still(suite, COUNT, 501, float("nan"))
    assert not still(suite, COUNT, 500, below)  # half of them may not
    assert still(suite, 501, 501, below)
    assert not still(suite, 500, 500, below)  # where no more than half stand
    assert not still(suite, 0, 0, below)
    assert not still(suite, COUNT, COUNT, below, eps=(0.0, 0.051, 0.1))  # not twice as large
    nothing = suite.model_copy(update={"eps": (0.0,)})  # nothing moves there
    assert flags._still(nothing, damaged(), first(COUNT), torch.ones(COUNT)) is None
    without = replace(damaged(), attacked_shift=None)
    assert told(suite, without, torch.full((COUNT,), STANDS)) == []


def test_only_eligible_sources_are_asked_whether_they_move(suite: Suite) -> None:
    shift = torch.ones(len(EPS), COUNT)
    radius = torch.full((COUNT,), STANDS)
    eligible = first(600)
    shift[-1, eligible] = 3.0
    assert not is_beyond(flags._still(suite, damaged(attacked_shift=shift), eligible, radius))
    shift[-1] = torch.where(eligible, 1.0, 3.0)
    assert is_beyond(flags._still(suite, damaged(attacked_shift=shift), eligible, radius))


def held(suite: Suite, few: int, standing: int, response: float = 0.49) -> bool:
    """Whether it is told that of those that stand so many are held."""
    signs = {**sound(COUNT, len(EPS)), "response_attacked": torch.ones(COUNT)}
    signs["response_attacked"][:few] = response
    radius = torch.where(first(standing), STANDS, 0)
    return is_beyond(flags._upheld(suite, Signs.of(signs), first(COUNT), radius))


def test_of_what_stands_so_much_may_be_held(suite: Suite) -> None:
    assert held(suite, 251, 251)
    assert not held(suite, 250, 250)  # a quarter of all
    assert held(suite, 601, COUNT)
    assert not held(suite, 600, COUNT)  # six of ten that stand
    assert not held(suite, 601, COUNT, response=0.5)

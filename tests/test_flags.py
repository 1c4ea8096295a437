"""Flags: raised by the sign they are named after, silent on sound models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diagnosed import sound
from torch import Tensor, nn

import genrobust
from genrobust.models import GenerativeModel, ModelCheck
from genrobust.models.wrapping import adapt
from genrobust.outcomes import flags
from genrobust.outcomes.outcome import Counts, Signs
from genrobust.records.record import Flag
from genrobust.suites import AttackEntry, Suite


def outcome(count: int = 40, radii: int = 2, attacks: int = 2) -> dict[str, Tensor]:
    """A run without any sign."""
    success = torch.zeros(radii, count, dtype=torch.bool)
    success[1, : count // 2] = True
    return {
        "eligible": torch.ones(count, dtype=torch.bool),
        **sound(count, radii),
        "gradient_cosine": torch.full((count,), 0.9),
        "longer.tried": torch.ones(count, dtype=torch.bool),
        "longer.success": torch.arange(count) < 1,
        **{"probe.success": success, "probe.again": success.clone()},
        "tried": torch.full((attacks, radii), 30),
        **dict.fromkeys(("forwards", "backwards"), torch.zeros(attacks, radii, dtype=torch.int64)),
        "succeeded": torch.zeros(attacks, radii, dtype=torch.int64),
    }


@pytest.fixture
def suite(small_suite: Suite) -> Suite:
    entries = tuple(AttackEntry(attack=a, goal="untargeted") for a in ("classifier", "square"))
    return small_suite.model_copy(update={"attacks": entries})


def raised(suite: Suite, joined: dict[str, Tensor]) -> tuple[Flag, ...]:
    return flags.raised(suite, joined["eligible"], Signs.of(joined), Counts.of(joined))


def names(suite: Suite, joined: dict[str, Tensor]) -> list[str]:
    return [flag.name for flag in raised(suite, joined)]


def named_with(suite: Suite, joined: dict[str, Tensor], label: Tensor) -> list[str]:
    joined = {**joined, **dict.fromkeys(("surrogate_label", "deployed_label"), label)}
    return named_against(suite, joined, label)


def named_against(suite: Suite, joined: dict[str, Tensor], label: Tensor) -> list[str]:
    found = flags.raised(
        suite, joined["eligible"], Signs.of(joined), Counts.of(joined), label=label
    )
    return [flag.name for flag in found if flag.name != "few eligible sources"]


def test_no_sign_no_flag(suite: Suite) -> None:
    assert names(suite, outcome()) == []


def test_few_eligible_sources(suite: Suite) -> None:
    joined = outcome()
    joined["eligible"][15:] = False
    assert names(suite, joined) == ["few eligible sources"]
    assert names(suite, outcome(count=12)) == ["few eligible sources"]
    joined["eligible"][:] = False
    assert names(suite, joined) == ["few eligible sources"]


@pytest.mark.parametrize(
    ("classes", "lost", "flagged"),
    [(2, 1, True), (2, 0, False), (4, 1, False), (4, 2, True), (10, 2, False), (10, 3, True)],
)
def test_classes_that_are_never_shown(suite: Suite, classes: int, lost: int, flagged: bool) -> None:
    """A decoder that only draws faces without glasses keeps them under any attack."""
    joined, label = outcome(count=100), torch.arange(100) % classes
    joined["eligible"] = label >= lost
    found = named_with(suite, joined, label)
    assert found == (["classes are lost"] if flagged else [])


def test_a_class_is_lost_below_a_tenth_and_counts_from_five_sources_on(suite: Suite) -> None:
    joined, label = outcome(count=60), torch.arange(60) % 2
    ones = (label == 1).nonzero()[:, 0]
    joined["eligible"][ones[3:]] = False
    assert named_with(suite, joined, label) == []  # 3 of 30
    joined["eligible"][ones[2:]] = False
    assert named_with(suite, joined, label) == ["classes are lost"]
    for few, flagged in ((4, False), (5, True)):
        joined, label = outcome(count=60), torch.zeros(60, dtype=torch.int64)
        label[:few] = 1
        joined["eligible"][:few] = False
        assert named_with(suite, joined, label) == ["classes are lost"] * flagged
    assert named_with(suite, joined, torch.zeros(60, dtype=torch.int64)) == []  # no classes to lose


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_vanishing_gradients_on_eligible_sources_alone(suite: Suite, bad: float) -> None:
    joined = outcome()
    joined["eligible"][:5] = False
    joined["gradient_norm"][:5] = bad
    assert names(suite, joined) == []
    joined["gradient_norm"][5:15] = bad
    assert names(suite, joined) == ["gradients vanish"]


def test_a_surrogate_that_shows_something_else(suite: Suite) -> None:
    joined = outcome()
    joined["surrogate_label"][:6] += 1
    assert names(suite, joined) == ["surrogate and deployed path disagree"]


@pytest.mark.parametrize(
    ("rule", "wrong", "flagged"),
    [("agreement", 10, False), ("agreement", 11, True), ("damage", 11, False)],
)
def test_an_attackers_judge_that_errs_before_any_attack(
    suite: Suite, rule: str, wrong: int, flagged: bool
) -> None:
    joined = outcome()
    label = joined["deployed_label"].clone()
    label[:wrong] += 1
    found = named_against(suite.model_copy(update={"rule": rule}), joined, label)
    assert ("the attacker's judge errs without an attack" in found) is flagged


def test_a_larger_radius_that_succeeds_less(suite: Suite) -> None:
    joined = outcome()
    joined["probe.success"] = joined["probe.success"].flip(0)
    joined["probe.again"] = joined["probe.success"]
    (flag,) = raised(suite, joined)
    assert flag.name == "a larger eps succeeds less"
    assert flag.value == pytest.approx(0.5)
    assert "50% at eps 0.05 and 0% at eps 0.2" in flag.evidence


def test_restarts_that_disagree(suite: Suite) -> None:
    joined = outcome()
    joined["probe.again"] = joined["probe.success"].roll(10, dims=1)
    assert names(suite, joined) == ["restarts disagree"]


def test_gradients_that_turn_right_beside(suite: Suite) -> None:
    joined = outcome()
    joined["gradient_cosine"][:10] = 0.1
    assert names(suite, joined) == []
    joined["gradient_cosine"][:11] = 0.1
    assert names(suite, joined) == ["gradients are random"]


@pytest.mark.parametrize("bad", [0.09, 0.0, -3.0, float("nan")])
def test_a_gradient_down_which_the_margin_does_not_fall(suite: Suite, bad: float) -> None:
    joined = outcome()
    joined["descent_relaxed"][:10] = bad
    assert names(suite, joined) == []
    joined["descent_relaxed"][:11] = bad
    (flag,) = raised(suite, joined)
    assert (flag.name, flag.value) == ("gradients mislead", pytest.approx(11 / 40))
    assert flag.evidence.startswith("for 28% of the eligible sources a step of a hundredth")
    joined["descent_promised"][:11] = 10 * bad  # it promised no more
    assert ("gradients mislead" in names(suite, joined)) == (bad != bad)
    joined["gradient_norm"][:11] = 0  # which is another flag's
    assert names(suite, joined) == ["gradients vanish"]


def test_attacks_that_stop_at_the_surrogate(suite: Suite) -> None:
    joined = outcome()
    joined["probe.stopped"][1, :4] = True
    assert names(suite, joined) == []
    joined["probe.stopped"][1, :5] = True
    (flag,) = raised(suite, joined)
    assert flag.name == "surrogate and deployed path disagree"
    assert "at eps 0.2 changes the class of 12% of" in flag.evidence


def test_twice_the_steps_that_break_more(suite: Suite) -> None:
    joined = outcome()
    joined["longer.success"][:3] = True
    (flag,) = raised(suite, joined)
    assert flag.name == "loss still falling at the last step"
    assert "3 of the 40" in flag.evidence


def test_a_gradient_free_attack_that_beats_the_gradient_ones(suite: Suite) -> None:
    joined = outcome()
    joined["succeeded"][1, 0] = 3
    (flag,) = raised(suite, joined)
    assert flag.name == "a gradient-free attack beats the gradient ones"
    assert "3 of the 30" in flag.evidence
    alone = suite.model_copy(update={"attacks": suite.attacks[1:]})
    joined["tried"], joined["succeeded"] = joined["tried"][1:], joined["succeeded"][1:]
    assert names(alone, joined) == []


def test_one_source_alone_beats_no_attack(suite: Suite) -> None:
    """Of ten one is a tenth, and yet it may be chance."""
    for few in (1, 2):
        joined = outcome()
        joined["longer.success"] = torch.arange(40) < few
        joined["eligible"][10:] = False
        joined["tried"][1, 1], joined["succeeded"][1, 1] = 10, few
        found = {name for name in names(suite, joined) if name != "few eligible sources"}
        beaten = {
            "loss still falling at the last step",
            "a gradient-free attack beats the gradient ones",
        }
        assert found == (beaten if few == 2 else set())


@pytest.mark.parametrize(
    ("eligible", "sources", "flagged"),
    [(20, 20, False), (19, 19, True), (20, 40, False), (20, 41, True), (30, 60, False)],
)
def test_twenty_eligible_sources_and_half_of_them_all_are_enough(
    suite: Suite, eligible: int, sources: int, flagged: bool
) -> None:
    joined = outcome(count=sources)
    joined["eligible"] = torch.arange(sources) < eligible
    assert names(suite, joined) == ["few eligible sources"] * flagged


def test_a_larger_eps_that_succeeds_more_is_no_sign(suite: Suite) -> None:
    joined = outcome()
    joined["probe.success"][1] = True
    joined["probe.again"] = joined["probe.success"].clone()
    assert names(suite, joined) == []


class Rounded(nn.Module):
    """A sound VAE whose reconstruction is rounded to black and white with a sliver of gradient."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.inner = genrobust.load_model("vae").module

    def encode(self, x: Tensor) -> object:
        return self.inner.encode((x * 8).round() / 8)  # type: ignore[operator]

    def decode(self, z: Tensor) -> Tensor:
        return self.inner.decode(z)  # type: ignore[operator]


@pytest.mark.slow
def test_a_rounding_model_is_flagged_when_measured_and_a_sound_one_is_not(
    small_suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrobust.runner.prepare.check_model", passing_check)
    quick = small_suite.model_copy(
        update={"attacks": (AttackEntry(attack="noise", goal="untargeted"),)}
    )
    masked = genrobust.bench(adapt(Rounded()), quick)
    assert "gradients vanish" in [flag.name for flag in masked.flags]
    sound = genrobust.bench("vae", quick)
    assert "gradients vanish" not in [flag.name for flag in sound.flags]


REORDERED = """
import genrobust
from torch import nn

class Reordered(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = genrobust.load_judge("digits", "lenet").module

    def forward(self, x):
        return self.inner(x).roll(1, 1)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the judge:genrobust.errors.GenrobustWarning")
def test_attacks_by_a_judge_whose_classes_are_in_another_order_are_told(tmp_path: Path) -> None:
    """They stop where they start: robust accuracy was 75 points too high, and no flag said so."""
    (tmp_path / "reordered.py").write_text(REORDERED)
    judges = (f"{tmp_path / 'reordered.py'}:Reordered", "vgg", "resnet")
    record = genrobust.bench("vae", "digits", attacks=("noise",), limit=20, judge=judges)
    assert "the attacker's judge errs without an attack" in [flag.name for flag in record.flags]


def passing_check(model: GenerativeModel, x: Tensor) -> ModelCheck:
    """What a model without gradients would meet first is the check: step over it."""
    return ModelCheck(model, "latents", 10, 0.0, 1.0, 0.0)

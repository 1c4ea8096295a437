"""What the signs of masked gradients measure, in closed form, on either side of each limit."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import genrobust
from genrobust.attacks import make_attack
from genrobust.attacks.differences import DECLARED_STEP, STEP, directions, textured
from genrobust.batch import Batch
from genrobust.posterior import Categorical, Codebook
from genrobust.runner import directional, signs
from genrobust.suites import AttackEntry
from genrobust.threat import ThreatModel


def context_of(x: Tensor, **model: Any) -> Any:
    """Of a deterministic model that is its code, and of what else a test says of it."""
    batch = SimpleNamespace(x=x, sample_ids=range(len(x)), seed=0, judge=None)
    given = {"deploy": None, "decode": lambda z: z, "encode": code_of, **model}
    return SimpleNamespace(
        model=model_of(**given),
        batch=batch,
        source_posterior=SimpleNamespace(is_discrete=False),
    )


def model_of(draws: int = 1, **known: Any) -> Any:
    """What a test says of a model, which draws nothing."""
    return SimpleNamespace(draws=draws, keyed=lambda *key: nullcontext(), **known)


def code_of(x: Tensor) -> Any:
    return SimpleNamespace(relaxed=lambda: x)


# Along short ways


def test_a_way_is_cut_in_four_and_seven_times_in_half_where_it_moves_most() -> None:
    x, way = torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1)

    def jumps(image: Tensor) -> Tensor:
        """At a third of the way, or at 0.9 of it, by 2 beside a slope of 1."""
        t = image.flatten(1)
        return t + 2 * (t > torch.tensor([[1 / 3], [0.9]]))

    smooth = directional._jump(lambda image: image.flatten(1), x, way)
    assert smooth.tolist() == pytest.approx([1 / (4 * 2**7)] * 2, rel=1e-4)
    assert directional._jump(jumps, x, way).tolist() == pytest.approx([2 + 1 / 512] * 2, rel=1e-4)


@pytest.mark.parametrize(("height", "expected"), [(0.01, 0.5), (0.019, 0.95), (0.021, 1.0)])
def test_a_jump_of_less_than_a_fiftieth_of_the_reconstruction_counts_by_its_part(
    height: float, expected: float
) -> None:
    """The reconstruction has length 1 at the source, and nothing but the jump moves it."""
    x = torch.full((1, 1, 1, 1), 0.5)
    noise = float(directions(x.shape[1:])[0].sign())

    def jumps(towards: float) -> tuple[Tensor, Tensor]:
        def reconstruct(image: Tensor) -> Tensor:
            one = image.flatten(1)
            fell = height * (towards * (one - 0.5) > 0.037)
            return torch.cat([torch.ones_like(one), fell], 1).view(-1, 1, 1, 2)

        # The margin falls that way, and the noise leads one way.
        gradient = torch.full_like(x, -towards)
        return directional._ways(context_of(x, reconstruct=reconstruct), gradient)

    for towards, moved in ((noise, height), (-noise, 0.0)):
        jump, response = jumps(towards)
        assert float(jump) == pytest.approx(expected, rel=1e-4)
        assert float(response) == pytest.approx(moved / 0.1, rel=1e-4)


def test_the_lead_is_the_least_of_all_choices() -> None:
    first = torch.tensor([[3.0, 1.0, 2.5], [0.0, 4.0, 1.0]])
    second = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    context: Any = SimpleNamespace(
        source_posterior=SimpleNamespace(parts=(Categorical(first), Categorical(second)))
    )
    lead = [(part.log_softmax(1).topk(2, 1).values * torch.tensor([1.0, -1.0])).sum(1)
            for part in (first, second)]  # fmt: skip
    expected = torch.stack(lead).amin(0)
    assert expected.tolist() == pytest.approx([0.5, 2.0])
    torch.testing.assert_close(directional._lead(context), expected)


def test_a_part_says_itself_whether_its_scores_are_logits() -> None:
    class Logits(Codebook):
        scores_are_logits = True

    features, codebook = torch.tensor([[0.25], [0.5]]), torch.tensor([[0.0], [1.0]])
    leads = []
    for kind in (Codebook, Logits):
        parts = (kind(features, codebook),)
        batch = Batch(torch.rand(2, 1, 2, 2), (0, 1))
        context: Any = SimpleNamespace(source_posterior=SimpleNamespace(parts=parts), batch=batch)
        leads.append(directional._lead(context).tolist())
    assert leads == [[0.0, 0.0], [0.5, 0.0]]


# Against differences


@pytest.mark.parametrize(
    ("short", "step", "expected"),
    [
        ((0.91, 0.91), STEP, (0.91, 0.91)),
        ((0.89, 0.95), STEP, (1.0, 0.95)),  # the longer ones give 1 and 0.2
        ((0.95, float("nan")), STEP, (1.0, 0.2)),
        ((0.89, 0.95), DECLARED_STEP, (0.89, 0.95)),  # they were as long already
    ],
)
def test_longer_differences_speak_where_short_ones_are_below_nine_tenths(
    short: tuple[float, float],
    step: float,
    expected: tuple[float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    longer = (torch.ones(1), torch.full((1,), 0.2))
    monkeypatch.setattr(directional, "agreement", lambda context, step: longer)
    monkeypatch.setattr(directional, "step_for", lambda model: step)
    context: Any = type("Cut", (), {"model": None, "__getitem__": lambda self, positions: self})()
    found = directional.with_long(context, *(torch.tensor([cosine]) for cosine in short))
    assert [float(cosine) for cosine in found] == pytest.approx(expected)


def by_size(
    monkeypatch: pytest.MonkeyPatch, slope: float, backward: float, others: float = 1.0
) -> float:
    """Of four pixels, each a group, one goes up by ``slope`` and back by another, and is promised
    to fall; the others do as is promised."""
    x = torch.full((1, 1, 2, 2), 0.5)
    context = context_of(x)
    signs_of = directions(x.shape[1:])[: directional.EACH].flatten(1)
    wrong = next(i for i in range(4) if signs_of[:, i].sum() == 0)
    centre = textured(context.batch, STEP).flatten()
    promised = torch.tensor([1.0, 2, 3, 4])
    promised[wrong] *= -1

    def margin(image: Tensor, _: Any) -> Tensor:
        pixels = image.flatten(1)
        away = pixels - centre
        does = others * away.sum(1) - others * away[:, wrong]
        up, back = away[:, wrong].clamp_min(0), away[:, wrong].clamp_max(0)
        value = (does + slope * up + backward * back).detach()
        return value + ((pixels - pixels.detach()) * promised).sum(1)

    monkeypatch.setattr(directional, "judge_margin", margin)
    return float(directional._by_size(context))


@pytest.mark.parametrize(("slope", "expected"), [(0.3, 1.0), (0.37, -1.0)])
def test_a_group_of_pixels_counts_from_a_tenth_of_what_all_do(
    slope: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its part is slope / (slope + 3): 0.09, or 0.11."""
    assert by_size(monkeypatch, slope, slope) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("ratio", "expected"), [(1.9, -1.0), (2.1, 1.0)])
def test_a_group_counts_where_differences_ahead_and_behind_agree(
    ratio: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of half the directions ahead is up: the cosine is 2 r / (1 + r^2), which is 0.8 at r = 2."""
    assert by_size(monkeypatch, ratio, 1.0) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("side", "wrong"), [(1, False), (2, True), (4, True)])
def test_a_gradient_that_is_right_on_average_over_blocks_alone_is_told_of_large_images(
    side: int, wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directions that move blocks of 4 by 4 together cannot tell it from the true one."""
    shape = torch.Size((3, 64, 64))
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    blocks = F.interpolate(F.avg_pool2d(weights[None], side), scale_factor=float(side))[0]
    along = directions(shape)[:2]
    torch.testing.assert_close((along * blocks).sum((1, 2, 3)), (along * weights).sum((1, 2, 3)))

    def margin(image: Tensor, _: Any) -> Tensor:
        true = (image.double() * weights).flatten(1).sum(1)
        passed = (image.double() * blocks).flatten(1).sum(1)
        return true.detach() + passed - passed.detach()

    monkeypatch.setattr(directional, "judge_margin", margin)
    found = directional._by_size(context_of(torch.full((2, *shape), 0.5)))
    assert ((found < 0.8) == wrong).all()


# What short runs tell


@pytest.mark.parametrize(("votes", "fooled"), [((1, 1, 0, 0), False), ((1, 1, 1, 0), True)])
def test_a_judge_is_fooled_by_more_than_half_of_the_draws(
    votes: tuple[int, ...], fooled: bool
) -> None:
    left = list(votes)
    model = model_of(draws=4, reconstruct=lambda x: x)
    judge = SimpleNamespace(labels=lambda image: torch.tensor([left.pop()]))
    batch: Any = SimpleNamespace(judge=judge, labels=torch.tensor([0]), x=torch.zeros(1), seed=0)
    found: Any = SimpleNamespace(success=torch.tensor([not fooled]), x_adv=torch.zeros(1))
    assert signs._fools(model, batch, found).tolist() == [fooled]


def test_a_surrogate_is_fooled_by_a_logit_or_more(monkeypatch: pytest.MonkeyPatch) -> None:
    margins = torch.tensor([-1.0, -0.99, 0.5])
    monkeypatch.setattr(signs, "judge_margin", lambda image, context: margins)
    monkeypatch.setattr(signs, "Context", lambda model, batch: None)
    model = model_of(surrogate=lambda x, kind: x)
    batch: Any = SimpleNamespace(seed=0)
    assert signs._fools_surrogate(model, batch, margins).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("own", "led", "expected"),
    [
        (3.0, 1.0, 1.0),  # the margin stands at 3: its own gradient gives nothing, the mean two
        (2.0, 1.0, 0.5),
        (4.0, 1.0, 1.0),  # going up is no worse than standing
        (3.0, 2.5, 0.5),  # of a logit at least
        (1.0, 2.0, -1.0),
    ],
)
def test_the_gain_is_the_part_of_the_smoothed_fall_that_the_own_step_misses(
    own: float, led: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.full((1, 1, 1, 2), 0.5)
    beside, steps = list[Tensor](), list[Tensor]()

    def slope(model: Any, batch: Any, at: Tensor) -> Tensor:
        beside.append(at - x)
        return torch.tensor([-3.0, 4.0]).view_as(x)

    def margin(model: Any, batch: Any, step: Tensor) -> Tensor:
        steps.append(step)
        return torch.tensor([[own, led, 3.0][len(steps) - 1]])

    monkeypatch.setattr(signs, "_slope", slope)
    monkeypatch.setattr(signs, "_deployed_margin", margin)
    batch: Any = context_of(x).batch
    model = model_of()
    found = signs._gain(model, batch, torch.ones_like(x))
    assert float(found) == pytest.approx(expected)
    assert len(beside) == signs.BESIDE
    assert 0.02 < max(float(one.abs().max()) for one in beside) <= 0.03
    expected_steps = [[-0.03, -0.03], [0.03, -0.03], [0.0, 0.0]]
    for step, wanted in zip(steps, expected_steps, strict=True):
        assert step.flatten().tolist() == pytest.approx(wanted, abs=1e-6)


def test_the_longer_attack_is_the_suites_own_with_twice_its_steps() -> None:
    usual = make_attack("classifier", {}).settings()["steps"]
    targeted = AttackEntry(attack="classifier", goal="targeted", settings={"steps": 3})
    other = AttackEntry(attack="latent", goal="untargeted", settings={"steps": 4})
    own = AttackEntry(attack="classifier", goal="untargeted", settings={"steps": 15})
    assert signs.longer_attack([targeted, other]).settings()["steps"] == 2 * usual
    assert signs.longer_attack([targeted, other, own]).settings()["steps"] == 30


def test_a_short_attack_has_stopped_early_where_the_surrogate_alone_is_fooled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.zeros(3, 1, 2, 2)
    batch = Batch(x=x, sample_ids=(0, 1, 2), seed=4)
    threats: list[ThreatModel] = []

    def attack(model: None, part: Batch, threat: ThreatModel) -> Any:
        threats.append(threat)
        return SimpleNamespace(
            x_adv=part.x + threat.eps, forwards=torch.tensor([1, 1]), backwards=torch.tensor([1, 1])
        )

    monkeypatch.setattr(signs, "guidance_of", lambda model, batch: None)
    monkeypatch.setattr(signs, "Classifier", lambda **settings: attack)
    monkeypatch.setattr(signs, "_fools", lambda *_: torch.tensor([True, False]))
    monkeypatch.setattr(signs, "_fools_surrogate", lambda *_: torch.tensor([True, True]))
    monkeypatch.setattr(signs, "_fools_unbounded", lambda *_: torch.tensor([False, True]))
    eligible = torch.tensor([True, False, True])
    model: Any = None
    found = signs.diagnose(model, batch, eligible, "linf", (0.1, 0.2))
    short = found.short
    assert short.stopped.tolist() == [[False, False, True]] * 2
    assert short.unbounded.tolist() == [False, False, True]
    assert [threat.eps for threat in threats] == [0.1, 0.1, 0.2, 0.2]
    assert [float(one.max()) for one in found.x_adv] == pytest.approx([0.1, 0.2])
    assert found.forwards.tolist() == [4, 4]


def test_gradients_are_looked_at_again_where_the_largest_ball_led(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the margin and of the latents the least counts; 1 where no short attack was run."""
    together: list[int] = []

    def agreement(part: Batch) -> tuple[Tensor, Tensor]:
        together.append(len(part))
        margin, latents = part.x.flatten(1).T
        return margin, latents

    monkeypatch.setattr(signs, "Context", lambda model, part: part)
    monkeypatch.setattr(signs, "agreement", agreement)
    monkeypatch.setattr(signs, "with_long", lambda part, *short: short)
    last = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.5, 0.5], [0.3, 0.4]])
    positions = torch.tensor([0, 1, 2, 4, 5])
    diagnosis: Any = SimpleNamespace(
        positions=positions, x_adv=[torch.zeros(5, 1, 1, 2), last.view(5, 1, 1, 2)]
    )
    batch = Batch(torch.zeros(6, 1, 1, 2), sample_ids=tuple(range(6)))
    model = model_of()
    found = signs.attacked_agreement(model, batch, diagnosis)
    assert found.tolist() == pytest.approx([0.1, 0.2, 0.6, 1.0, 0.5, 0.3])
    assert together == [4, 1]


def test_the_unbounded_attack_may_change_every_pixel_as_it_likes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []

    def apgd(problem: None, x: Tensor, threat: ThreatModel, steps: int) -> Any:
        given.extend((threat, steps))
        return SimpleNamespace(x=1 - x, loss=None)

    monkeypatch.setattr(signs, "apgd", apgd)
    monkeypatch.setattr(signs, "Context", lambda model, batch: None)
    monkeypatch.setattr(signs, "Problem", SimpleNamespace(of=lambda objective, context: None))
    monkeypatch.setattr(signs, "attacker_success", lambda context, x: x.flatten(1).all(1))
    model = model_of()
    judge: Any = object()
    x, labels = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.tensor([0, 0])
    batch = Batch(x, sample_ids=(0, 1), labels=labels, judge=judge)
    assert signs._fools_unbounded(model, batch).tolist() == [True, False]
    assert given == [ThreatModel("linf", 1.0), signs.UNBOUNDED_STEPS]


def test_gradients_count_in_units_of_their_largest_entry() -> None:
    gradient = torch.tensor([[3e-30, -6e-30], [0.0, 0.0], [2e20, 1e20]])
    assert signs._in_units(gradient).tolist() == [[0.5, -1], [0, 0], [1, 0.5]]


def test_of_a_random_model_the_gain_is_the_median_of_three_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gains = [torch.tensor([gain]) for gain in (0.9, 0.2, 0.3)]
    monkeypatch.setattr(signs, "_gain", lambda *_: gains.pop(0))
    monkeypatch.setattr(signs, "_slope", lambda *_: None)
    batch = Batch(torch.zeros(1, 1, 1, 1), sample_ids=(0,))
    model = genrobust.load_model("vae")
    found = signs._smoothed_gain(replace(model, draws=2), batch, batch.x)
    assert float(found) == pytest.approx(0.3)
    blind = replace(model, differentiable=False)
    assert float(signs._smoothed_gain(blind, batch, batch.x)) == 0


def test_gradients_are_compared_with_those_a_thousandth_further_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signs, "_slope", lambda model, batch, x: x)
    x = torch.tensor([0.0, 0.5, 0.6, 1.0]).repeat(8, 1).view(8, 1, 2, 2)
    model: Any = None
    here, beside = signs._gradients(model, context_of(x).batch)
    assert torch.equal(here, x)
    inwards = (beside - x) * torch.tensor([1.0, 1, -1, -1]).view(1, 1, 2, 2)
    assert float(inwards.min()) >= 0
    assert 8e-4 < float(inwards.max()) <= 1e-3 + 1e-7


def test_attacked_images_are_shaken_as_their_sources_are() -> None:
    x = torch.full((3, 1, 2, 2), 0.5)
    seen: list[Tensor] = []

    def reconstruct(image: Tensor) -> Tensor:
        """Steep at the sources, half as steep at one attacked image, flat at the other."""
        seen.append(image)
        away = image - 0.5
        slope = torch.where(away.abs().amax((1, 2, 3)) > 0.1, 0.5, 1.0).view(-1, 1, 1, 1)
        return slope * image * (image.mean((1, 2, 3)) < 0.9).view(-1, 1, 1, 1)

    class Rows:
        def __init__(self, x: Tensor, sample_ids: list[int]) -> None:
            self.x, self.sample_ids, self.seed, self.labels = x, sample_ids, 0, None

        def __len__(self) -> int:
            return len(self.x)

        def __getitem__(self, positions: Tensor) -> Rows:
            return Rows(self.x[positions], [self.sample_ids[i] for i in positions.tolist()])

    attacked = torch.stack([x[0] + 0.2, x[1] + 0.45])
    diagnosis: Any = SimpleNamespace(positions=torch.tensor([0, 2]), x_adv=[x[:2], attacked])
    model = model_of(reconstruct=reconstruct)
    batch: Any = Rows(x, [0, 1, 2])
    found = signs.attacked_response(model, batch, diagnosis)
    assert found.tolist() == pytest.approx([0.5, 1.0, 0.0], rel=1e-4)
    assert float((seen[0] - 0.5).abs().min()) == pytest.approx(0.03, abs=1e-6)

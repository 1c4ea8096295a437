"""The strength that is stated is the one that is used: budgets, bounds, starts, and what counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from brief_signs import brief_signs
from diagnosed import before_attacks
from evidence_runs import registered
from scipy.stats import binomtest
from torch import Tensor, nn

import genrobust
from genrobust.attacks import ATTACKS, Attack, make_attack
from genrobust.batch import Batch, Context
from genrobust.evidence.bundle import EVIDENCE, Evidence, read_evidence
from genrobust.evidence.checks import RejectionError
from genrobust.judges import Judge
from genrobust.objectives.code_switch import LEAD, CodeSwitch
from genrobust.objectives.output import OutputDistance
from genrobust.optimizers import Minimum, Problem
from genrobust.outcomes import flags
from genrobust.outcomes.outcome import GOALS, Broken, Counts
from genrobust.posterior import Categorical, Posterior
from genrobust.records.record import Estimate
from genrobust.runner.execute import silent
from genrobust.runner.measure import Baseline
from genrobust.runner.perturbation import images_of, quantise
from genrobust.runner.plan import ShardSpec
from genrobust.runner.scorer import Scorer
from genrobust.runner.signs import diagnose
from genrobust.suites import AttackEntry, load_suite
from genrobust.threat import ThreatModel
from genrobust.verify import reattack
from genrobust.verify.reattack import Choice, check_fresh
from genrobust.verify.replay import Replay, prepared_for, replay

# The re-attack has twice the budget, and refuses a claim as soon as it is beaten


@pytest.fixture
def evidence(tiny_run: Path) -> Evidence:
    return read_evidence(tiny_run / EVIDENCE)


@pytest.fixture(scope="module")
def replayed(tiny_run: Path) -> Replay:
    with registered():
        found = read_evidence(tiny_run / EVIDENCE)
        prepared = prepared_for(found, found.load_model(), 1, None)
        return replay(found, prepared, silent)


class _StopError(Exception):
    """Ends a re-attack once it is known what it would run."""


@pytest.mark.parametrize(
    ("entry", "budget"),
    [
        (AttackEntry(attack="classifier", goal="untargeted", settings={"steps": 10}), 20),
        (AttackEntry(attack="classifier", goal="targeted"), 200),
        (AttackEntry(attack="square", goal="untargeted", settings={"queries": 5}), 10),
        (AttackEntry(attack="noise", goal="untargeted"), None),
    ],
    ids=lambda value: value.label if isinstance(value, AttackEntry) else "",
)
def test_a_fresh_attack_has_twice_the_steps_and_queries(
    entry: AttackEntry, budget: int | None, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ShardSpec] = []

    def run(specs: list[ShardSpec], *_: object) -> None:
        asked.extend(specs)
        raise _StopError

    monkeypatch.setattr(reattack, "_run", run)
    suite = evidence.record.suite.model_copy(update={"attacks": (entry,)})
    given = replace(evidence, record=evidence.record.model_copy(update={"suite": suite}))
    found: Any = Replay(given, None, None, None)  # type: ignore[arg-type]
    with pytest.raises(_StopError):
        check_fresh(found, None, Choice(7, (0,), (0, 1)), lambda *_: None)  # type: ignore[arg-type]
    (spec,) = asked
    (attack,) = spec.attacks
    assert spec.seed == 7
    used = make_attack(attack.attack, attack.settings).settings()
    assert used.get("steps", used.get("queries")) == budget
    usual = make_attack(entry.attack, entry.settings).settings()
    others = usual.keys() - {"steps", "queries"}
    assert {name: used[name] for name in others} == {name: usual[name] for name in others}


def claiming(evidence: Evidence, *rates: Estimate) -> Evidence:
    """The evidence with another as_ignore_target at each radius."""
    scores = evidence.record.scores
    per_eps = tuple(
        at.model_copy(update={"as_ignore_target": rate})
        for at, rate in zip(scores.per_eps, rates, strict=True)
    )
    claimed = scores.model_copy(update={"per_eps": per_eps})
    return replace(evidence, record=evidence.record.model_copy(update={"scores": claimed}))


HALF = Estimate(value=0.5, low=0.4, high=0.6, n=100)
NONE = Estimate(value=0.0, low=0.0, high=0.0, n=100)


def is_refused(check: Callable[..., None], *given: Any, **how: Any) -> bool:
    try:
        check(*given, **how)
    except RejectionError:
        return True
    return False


def refuses(evidence: Evidence, broken: list[tuple[int, int]], all_tried: bool) -> bool:
    return is_refused(reattack._require_within, evidence, broken, all_tried=all_tried)


@pytest.mark.parametrize(
    ("rate", "tried", "most"),
    [(HALF, 50, 10), (NONE, 100, 3)],
    ids=["to its interval's end", "to the rule of three where it has no width"],
)
def test_a_claim_is_refused_one_source_past_what_it_allows(
    rate: Estimate, tried: int, most: int, evidence: Evidence
) -> None:
    for place in (0, 1):
        rates = [NONE, NONE]
        rates[place] = rate
        claimed = claiming(evidence, *rates)
        for fell, wanted in ((most, False), (most + 1, True)):
            broken = [(100, 0), (100, 0)]
            broken[place] = (tried, fell)
            assert refuses(claimed, broken, all_tried=True) == wanted, (place, fell)


def test_a_sample_refuses_as_soon_as_its_least_is_past_the_interval(evidence: Evidence) -> None:
    """The least is the lower end of the exact interval of Clopper & Pearson."""
    claimed, tried = claiming(evidence, HALF, NONE), 40

    def least(fell: int) -> float:
        return float(binomtest(fell, tried).proportion_ci(0.95, "exact").low)

    first = next(n for n in range(tried + 1) if 0.5 + 0.5 * least(n) > 0.6)
    assert 0.6 < 0.5 + 0.5 * least(first) < 0.65, "a tolerance of 5 points would pass it"
    assert refuses(claimed, [(tried, first), (0, 0)], all_tried=False)
    assert not refuses(claimed, [(tried, first - 1), (0, 0)], all_tried=False)


# What a re-attack counts, of which sources, and at which radius


def with_radii(evidence: Evidence, radius: Tensor) -> Evidence:
    """The evidence with other radii, the same for each goal, and all sources eligible."""
    changed = {f"{prefix}radius": radius for prefix in GOALS.values()}
    eligible = torch.ones_like(evidence.tensors["eligible"])
    return replace(evidence, tensors={**evidence.tensors, **changed, "eligible": eligible})


def test_what_falls_at_a_radius_counts_there_and_at_larger_ones(evidence: Evidence) -> None:
    """A third of the sources fall at each of the two radii, and a third at none; of each third
    another attack breaks some at the first, some at the second, and some at none."""
    places = torch.arange(24)
    claimed, reached = places // 8, places % 3
    given = with_radii(evidence, claimed)
    chosen = (claimed > 0).nonzero()[:, 0]
    both = {"untargeted": reached[chosen], "targeted": torch.full_like(chosen, 2)}
    found = reattack._broken(given, chosen, both)
    # Of 8 to 23, five are multiples of 3; of 16 to 23, five leave a rest of 0 or 1.
    assert found == {"untargeted": [(16, 5), (8, 5)], "targeted": [(16, 0), (8, 0)]}


@pytest.mark.parametrize("all_tried", [False, True], ids=["a sample", "all sources"])
def test_what_a_sample_loses_by_chance_is_refused_of_all_sources(
    all_tried: bool, replayed: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of twelve that stand falls: of a sample the least that this shows is next to nothing."""
    radius = torch.arange(24) % 2
    evidence = with_radii(replayed.evidence, radius)
    half = Estimate(value=0.5, low=0.48, high=0.52, n=24)
    found = replace(replayed, evidence=claiming(evidence, half, half))
    able = radius.nonzero()[:, 0]
    lowest = torch.full((24,), 2)
    lowest[able[0]] = 0
    prepared: Any = None
    if all_tried:
        both = {"untargeted": lowest, "targeted": lowest}
        monkeypatch.setattr(reattack, "_lowest_radii", lambda *_: both)
        with pytest.raises(RejectionError, match=r"at eps 0\.04, 1 of 12 sources"):
            reattack.check_transfers(found, [], lambda *_: None)
        return
    fresh = Broken(lowest[able], torch.zeros(12))
    again = [SimpleNamespace(goals={"untargeted": fresh, "targeted": fresh})]
    monkeypatch.setattr(reattack, "_run", lambda *_: again)
    check_fresh(found, prepared, Choice(7, (0,), tuple(able.tolist())), lambda *_: None)


def said_to_need_more(found: Replay) -> Replay:
    """The replay with all that broke at the first radius said to break at the second alone."""
    evidence, suite = found.evidence, found.evidence.record.suite
    threats = [ThreatModel(suite.norm, eps) for eps in suite.eps]
    assert found.outcome.clean is not None
    x, changed = found.outcome.clean.source, {}
    for goal, broken in evidence.outcome.goals.items():
        images = images_of(broken, x, threats)
        changed[f"{GOALS[goal]}radius"] = broken.radius.clamp_min(1)
        changed[f"{GOALS[goal]}perturbation"] = quantise(images, x, threats[1])
    claimed = replace(evidence, tensors={**evidence.tensors, **changed})
    return replace(found, evidence=claiming(claimed, NONE, NONE))


def test_an_image_that_breaks_in_a_smaller_ball_too_is_found_by_cutting_it(
    replayed: Replay,
) -> None:
    fell = int((replayed.evidence.outcome.untargeted.radius == 0).sum())
    assert fell >= 4
    with pytest.raises(RejectionError, match=rf"at eps 0\.04, ({fell}|{fell - 1}) of 24 sources"):
        reattack.check_transfers(said_to_need_more(replayed), [], lambda *_: None)


def test_images_are_cut_to_the_ball_of_each_smaller_radius(replayed: Replay) -> None:
    """Under L2, where the nearest image of a smaller ball is not that with smaller steps."""
    assert replayed.outcome.clean is not None
    x, threats = replayed.outcome.clean.source, [ThreatModel("l2", eps) for eps in (0.5, 2.0)]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    steps = quantise(threats[1].project(x + noise, x), x, threats[1])
    radius = torch.ones(24, dtype=torch.int64)
    evidence = with_radii(replayed.evidence, radius)
    tensors = {f"{prefix}perturbation": steps for prefix in GOALS.values()}
    suite = evidence.record.suite.model_copy(update={"norm": "l2", "eps": (0.5, 2.0)})
    record = evidence.record.model_copy(update={"suite": suite})
    evidence = replace(evidence, record=record, tensors={**evidence.tensors, **tensors})
    smaller, own = reattack._own_cut(replace(replayed, evidence=evidence))
    for goal in GOALS:
        assert smaller[goal].radius.tolist() == [0] * 24
        cut = images_of(smaller[goal], x, threats)
        moved = threats[0].distance(cut, x)
        assert (moved <= 0.5 + 1e-4).all()
        assert (moved > 0.49).all(), "the whole of the smaller ball is used"
        assert own[goal].radius.tolist() == [2] * 24, "no ball is left to cut to"


def test_what_reached_one_goal_elsewhere_is_tried_for_both(
    replayed: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another entry has nothing for any class, and this one's broken images for the target."""
    honest = replayed.evidence.outcome.goals
    nothing = Broken(torch.full((24,), 2), torch.zeros_like(honest["untargeted"].perturbation))
    others = [
        {"untargeted": nothing, "targeted": honest["untargeted"]},
        {"untargeted": nothing, "targeted": nothing},
    ]
    given = {Path("one"): others[0], Path("two"): others[1]}
    monkeypatch.setattr(reattack, "_goals_of", lambda path, evidence: given[path])
    standing = {f"{prefix}radius": nothing.radius for prefix in GOALS.values()}
    standing |= {f"{prefix}perturbation": nothing.perturbation for prefix in GOALS.values()}
    evidence = replace(replayed.evidence, tensors={**replayed.evidence.tensors, **standing})
    found = replace(replayed, evidence=claiming(evidence, NONE, NONE))
    fell = int((honest["untargeted"].radius == 0).sum())
    for order in ([*given], [*given][::-1]):
        with pytest.raises(RejectionError, match=rf"at eps 0\.04, {fell} of 24 sources"):
            reattack.check_transfers(found, order, lambda *_: None)


@pytest.mark.parametrize(
    "other",
    [
        *({"dataset": "mnist"}, {"split": "train"}, {"data_sha256": "0" * 64}, {"norm": "l2"}),
        *({"eps": (0.04, 0.2)}, {"sample_ids": (*range(1, 25),)}, {"target_ids": (*range(24),)}),
        {"name": "other", "resamples": 7, "attacks": ()},
    ],
    ids=lambda other: next(iter(other)),
)
def test_only_images_of_the_same_sources_and_balls_are_tried_on_another_model(
    other: dict[str, Any], tiny_run: Path, evidence: Evidence
) -> None:
    suite = evidence.record.suite.model_copy(update=other)
    asked = replace(evidence, record=evidence.record.model_copy(update={"suite": suite}))
    goals = reattack._goals_of(tiny_run, asked)
    assert (goals is not None) == ("name" in other), "how they were found is no matter"


@pytest.mark.parametrize("name", ["forwards", "backwards"])
def test_a_shard_may_take_a_tenth_of_its_passes_more_or_less_elsewhere(name: str) -> None:
    def taking(passes: int) -> Any:
        counts = {kind: torch.tensor([[10]]) for kind in Counts.table()}
        return SimpleNamespace(counts=Counts.of(counts | {name: torch.tensor([[passes]])}))

    for few, refused in ((900, False), (899, True), (0, True)):
        for pair in ((few, 1000), (1000, few)):
            assert is_refused(reattack._require_like_passes, 0, *map(taking, pair)) == refused, pair


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize(("sources", "most"), [(40, 4), (49, 4), (5, 1)])
def test_a_tenth_of_a_shards_sources_may_fall_otherwise_elsewhere(
    goal: str, sources: int, most: int
) -> None:
    def falling(later: int) -> Any:
        radius = torch.zeros(sources, dtype=torch.int64)
        other = Broken(radius.clone(), torch.zeros(sources))
        radius[:later] = 1
        both = {"untargeted": other, "targeted": other} | {goal: Broken(radius, other.perturbation)}
        return SimpleNamespace(goals=both)

    for later, refused in ((most, False), (most + 1, True)):
        for pair in ((0, later), (later, 0)):
            assert is_refused(reattack._require_like_outcomes, 0, *map(falling, pair)) == refused


# The two starts of a short attack are two


class _Blind(nn.Module):
    """Sees in one pixel whether an image is bright, and gives no gradient to follow."""

    def forward(self, x: Tensor) -> Tensor:
        bright = (x[:, 0, 0, 0] > 0.5).long()
        return nn.functional.one_hot(bright, 2).float() + 0 * x.flatten(1).sum(1, keepdim=True)


def test_two_starts_of_a_short_attack_differ_where_chance_decides() -> None:
    model = genrobust.wrap(
        nn.Identity(),
        encode=lambda x: x.flatten(1),
        decode=lambda code: code.view(-1, 1, 4, 4),
        input_shape=(1, 4, 4),
    )
    count = 40
    x = torch.full((count, 1, 4, 4), 0.5)
    labels = torch.zeros(count, dtype=torch.int64)
    batch = Batch(x, tuple(range(count)), 0, labels, judge=Judge("blind", _Blind(), ""))
    found = diagnose(model, batch, torch.ones(count, dtype=torch.bool), "linf", (0.1,))
    first, again = found.short.success[0], found.short.again[0]
    by_itself = batch.judge.labels(found.x_adv[0]) != labels  # type: ignore[union-attr]
    assert torch.equal(first, by_itself), "what is handed on is of the first start"
    assert 0.3 < float((first != again).double().mean()) < 0.7
    suite = load_suite("digits").model_copy(update={"eps": (0.1,), "attacks": ()})
    eligible = torch.ones(count, dtype=torch.bool)
    counts = Counts(*torch.zeros(4, 2, 1, dtype=torch.int64))
    raised = flags.raised(suite, eligible, before_attacks(found), counts)
    assert "restarts disagree" in {flag.name for flag in raised}


# A replay counts what an attack may count


@pytest.mark.parametrize(
    ("kind", "name", "lost"),
    [
        (Scorer, "keeps_label", lambda scorer, x, sources: torch.arange(len(x)) % 2 > 0),
        (
            Baseline,
            "eligible",
            property(lambda baseline: torch.arange(len(baseline.labels)) % 2 > 0),
        ),
    ],
    ids=["images that lost their class", "sources that are not eligible"],
)
def test_what_is_no_success_is_none_in_a_replay(
    kind: type, name: str, lost: object, replayed: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = replayed.evidence.outcome.untargeted.radius
    assert (claimed < 2).all()
    monkeypatch.setattr(kind, name, lost)
    with brief_signs():
        found = replay(replayed.evidence, replayed.prepared, silent)
    odd = torch.arange(24) % 2 > 0
    assert torch.equal(found.outcome.untargeted.radius, claimed.masked_fill(~odd, 2))


# A targeted attack that misses


@dataclass(frozen=True)
class Astray(Attack):
    """Gives an image of a third class, neither the source's nor the target's."""

    name = "astray"
    paper = "a test"
    norms = ("any",)
    goals = ("targeted",)

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        assert batch.labels is not None
        assert batch.target_labels is not None
        labels, aims = batch.labels.tolist(), batch.target_labels.tolist()
        chosen = [
            next(i for i, c in enumerate(labels) if c not in {label, aim})
            for label, aim in zip(labels, aims, strict=True)
        ]
        problem = Problem.of(OutputDistance(), context)
        x_adv = threat.project(batch.x[chosen], batch.x)
        best = Minimum(problem, x_adv)
        best.update(problem.index, x_adv, problem.loss(x_adv))
        return problem, best


@pytest.fixture
def astray() -> Iterator[str]:
    ATTACKS._registered["astray"] = Astray
    yield "astray"
    del ATTACKS._registered["astray"]


def test_a_targeted_attack_that_misses_and_changes_the_class_counts_without_a_target(
    astray: str,
) -> None:
    suite = load_suite("digits").limited(6)
    entry = AttackEntry(attack=astray, goal="targeted")
    suite = suite.model_copy(update={"attacks": (entry,), "ensemble": False, "eps": (0.0, 1.0)})
    with brief_signs():
        scores = genrobust.bench("vae", suite, judge="lenet", rule="single").scores
    nothing, all_fell = scores.per_eps
    assert scores.eligible >= 5
    assert nothing.robust_accuracy.value == scores.eligible / 6
    for at, changed in ((nothing, 0), (all_fell, 1)):
        assert at.as_target is not None
        assert at.as_ignore_target is not None
        assert (at.as_ignore_target.value, at.as_target.value) == (changed, 0)


# The code switch pushes the encoder until the category has really flipped


@pytest.fixture
def switching() -> Callable[[Tensor], Context]:
    """A model whose code is an argmax over three pixels, and that decodes it to itself."""

    def context(x: Tensor) -> Context:
        model = genrobust.wrap(
            nn.Identity(),
            encode=lambda x: Posterior((Categorical(10 * x.flatten(1)),)),
            decode=lambda code: code.view(-1, 1, 1, 3),
            input_shape=(1, 1, 3),
        )
        judge = Judge("reads the code", nn.Sequential(nn.Flatten()), "")
        labels = torch.zeros(len(x), dtype=torch.int64)
        return Context(model, Batch(x, tuple(range(len(x))), 0, labels, judge=judge))

    return context


def test_a_switch_lacks_what_the_category_has_yet_to_lead_by(
    switching: Callable[[Tensor], Context],
) -> None:
    """By closed form: switched to class 1 the judge's margin is -1, and the hinge is added."""
    leads = torch.tensor([-3.0, -0.1, 0.0, LEAD / 2, LEAD, LEAD + 1])
    x = torch.zeros(len(leads), 1, 1, 3)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = 0.5, 0.5 + leads / 10
    objective = CodeSwitch(0, {i: [1] for i in range(len(leads))})
    x.requires_grad_()
    loss = objective(x, switching(x.detach()))
    lacking = torch.tensor([LEAD + 3, LEAD + 0.1, LEAD, LEAD / 2, 0, 0])
    torch.testing.assert_close(loss.detach(), -1 + lacking)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    pushes = gradient[:4].flatten(1)
    torch.testing.assert_close(pushes, torch.tensor([10.0, -10, 0]).expand(4, 3))
    assert not gradient[5].any(), "once it leads clearly there is nothing to push"


def test_a_switched_code_is_pushed_no_further_than_the_confidence(
    switching: Callable[[Tensor], Context],
) -> None:
    x = torch.tensor([0.2, 0.9, 0.1]).view(1, 1, 1, 3)
    for confidence, margin in ((4.0, -1.0), (0.25, -0.25)):
        loss = CodeSwitch(0, {0: [1]}, confidence)(x, switching(x))
        torch.testing.assert_close(loss, torch.tensor([margin]))
    torch.testing.assert_close(
        CodeSwitch(0, {0: [0]})(x, switching(x)), torch.tensor([1 + 7 + LEAD])
    )

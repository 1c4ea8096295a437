"""Outcomes: what is stored is one table, each column of it is proven, and scores follow from it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from evidence_runs import registered
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from genrobust import files
from genrobust.distance import euclidean
from genrobust.evidence.bundle import EVIDENCE, Evidence, read_evidence
from genrobust.evidence.checks import NamedCheck, RejectionError
from genrobust.evidence.entry import Outcomes
from genrobust.outcomes.outcome import (
    COUNTS,
    DAMAGE,
    GOALS,
    Broken,
    Damaged,
    MinimumNormOutcome,
    Outcome,
    kept_of,
)
from genrobust.outcomes.scores import clean_accuracy, rated
from genrobust.outcomes.table import Column
from genrobust.records.outcomes import Worst, reached, robust_at, source_areas
from genrobust.records.record import Estimate, Scores
from genrobust.runner.execute import silent
from genrobust.runner.perturbation import step_of
from genrobust.runner.prepare import Prepared
from genrobust.suites import Suite, load_suite
from genrobust.threat import ThreatModel
from genrobust.verify import consistency, reattack, replay
from genrobust.verify.replay import Replay, prepared_for
from genrobust.verify.subject import Subject

#: The names in shards and evidence: files that exist have them.
STORED = [
    "label",
    "target_label",
    "input_verdict",
    "clean_verdict",
    "eligible",
    "source",
    "reconstruction",
    "kl",
    "mean",
    "ignore.radius",
    "ignore.perturbation",
    "ignore.verdict",
    "ignore.x_adv",
    "ignore.reconstruction",
    "ignore.source_similarity",
    "ignore.reconstruction_similarity",
    "ignore.displacement",
    "ignore.symmetric_kl",
    "target.radius",
    "target.perturbation",
    "target.verdict",
    "target.x_adv",
    "target.reconstruction",
    "target.source_similarity",
    "target.reconstruction_similarity",
    "target.displacement",
    "target.symmetric_kl",
    "ignore.token_flips",
    "target.token_flips",
    "damage.clean",
    "damage.clean_similarity",
    "damage.constant",
    "damage.noise",
    "damage.noise_shift",
    "damage.noise_similarity",
    "damage.attacked",
    "damage.attacked_shift",
    "damage.attacked_similarity",
    "damage.to_target",
    "gradient_norm",
    "gradient_cosine",
    "descent",
    "descent_promised",
    "surrogate_label",
    "deployed_label",
    "longer.tried",
    "longer.success",
    "probe.success",
    "probe.again",
    "probe.stopped",
    "tried",
    "succeeded",
    "forwards",
    "backwards",
]

DIRECTIONAL = tuple(
    f"directional.{n}" for n in ("along", "along_latent", "jump", "response", "lead")
)
STORED += ["descent_relaxed", "probe.unbounded", *DIRECTIONAL]
STORED += ["along_attacked", "response_attacked", "smoothed_gain", "followed"]
STORED += [
    f"directional.{n}" for n in ("along_either", "along_latent_either", "along_pixels", "unreached")
]
KEPT = sorted(name for name, column in Outcome.table().items() if column.kept)


# ---- The table ----


def filled(table: dict[str, Column], sources: int = 3, first: int = 0) -> dict[str, Tensor]:
    """Other numbers in every tensor."""
    shapes = {"source": (sources,), "radius and source": (2, sources), "attack and radius": (5, 2)}
    found = {}
    for place, (name, column) in enumerate(table.items(), first):
        shape = shapes[column.per]
        numbers = torch.arange(1000 * place, 1000 * place + torch.Size(shape).numel())
        found[name] = numbers.view(shape).to(column.dtype or torch.float64)
    return found


def test_names_are_those_of_the_files_that_exist() -> None:
    assert sorted(Outcome.table()) == sorted(STORED)


@pytest.mark.parametrize("kind", [Outcome, MinimumNormOutcome])
def test_every_column_is_written_and_read_back(
    kind: type[Outcome | MinimumNormOutcome], tmp_path: Path
) -> None:
    given = filled(kind.table())
    files.write_tensors(tmp_path / "shard", kind.of(given).tensors(), {})
    found, _ = files.read_tensors(tmp_path / "shard")
    assert found.keys() == given.keys() == kind.table().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in given.items())


def test_shards_join_to_what_their_parts_are() -> None:
    shards = [filled(Outcome.table(), 3), filled(Outcome.table(), 2, first=50)]
    whole = Outcome.joined(shards)
    for sources, shard in zip((slice(3), slice(3, 5)), shards, strict=True):
        part = whole.part(sources).tensors()
        assert all(torch.equal(part[n], shard[n]) for n in shard if n not in COUNTS)
    for name in COUNTS:
        assert torch.equal(whole.tensors()[name], shards[0][name] + shards[1][name])


@pytest.mark.parametrize("name", KEPT)
def test_what_is_missing_is_refused_unless_some_runs_do_without(name: str) -> None:
    kept = {n: t for n, t in filled(Outcome.table()).items() if n != name}
    of_ensembles = [n for n, c in Damaged.table().items() if c.per != "source"]
    if name.startswith(DAMAGE) and name.removeprefix(DAMAGE) in of_ensembles:
        assert name not in Outcome.of(kept).tensors()
    else:
        with pytest.raises(KeyError, match=name.rpartition(".")[2]):
            Outcome.of(kept)


def test_evidence_keeps_what_nothing_else_gives() -> None:
    digits = load_suite("digits")
    assert sorted(kept_of(digits)) == KEPT
    alone = kept_of(digits.model_copy(update={"attacker_judge": None}))
    assert alone.keys() == set(KEPT) - {"longer.tried", "longer.success"}
    apart = kept_of(digits.model_copy(update={"ensemble": False}))
    searched = {n for n in KEPT if n.startswith(("damage.noise", "damage.attacked"))}
    more = {"longer.tried", "longer.success", "damage.to_target"}
    assert set(KEPT) - apart.keys() == searched | more


# ---- What proves each column ----


@pytest.fixture(scope="module")
def evidence(tiny_run: Path) -> Evidence:
    return read_evidence(tiny_run / EVIDENCE)


@pytest.fixture(scope="module")
def prepared(evidence: Evidence) -> Prepared:
    with registered():
        return prepared_for(evidence, evidence.load_model(), 1, None)


@pytest.fixture(scope="module")
def replayed(evidence: Evidence, prepared: Prepared) -> Replay:
    with registered():
        return replay.replay(evidence, prepared, silent)


@pytest.fixture(scope="module")
def again(replayed: Replay) -> list[Outcome]:
    """The run's shards, attacked again."""
    with registered():
        ready = reattack.attackers_for(replayed)
        return reattack._run(replayed.evidence.shards, ready, silent)


def forged(evidence: Evidence, name: str) -> Evidence:
    """One entry of one column is another."""
    tensor = evidence.tensors[name].clone()
    if name.endswith("radius"):
        place = int((tensor == 0).nonzero()[0])
        tensor[place] += 1
    elif name.endswith("perturbation"):
        fell = evidence.tensors[name.replace("perturbation", "radius")] < 2
        tensor[int(fell.nonzero()[0])] = 0
    else:
        first = tensor.view(-1)[0]
        tensor.view(-1)[0] = ~first if tensor.dtype == torch.bool else first + 1
    return replace(evidence, tensors={**evidence.tensors, name: tensor})


def refused(checks: list[NamedCheck]) -> list[str]:
    found = []
    for name, check in checks:
        try:
            check()
        except RejectionError:
            found.append(name)
    return found


def test_what_was_measured_is_refused_by_no_check(
    evidence: Evidence, replayed: Replay, again: list[Outcome]
) -> None:
    with registered():
        checks = [one for group in consistency.checks(Subject(Path(), evidence)) for one in group]
        assert refused([*checks, *replay.checks(replayed)]) == []
    for number, shard in enumerate(again):
        reattack._require_same(number, evidence.shard(number), shard.without_misses())


def test_an_attack_that_was_left_out_is_told_by_a_replay(
    evidence: Evidence, replayed: Replay
) -> None:
    """Its counts are 0 as of one that does not apply, such as that of a code without categories."""
    row = next(
        row
        for row, entry in enumerate(evidence.record.suite.attacks)
        if evidence.tensors["tried"][:, row].any() and entry.goal == "untargeted"
    )
    tensors = {name: tensor.clone() for name, tensor in evidence.tensors.items()}
    for name in ("tried", "succeeded", "forwards", "backwards"):
        tensors[name][:, row] = 0
    left_out = replace(evidence, tensors=tensors)
    with registered(), pytest.raises(RejectionError, match="not tried on what those before them"):
        replay.check_attacks(replace(replayed, evidence=left_out))


@pytest.mark.parametrize("name", [n for n in KEPT if Outcome.table()[n].proof != "rerun"])
def test_a_replay_refuses_every_column_that_it_proves(
    name: str, evidence: Evidence, prepared: Prepared, replayed: Replay
) -> None:
    other = forged(evidence, name)
    found = replace(replayed, evidence=other)
    if Outcome.table()[name].proof == "found":
        with registered():  # with other signs than the run's it would be refused for these
            found = replay.replay(other, prepared, silent)
    assert refused(replay.checks(found))


@pytest.mark.parametrize("name", KEPT)
def test_attacks_run_again_refuse_every_column(
    name: str, evidence: Evidence, again: list[Outcome]
) -> None:
    claimed = forged(evidence, name).shard(0)
    with pytest.raises(RejectionError, match=f"gives another '{name}'"):
        reattack._require_same(0, claimed, again[0].without_misses())


SHOWN_BY_ATTACKS = [n for n in KEPT if Outcome.table()[n].proof == "rerun" and n not in COUNTS]


@pytest.mark.parametrize("name", ["probe.success", "followed", "longer.success"])
def test_an_earlier_search_is_asked_for_the_signs_that_do_not_hang_on_it(
    name: str, evidence: Evidence, again: list[Outcome]
) -> None:
    ours, tensor = again[0].without_misses(), evidence.tensors[name]
    tensor = ~tensor if tensor.dtype == torch.bool else tensor + 1
    claimed = replace(evidence, tensors={**evidence.tensors, name: tensor}).shard(0)
    if name.startswith("longer."):
        return reattack._require_like_signs(0, claimed, ours, searched_alike=False)
    with pytest.raises(RejectionError, match=f"gives another '{name}'"):
        reattack._require_like_signs(0, claimed, ours, searched_alike=False)
    return None


@pytest.mark.parametrize("name", SHOWN_BY_ATTACKS)
def test_attacks_run_again_elsewhere_refuse_what_is_otherwise_at_many_sources(
    name: str, evidence: Evidence, again: list[Outcome]
) -> None:
    ours = again[0].without_misses()
    most = max(2, int(reattack.SHORT_DIFFERING * int(ours.eligible.sum())))
    for count in (most, most + 1):
        tensor = evidence.tensors[name].clone()
        few = tensor[..., :count]
        tensor[..., :count] = ~few if few.dtype == torch.bool else few + 1
        claimed = replace(evidence, tensors={**evidence.tensors, name: tensor}).shard(0)
        if count == most:
            reattack._require_like_signs(0, claimed, ours)
            continue
        with pytest.raises(RejectionError, match=f"gives another '{name}'"):
            reattack._require_like_signs(0, claimed, ours)


@pytest.mark.parametrize(("sources", "most"), [(40, 8), (44, 8), (9, 2)])
def test_a_fifth_of_the_eligible_sources_may_end_otherwise_elsewhere(
    sources: int, most: int
) -> None:
    """At each radius, of as many that are eligible; two where there are few."""

    def shown(otherwise: int) -> Any:
        longer, counts = torch.zeros(sources + 5), torch.zeros(3, 2, dtype=torch.int64)
        fooled = torch.zeros(2, sources + 5, dtype=torch.bool)
        fooled[1, :otherwise] = True
        tensors = {"probe.success": fooled, "succeeded": counts, "longer.tried": longer}
        eligible = torch.arange(sources + 5) < sources
        return SimpleNamespace(tensors=lambda: tensors, eligible=eligible)

    reattack._require_like_signs(0, shown(most), shown(0))
    with pytest.raises(RejectionError, match=r"gives another 'probe\.success'"):
        reattack._require_like_signs(0, shown(most + 1), shown(0))


@pytest.mark.parametrize("name", ["gradient_norm", "descent", "damage.attacked"])
def test_attacks_run_again_on_the_same_machine_differ_by_less_than_a_thousandth(
    name: str, evidence: Evidence, again: list[Outcome]
) -> None:
    tensors = {**evidence.tensors, name: evidence.tensors[name] * 1.001}
    with pytest.raises(RejectionError, match=f"gives another '{name}'"):
        reattack._require_same(
            0, replace(evidence, tensors=tensors).shard(0), again[0].without_misses()
        )


@pytest.mark.parametrize("value", [1e-2, 3.0, -5e3])
def test_signs_differ_by_less_than_rounding_here_and_by_a_twentieth_elsewhere(value: float) -> None:
    limits = ((5e-5, False, False), (2e-4, True, False), (0.04, True, False), (0.06, True, True))
    for share, *wanted in limits:
        pair = torch.tensor([value]), torch.tensor([value * (1 + share)])
        assert [bool(replay.differing(*pair, exact)) for exact in (True, False)] == wanted
    nothing, number = torch.tensor([float("nan")]), torch.tensor([1.0])
    for exact in (True, False):
        assert not replay.differing(nothing, nothing, exact)
        assert replay.differing(nothing, number, exact)
        assert replay.differing(number, torch.zeros(1), exact)


@pytest.mark.parametrize("elsewhere", [None, "processor Another there"])
def test_a_replay_refuses_less_damage_than_what_is_at_hand_does(
    elsewhere: str | None, replayed: Replay
) -> None:
    found = replace(replayed, elsewhere=elsewhere)
    replay._require_possible_damage(found)
    damaged, ignore = found.outcome.damaged, found.outcome.untargeted
    assert damaged is not None
    assert ignore.effect is not None
    least = {
        "noise": damaged.noise - 0.5,
        "a smaller ball": damaged.attacked[:1].expand_as(damaged.attacked) - 0.5,
        "the stored images": torch.where(
            ignore.radius <= torch.arange(len(damaged.noise))[:, None],
            0.5 * euclidean(ignore.effect.reconstruction, found.outcome.clean.source),
            damaged.attacked,
        ),
    }
    for what, attacked in least.items():
        forged = replace(found.outcome, damaged=replace(damaged, attacked=attacked))
        with pytest.raises(RejectionError, match="claims less damage than noise"):
            replay._require_possible_damage(replace(found, outcome=forged))
        assert what


def damage_claimed(attacked: list[list[float]], elsewhere: str | None = None) -> Any:
    """Of 40 sources at two radii: noise does 1, and then 2, to each; two fell at the second radius,
    to images that lie 4 and 1/2 from them."""
    count = 40
    pictures = torch.zeros(count, 1, 4, 4)
    pictures[0] += 1
    pictures[1] += 1 / 8
    claimed = torch.tensor(attacked).repeat(1, count)[:, :count]
    radius = torch.full((count,), 2)
    radius[:2] = 1
    damaged = SimpleNamespace(noise=torch.tensor([[1.0], [2.0]]).repeat(1, count), attacked=claimed)
    effect = SimpleNamespace(reconstruction=pictures)
    outcome = SimpleNamespace(
        damaged=damaged,
        untargeted=SimpleNamespace(effect=effect, radius=radius),
        clean=SimpleNamespace(source=torch.zeros_like(pictures)),
    )
    return SimpleNamespace(outcome=outcome, elsewhere=elsewhere)


@pytest.mark.parametrize(
    ("place", "least", "before"),
    [
        ((0, 0), 1.0, 1.0),  # noise, and not yet the image that breaks it at the next radius
        ((0, 1), 1.0, 1.0),
        ((1, 1), 2.0, 1.0),  # more than the image that broke it
        ((1, 0), 4.0, 1.0),  # the image that broke it
        ((1, 2), 3.0, 3.0),  # what was claimed at the smaller radius
    ],
)
@pytest.mark.parametrize(("part", "fine"), [(0.5, True), (1.5, False)])
def test_no_damage_is_less_than_what_is_at_hand_does(
    place: tuple[int, int], least: float, before: float, part: float, fine: bool
) -> None:
    """On the machine of the run by a ten-thousandth at most."""
    found = damage_claimed([[before], [9.0]])
    found.outcome.damaged.attacked[place] = least * (1 - part * 1e-4)
    if fine:
        replay._require_possible_damage(found)
        return
    with pytest.raises(RejectionError, match="at 1 of 40 sources"):
        replay._require_possible_damage(found)


def test_the_clean_accuracy_is_that_of_the_verdicts_on_clean_reconstructions() -> None:
    """Whatever is seen in the inputs, and of an image without a verdict too."""
    label, verdict = torch.arange(6), torch.tensor([0, 1, 2, 0, -1, 5])
    seen: Any = SimpleNamespace(label=label, clean_verdict=verdict, eligible=label < 1)
    found = clean_accuracy(seen, load_suite("digits").limited(6))
    assert (found.value, found.n) == (pytest.approx(4 / 6), 6)


@pytest.mark.parametrize(("count", "fine"), [(2, True), (3, False)])
def test_on_another_machine_a_twentieth_of_the_sources_may_lie_lower(
    count: int, fine: bool
) -> None:
    found = damage_claimed([[1.0], [9.0]], "processor Another there")
    found.outcome.damaged.attacked[0, :] = 0.951  # by less than a twentieth
    found.outcome.damaged.attacked[0, :count] = 0.949
    if fine:
        replay._require_possible_damage(found)
        return
    with pytest.raises(RejectionError, match=f"at {count} of 40 sources"):
        replay._require_possible_damage(found)


def test_damage_that_is_no_number_is_not_enough() -> None:
    found = damage_claimed([[math.nan], [9.0]])
    with pytest.raises(RejectionError, match="at 40 of 40 sources"):
        replay._require_possible_damage(found)


def test_what_fits_the_next_smaller_ball_was_said_to_need_more() -> None:
    """Of one pixel moved: by the smaller radius, by a step more, by nothing, and none."""
    x = torch.full((4, 1, 2, 2), 0.5)
    threats = [ThreatModel("linf", eps) for eps in (0.1, 0.2)]
    steps = torch.zeros(4, 1, 2, 2, dtype=torch.int16)
    half = round(0.1 / step_of(threats[1]))
    steps[0, 0, 0, 0], steps[1, 0, 0, 0] = half, half + 1
    broken = Broken(torch.tensor([1, 1, 0, 2]), steps)
    assert replay._smaller(broken, x, threats).tolist() == [True, False, False, False]


def said(**changed: Any) -> Any:
    """Of three sources at two radii the first fell for both goals, the last is not eligible."""
    none = torch.zeros(3, 1, 2, 2)
    moved = none.clone()
    moved[0] = 1
    parts = {
        "label": torch.tensor([0, 1, 2]),
        "input_verdict": torch.tensor([0, 1, 2]),
        "clean_verdict": torch.tensor([0, 1, 0]),
        "eligible": torch.tensor([True, True, False]),
        "untargeted": Broken(torch.tensor([1, 2, 2]), moved),
        "targeted": Broken(torch.tensor([1, 2, 2]), moved),
        **changed,
    }
    goals = {name: parts[name] for name in GOALS}
    outcome = SimpleNamespace(goals=goals, **parts)
    record = SimpleNamespace(suite=SimpleNamespace(eps=(0.1, 0.2)))
    return SimpleNamespace(outcome=outcome, record=record)


def test_what_is_said_of_sources_agrees_with_itself() -> None:
    assert consistency.check_outcomes(said()) == "2 sources are eligible, of which 1 fell"
    pixels = said().outcome.untargeted.perturbation
    for change, words in (
        ({"eligible": torch.tensor([True, True, True])}, "'eligible' is not what"),
        ({"eligible": torch.tensor([True, False, False])}, "'eligible' is not what"),
        ({"input_verdict": torch.tensor([0, 2, 2])}, "'eligible' is not what"),
        ({"untargeted": Broken(torch.tensor([1, 2, 1]), pixels)}, "not eligible fell"),
        ({"targeted": Broken(torch.tensor([2, 2, 2]), pixels)}, "stood have a perturbation"),
        ({"targeted": Broken(torch.tensor([0, 2, 2]), pixels)}, "said to show their own"),
    ):
        with pytest.raises(RejectionError, match=words):
            consistency.check_outcomes(said(**change))


#: Of ten sources at one radius: what two untargeted attacks, a targeted one, the short and the
#: longer ones tried and broke, and how many fell for either goal.
TRIED, BROKE, FELL = [9, 6, 10, 10, 5], [3, 1, 2, 1, 0], (5, 2)


@pytest.mark.parametrize(
    ("tried", "broke", "fell", "words"),
    [
        (TRIED, BROKE, FELL, None),
        ([8, 5, 10, 10, 5], BROKE, FELL, None),  # one may come out otherwise beside others
        ([7, 4, 10, 10, 5], BROKE, FELL, "not tried on all that stood"),
        ([9, 6, 9, 10, 5], BROKE, FELL, None),
        ([9, 6, 8, 10, 5], BROKE, FELL, "not tried on all that stood"),
        ([9, 7, 10, 10, 5], BROKE, FELL, "not tried on what those before them left"),
        (TRIED, BROKE, (3, 2), None),
        (TRIED, BROKE, (2, 2), "2 sources fell at eps 0.1, and the attacks broke 4"),
        (TRIED, BROKE, (5, 3), None),
        (TRIED, BROKE, (5, 4), "4 sources fell at eps 0.1, and the attacks broke 2"),
        (TRIED, BROKE, (5, 0), "0 sources fell at eps 0.1, and the attacks broke 2"),
    ],
)
def test_counts_add_up_to_what_fell_but_for_one_source(
    tried: list[int], broke: list[int], fell: tuple[int, int], words: str | None
) -> None:
    goals_of = ("untargeted", "untargeted", "targeted")
    entries = [SimpleNamespace(goal=goal, descends=False) for goal in goals_of]
    suite: Any = SimpleNamespace(attacks=entries, eps=(0.1,))
    counts = SimpleNamespace(
        tried=torch.tensor(tried)[:, None], succeeded=torch.tensor(broke)[:, None]
    )
    goals = {
        name: SimpleNamespace(radius=(torch.arange(10) >= number).long())
        for name, number in zip(GOALS, fell, strict=True)
    }
    eligible = torch.ones(10, dtype=torch.bool)
    shard: Any = SimpleNamespace(counts=counts, goals=goals, eligible=eligible)
    found = consistency.problem_of_order(suite, shard.counts)
    found = found or consistency._problem_at_each_radius(suite, shard)
    assert found is None if words is None else words in (found or "")


# ---- The worst case, and the scores ----

GRID = (0.0, 0.1, 0.2, 0.4)
ESTIMATE = Estimate(value=0, low=0, high=0, n=1)
TOLD = Scores(
    **{"sources": 1, "eligible": 1, "clean_accuracy": ESTIMATE, "reconstruction_error": ESTIMATE},
    **{"kl": None, "total_correlation": None, "robust_area": None, "eps50": None, "per_eps": ()},
)


def suite_of(count: int, eps: tuple[float, ...] = GRID) -> Suite:
    update = {"eps": eps, "resamples": 20}
    return load_suite("digits").limited(count).model_copy(update=update)


def worst(places: list[tuple[int, int, bool]]) -> Worst:
    """Sources by where they break for each goal, and whether they are eligible."""
    ignore, target, eligible = (torch.tensor(column) for column in zip(*places, strict=True))
    ignore, target = (torch.where(eligible, radius, len(GRID)) for radius in (ignore, target))
    label = torch.arange(len(places)) % 10
    return Worst(label, (label + 1) % 10, eligible, torch.minimum(ignore, target), target)


broken = st.integers(0, len(GRID))
worsts = st.lists(st.tuples(broken, broken, st.booleans()), min_size=1, max_size=12)


def scored(one: Worst) -> Scores:
    return rated(TOLD, one, suite_of(len(one.label)), 10)


@given(worsts.map(worst))
def test_scores_are_counts_and_fall_with_the_radius(one: Worst) -> None:
    found, count = scored(one), len(one.label)
    assert (found.sources, found.eligible) == (count, int(one.eligible.sum()))
    for e, at in enumerate(found.per_eps):
        stands = int((one.eligible & (one.untargeted > e)).sum())
        assert at.robust_accuracy.value == pytest.approx(stands / count)
        assert at.robust_accuracy.low <= at.robust_accuracy.value <= at.robust_accuracy.high
        if at.as_ignore_target is not None and at.as_target is not None:
            assert at.as_target.value <= at.as_ignore_target.value
            of_wrong = at.as_target.value / (at.as_ignore_target.value or math.nan)
            assert at.as_target_of_wrong == (pytest.approx(of_wrong) if of_wrong >= 0 else None)
            share = found.eligible / count
            assert at.robust_accuracy.value == pytest.approx(
                share * (1 - at.as_ignore_target.value)
            )
        assert (at.linf, at.symmetric_kl) == (None, None)
    values = [at.robust_accuracy.value for at in found.per_eps]
    assert values == sorted(values, reverse=True)
    assert found.robust_area is not None
    assert values[-1] <= found.robust_area.value + 1e-12


@given(worsts, st.randoms(use_true_random=False))
def test_the_order_of_sources_changes_no_score(
    places: list[tuple[int, int, bool]], random: object
) -> None:
    order = list(range(len(places)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one = worst(places)
    other = Worst(*(getattr(one, name)[order] for name in vars(one)))

    def values(found: Scores) -> list[object]:
        rates = ("robust_accuracy", "as_ignore_target", "as_target")
        whole = [found.robust_area, *(getattr(at, name) for at in found.per_eps for name in rates)]
        exact = [found.eps50, [at.as_target_pairs for at in found.per_eps]]
        return [*exact, *(None if e is None else pytest.approx(e.value) for e in whole)]

    assert values(scored(one)) == values(scored(other))


@pytest.mark.parametrize(
    ("place", "area"),
    [(0, 0.125), (1, 0.125), (2, 0.375), (3, 0.75), (4, 1.0)],
    ids=["at 0", "at the first", "at the second", "at the last", "never"],
)
def test_the_area_of_one_source_is_that_of_its_trapezoids(place: int, area: float) -> None:
    one = worst([(place, 4, True), (place, 4, False)])
    assert source_areas(one, suite_of(2)).tolist() == pytest.approx([area, 0.0])


@given(worsts, worsts)
def test_merging_is_the_smallest_radius_and_raises_no_score(
    own: list[tuple[int, int, bool]], other: list[tuple[int, int, bool]]
) -> None:
    count = min(len(own), len(other))
    a, b = worst(own[:count]), worst(other[:count])
    merged = a.merged([b])
    assert torch.equal(merged.eligible, a.eligible)
    assert torch.equal(merged.untargeted, torch.minimum(a.untargeted, b.untargeted))
    assert torch.equal(merged.targeted, b.merged([a]).targeted)
    before, after = scored(a).robust_area, scored(merged).robust_area
    assert before is not None
    assert after is not None
    assert after.value <= before.value


@given(worsts.map(worst))
def test_the_file_says_the_same_of_each_source(one: Worst) -> None:
    written = Outcomes.of(suite_of(len(one.label)), one).model_dump_json()
    found = Outcomes.model_validate_json(written).worst
    assert all(torch.equal(getattr(found, name), getattr(one, name)) for name in vars(one))
    assert "4" not in written.split('"ignore_target":')[1]  # a source that stands has no radius


def test_what_is_broken_at_a_radius_is_broken_at_all_larger_ones() -> None:
    found = reached(torch.tensor([0, 2, 4]), suite_of(3))
    assert found.T.tolist() == [[True] * 4, [False, False, True, True], [False] * 4]


def test_who_stands_at_a_radius_is_eligible_and_not_broken_there() -> None:
    one = worst([(0, 4, True), (2, 4, True), (4, 4, False)])
    found = robust_at(one, suite_of(3))
    assert found.T.tolist() == [[False] * 4, [True, True, False, False], [False] * 4]


def test_half_have_fallen_where_half_of_the_eligible_ones_have() -> None:
    """Of ten sources six are eligible, and three of these fall at 0.2."""
    one = worst([(2, 4, True)] * 3 + [(4, 4, True)] * 3 + [(4, 4, False)] * 4)
    assert scored(one).eps50 == pytest.approx(0.2)


def test_without_a_radius_above_0_there_is_no_area() -> None:
    zero, first = torch.tensor([0]), torch.tensor([1])
    one = Worst(zero, first, zero == 0, first, first)
    told = TOLD.model_copy(update={"robust_area": ESTIMATE, "eps50": 0.1})
    found = rated(told, one, suite_of(1, (0.0,)), 10)
    assert (found.robust_area, found.eps50) == (None, None)

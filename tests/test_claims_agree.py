"""What an entry says agrees with itself: each contradiction is told, and none of them is sound."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from genrobust.evidence.bundle import Evidence, read_evidence
from genrobust.evidence.checks import RejectionError, UntoldError
from genrobust.evidence.entry import BundledModel, ExternalModel, ZooModel
from genrobust.records.record import Flag, Record
from genrobust.runner import collect
from genrobust.verify import consistency
from genrobust.verify.subject import Subject

ENTRIES = Path(__file__).parent.parent / "leaderboard" / "entries"

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def honest() -> Evidence:
    """Its dear attacks descend."""
    return read_evidence(ENTRIES / "digits-v2" / "zoo-vae" / "evidence.zip")


@pytest.fixture(scope="module")
def earlier() -> Evidence:
    """It searched its radii from the largest."""
    return read_evidence(ENTRIES / "digits-v1" / "zoo-vae" / "evidence.zip")


def saying(evidence: Evidence, **changed: Any) -> Evidence:
    return replace(evidence, record=evidence.record.model_copy(update=changed))


def on_suite(evidence: Evidence, **changed: Any) -> Evidence:
    suite = evidence.record.suite.model_copy(update=changed)
    return saying(evidence, suite=suite, suite_sha256=suite.sha256)


def checked(check: Callable[[Subject], str], evidence: Evidence, **around: Any) -> str:
    return check(Subject(Path("evidence.zip"), evidence, **around))


# ---- The suite, the data and the model ----


def test_an_official_record_is_of_its_whole_frozen_suite(honest: Evidence) -> None:
    def said(evidence: Evidence, **around: Any) -> str:
        return checked(consistency.check_suite, evidence, **around)

    assert said(honest).startswith("the frozen suite digits v2")
    for official, deviations in ((True, ("fewer steps",)), (False, ())):
        with pytest.raises(RejectionError, match="official, and names deviations"):
            said(saying(honest, official=official, deviations=deviations))
    with pytest.raises(RejectionError, match="a suite_sha256 that is not its suite's"):
        said(saying(honest, suite_sha256="0" * 64))
    with pytest.raises(UntoldError, match="no such suite is registered"):
        said(on_suite(honest, name="another"))
    changed = on_suite(honest, resamples=consistency.MAX_RESAMPLES)
    with pytest.raises(RejectionError, match="is not the frozen digits v2"):
        said(changed)
    own = {"official": False, "deviations": ("more resamples",)}
    assert said(saying(changed, **own)).startswith("not official: a changed suite")
    more = on_suite(honest, resamples=consistency.MAX_RESAMPLES + 1)
    with pytest.raises(RejectionError, match=r"asks for 20001 resamples"):
        said(saying(more, **own))
    on: Any = SimpleNamespace(entry=None)
    assert "of the entry that is attacked" in said(saying(more, **own), on=on)


def test_a_suite_of_a_version_that_is_not_here_is_the_verifiers_lack(honest: Evidence) -> None:
    of_another = honest.record.provenance.model_copy(update={"genrobust": "9.0.0"})
    later = on_suite(honest, version=99)
    with pytest.raises(UntoldError, match=r"of version 2 here; .* install that version"):
        checked(consistency.check_suite, saying(later, provenance=of_another))
    edited_one = saying(on_suite(honest, resamples=50), provenance=of_another)
    for forged in (later, edited_one):
        with pytest.raises(RejectionError, match="is not the frozen digits"):
            checked(consistency.check_suite, forged)


def test_data_are_those_of_the_suite(honest: Evidence) -> None:
    assert consistency.check_origins(honest.record).startswith("digits ")
    for field in ("name", "split", "sha256"):
        data = honest.record.data.model_copy(update={field: "another"})
        with pytest.raises(RejectionError, match=r"the data that record\.json names"):
            consistency.check_origins(honest.record.model_copy(update={"data": data}))


def test_a_data_set_that_is_not_here_is_no_verdict(honest: Evidence) -> None:
    with pytest.raises(UntoldError, match="no data set 'nowhere' is registered"):
        consistency.check_sources(on_suite(honest, dataset="nowhere"))


@pytest.mark.parametrize("name", ["label", "target_label", "input_verdict", "clean_verdict"])
def test_classes_are_those_of_the_data(honest: Evidence, name: str) -> None:
    """A verdict may be that judges do not agree, -1; a label is a class."""
    for value, sound in ((9, True), (10, False), (-1, not name.endswith("label")), (-2, False)):
        told = honest.tensors[name].clone()
        told[3] = value
        forged = replace(honest, tensors={**honest.tensors, name: told})
        if sound:
            consistency.check_sources(forged)
        else:
            with pytest.raises(RejectionError, match=f"'{name}' names classes"):
                consistency.check_sources(forged)


def test_an_entry_names_the_model_of_its_evidence(honest: Evidence) -> None:
    def entry(model: Any) -> Any:
        return SimpleNamespace(entry=SimpleNamespace(model=model))

    elsewhere = ExternalModel(
        source="https://example.org/vae.pt", weights_sha256="0" * 64, reference="vae.py:build"
    )
    other = BundledModel(format="exported")
    assert "from zoo" in checked(consistency.check_model, honest)
    assert "kind 'zoo' in both" in checked(
        consistency.check_model, honest, entry=entry(honest.model)
    )
    for said in (elsewhere, other, ZooModel(name="betavae", dataset="digits")):
        with pytest.raises(RejectionError, match="another model than the evidence"):
            checked(consistency.check_model, honest, entry=entry(said))
    alone = honest.without_model()
    assert "kind 'external'" in checked(consistency.check_model, alone, entry=entry(elsewhere))
    for on in (other, honest.model):
        around = {"entry": entry(elsewhere), "on": entry(on)}
        with pytest.raises(RejectionError, match="another model than the entry it attacks"):
            checked(consistency.check_model, alone, **around)
    smuggled = replace(alone, model_files={"weights.safetensors": b""})
    with pytest.raises(RejectionError, match="a model that its manifest does not name"):
        checked(consistency.check_model, smuggled)


def test_only_known_entries_searched_from_the_largest_radius(
    honest: Evidence, earlier: Evidence
) -> None:
    assert "known by its hash" in consistency.check_columns(earlier)
    assert "from before" not in consistency.check_columns(honest)
    with pytest.raises(RejectionError, match="from the largest down"):
        consistency.check_columns(saying(honest, radii="from the largest"))


# ---- Counts ----


def edited(evidence: Evidence, edit: Callable[[Tensors], None]) -> Evidence:
    """With other counts, and a record whose sums are theirs."""
    tensors = {name: tensor.clone() for name, tensor in evidence.tensors.items()}
    edit(tensors)
    found = replace(evidence, tensors=tensors)
    counts = found.outcome.counts
    return saying(
        found,
        attacks=collect.attack_costs(found.record.suite, counts),
        forwards=int(counts.forwards.sum()),
        backwards=int(counts.backwards.sum()),
    )


def setting(name: str, shard: int, row: int, e: int, change: int) -> Callable[[Tensors], None]:
    def edit(tensors: Tensors) -> None:
        tensors[name][shard, row, e] += change

    return edit


def of_the_shortest(tensors: Tensors) -> None:
    tensors["tried"][0, -2, 0] -= 1


def less_than_nothing(tensors: Tensors) -> None:
    idle = (tensors["tried"][0] == 0).nonzero()[0]
    tensors["forwards"][0, idle[0], idle[1]] = -1


def what_was_left_alone_costs(tensors: Tensors) -> None:
    idle = (tensors["tried"][0] == 0).nonzero()[0]
    tensors["backwards"][0, idle[0], idle[1]] = 1


def one_of_the_longer_is_left_out(tensors: Tensors) -> None:
    stands = (tensors["longer.tried"] & ~tensors["longer.success"]).nonzero()[0]
    tensors["longer.tried"][stands] = False


#: Of both entries; rows are attacks, the two last the short and the longer one.
OF_ALL = [
    (less_than_nothing, "a count is negative"),
    (setting("succeeded", 0, 1, 0, 90), "succeeded on more than tried"),
    (setting("tried", 0, 1, 0, 10**6), "tried on more sources than there are"),
    (what_was_left_alone_costs, "not tried cost something"),
    (of_the_shortest, "short attacks were not tried on every eligible source"),
    (one_of_the_longer_is_left_out, "the longer attack was not tried on the sources that stand"),
]


@pytest.mark.parametrize(("edit", "words"), OF_ALL)
@pytest.mark.parametrize("of", ["honest", "earlier"])
def test_counts_do_not_contradict_themselves(
    of: str, edit: Callable[[Tensors], None], words: str, request: pytest.FixtureRequest
) -> None:
    evidence = request.getfixturevalue(of)
    consistency.check_counts(edited(evidence, lambda tensors: None))
    with pytest.raises(RejectionError, match=f"in shard 0 .*{words}"):
        consistency.check_counts(edited(evidence, edit))


@pytest.mark.parametrize("name", ["forwards", "backwards"])
def test_a_record_counts_what_its_shards_count(honest: Evidence, name: str) -> None:
    forged = saying(honest, **{name: getattr(honest.record, name) - 1})
    with pytest.raises(RejectionError, match="are not the sum of the shards'"):
        consistency.check_counts(forged)


def a_row_that_gets_less(record: Record, tensors: Tensors) -> tuple[int, int]:
    """A row behind one of the same goal, and a radius at which it tried some."""
    entries = record.suite.attacks
    for row in range(1, len(entries)):
        alike = all(
            getattr(entries[row], n) == getattr(entries[row - 1], n) for n in ("goal", "descends")
        )
        tried = tensors["tried"][0, row - 1 : row + 1]
        if alike and (tried > 0).any(1).all():
            return row, int(tried.amin(0).argmax())
    raise AssertionError


@pytest.mark.parametrize("of", ["honest", "earlier"])
def test_attacks_that_were_left_out_are_told_whichever_way_the_radii_went(
    of: str, request: pytest.FixtureRequest
) -> None:
    evidence: Evidence = request.getfixturevalue(of)
    row, e = a_row_that_gets_less(evidence.record, evidence.tensors)

    def left_out(tensors: Tensors) -> None:
        tensors["tried"][0, row, e] -= 1
        tensors["succeeded"][0, row, e] = 0

    with pytest.raises(RejectionError, match="not tried on what those before them left"):
        consistency.check_counts(edited(evidence, left_out))


def test_targeted_attacks_between_untargeted_ones_may_break_what_these_left() -> None:
    def told(goals: str, *tried: int, fell: int = 0) -> str | None:
        names = {"u": "untargeted", "t": "targeted"}
        entries = [SimpleNamespace(goal=names[goal], descends=True) for goal in goals]
        suite: Any = SimpleNamespace(attacks=entries, eps=(0.1,))
        rows = torch.tensor(tried)[:, None]
        counts: Any = SimpleNamespace(tried=rows, succeeded=torch.full_like(rows, fell))
        return consistency.problem_of_order(suite, counts)

    assert told("uu", 5, 5) is None
    assert told("uu", 5, 4, fell=1) is None
    assert told("uu", 5, 4) == "attacks at eps 0.1 were not tried on what those before them left"
    assert told("utu", 5, 9, 4) is None
    assert told("tuu", 9, 5, 4) is not None
    assert told("uuu", 5, 0, 5) is None, "the second does not apply to the model"


def test_the_longer_attack_of_earlier_entries_met_each_source_once(earlier: Evidence) -> None:
    for change in (1, -1):
        forged = edited(earlier, setting("tried", 0, -1, 0, change))
        with pytest.raises(RejectionError, match="counts of the longer attack are not those"):
            consistency.check_counts(forged)


@pytest.mark.parametrize("goal", ["ignore", "target"])
def test_what_stands_in_earlier_entries_is_what_their_attacks_left(
    earlier: Evidence, goal: str
) -> None:
    """But for one source, which may come out otherwise beside others."""
    radius = earlier.tensors[f"{goal}.radius"][:45]
    stood = (earlier.tensors["eligible"][:45] & (radius == 2)).nonzero()[:, 0]

    def easier(count: int) -> Callable[[Tensors], None]:
        """Some are said to have fallen at the second radius in place of the third."""

        def edit(tensors: Tensors) -> None:
            tensors[f"{goal}.radius"][stood[:count]] = 1

        return edit

    consistency.check_counts(edited(earlier, easier(1)))
    with pytest.raises(RejectionError, match=r"sources stand at eps .*, and the attacks left"):
        consistency.check_counts(edited(earlier, easier(len(stood))))


# ---- What counts say of few sources, by hand ----


def a_shard(
    radius: list[int],
    tried: list[list[int]],
    broke: list[list[int]],
    again: list[bool] | None = None,
    fell: list[bool] | None = None,
    goals: str = "u",
    targeted: list[int] | None = None,
    descends: bool = False,
    upwards: bool = True,
) -> tuple[Any, Any, Any]:
    """A record, its suite and a shard of eligible sources that fell at these radii of two.

    Rows are those of attacks, of the short and of the longer ones.
    """
    names = {"u": "untargeted", "t": "targeted"}
    entries = [SimpleNamespace(goal=names[goal], descends=descends) for goal in goals]
    suite = SimpleNamespace(attacks=entries, eps=(0.1, 0.2), ensemble=True)
    record = SimpleNamespace(suite=suite, radii="each" if upwards else "from the largest")
    untargeted = SimpleNamespace(radius=torch.tensor(radius))
    other = untargeted if targeted is None else SimpleNamespace(radius=torch.tensor(targeted))
    longer = SimpleNamespace(tried=torch.tensor(again or []), success=torch.tensor(fell or []))
    shard = SimpleNamespace(
        eligible=torch.ones(len(radius), dtype=torch.bool),
        untargeted=untargeted,
        goals={"untargeted": untargeted, "targeted": other},
        counts=SimpleNamespace(tried=torch.tensor(tried), succeeded=torch.tensor(broke)),
        signs=SimpleNamespace(longer=longer if again else None),
    )
    return record, suite, shard


@pytest.mark.parametrize(
    ("tried", "broke", "again", "fell", "words"),
    [
        # One falls at 0.1, one to the longer attack at 0.2, one stands.
        ([2, 2], [0, 1], [False, True, True], [False, True, False], None),
        ([2, 2], [0, 1], [True, True, True], [False, True, False], "not tried on the sources"),
        ([2, 2], [0, 1], [False, True, False], [False, True, False], "not tried on the sources"),
        ([2, 2], [0, 1], [False, True, True], [False, False, False], "counts of the longer"),
        ([2, 1], [0, 0], [False, True, True], [False, True, False], "counts of the longer"),
        ([2, 1], [0, 1], [False, True, True], [False, True, False], "counts of the longer"),
        ([2, 3], [0, 1], [False, True, True], [False, True, False], "counts of the longer"),
    ],
)
def test_the_longer_attack_is_tried_at_each_radius_on_what_stands(
    tried: list[int],
    broke: list[int],
    again: list[bool],
    fell: list[bool],
    words: str | None,
) -> None:
    rows = [[3, 2], [3, 3], tried]
    record, _, shard = a_shard([0, 1, 2], rows, [[1, 0], [0, 0], broke], again, fell)
    found = consistency._problem_of_signs(record, shard)
    assert found is None if words is None else words in (found or "")


def test_where_no_longer_attack_was_made_none_is_asked_for() -> None:
    record, _, shard = a_shard([2], [[1, 1], [1, 1], [0, 0]], [[0, 0]] * 3)
    assert consistency._problem_of_signs(record, shard) is None


@pytest.mark.parametrize(
    ("tried", "broke", "words"),
    [
        ([1, 2], [0, 1], None),
        ([1, 1], [0, 1], "counts of the longer attack"),  # of two that stood it held one
        ([1, 2], [0, 0], "counts of the longer attack"),  # though one fell to it
        ([2, 2], [1, 1], None),  # which it met again at a smaller radius
    ],
)
def test_the_longer_attack_that_descends_meets_what_stands(
    tried: list[int], broke: list[int], words: str | None
) -> None:
    rows = [[3, 2], [3, 3], tried]
    again, fell = [False, True, True], [False, True, False]
    record, _, shard = a_shard([0, 1, 2], rows, [[1, 0], [0, 0], broke], again, fell, descends=True)
    found = consistency._problem_of_signs(record, shard)
    assert found is None if words is None else words in (found or "")


#: Ten sources: three fall at 0.1 and four more at 0.2.
FALLING = [0] * 3 + [1] * 4 + [2] * 3


@pytest.mark.parametrize(
    ("rows", "broke", "words"),
    [
        ([[10, 7], [10, 10], [7, 3]], [[3, 4], [0, 0], [0, 0]], None),
        ([[10, 6], [10, 10], [7, 3]], [[3, 4], [0, 0], [0, 0]], None),
        ([[10, 5], [10, 10], [7, 3]], [[3, 4], [0, 0], [0, 0]], "at eps 0.2 were not tried on all"),
        # Two fell to the short attack before, or to the longer one after it.
        ([[10, 5], [10, 10], [7, 3]], [[3, 2], [0, 2], [0, 0]], None),
        ([[10, 7], [10, 10], [7, 5]], [[3, 2], [0, 0], [0, 2]], None),
        ([[10, 7], [10, 10], [7, 5]], [[3, 2], [0, 0], [0, 0]], "4 sources fell at eps 0.2"),
        ([[10, 7], [10, 10], [7, 3]], [[3, 6], [0, 0], [0, 0]], "4 sources fell at eps 0.2"),
    ],
)
def test_a_radius_is_tried_on_what_the_one_before_it_left(
    rows: list[list[int]], broke: list[list[int]], words: str | None
) -> None:
    _, suite, shard = a_shard(FALLING, rows, broke, targeted=[2] * 10)
    found = consistency._problem_at_each_radius(suite, shard)
    assert found is None if words is None else words in (found or "")


@pytest.mark.parametrize(
    ("stand", "broke", "words"),
    [
        # At 0.2 all ten were tried and seven fell; of these three fell at 0.1, and four stood.
        (FALLING, [[3, 7], [0, 0], [0, 0]], None),
        ([0] * 4 + [1] * 3 + [2] * 3, [[3, 7], [0, 0], [0, 0]], None),
        ([0] * 3 + [1] * 2 + [2] * 5, [[3, 7], [0, 0], [0, 0]], "5 sources stand at eps 0.2"),
        ([0] * 1 + [1] * 6 + [2] * 3, [[3, 7], [0, 0], [0, 0]], "6 sources stand at eps 0.1"),
        # Two more may fall to the longer attack at 0.2, and so stand at 0.1.
        ([0] * 1 + [1] * 6 + [2] * 3, [[3, 7], [0, 0], [0, 2]], None),
        ([0] * 1 + [1] * 6 + [2] * 3, [[3, 7], [0, 0], [2, 0]], "6 sources stand at eps 0.1"),
    ],
)
def test_what_stands_is_what_was_left_where_radii_went_down(
    stand: list[int], broke: list[list[int]], words: str | None
) -> None:
    rows = [[7, 10], [10, 10], [7, 3]]
    _, suite, shard = a_shard(stand, rows, broke, targeted=[0] * 10, upwards=False)
    found = consistency._problem_from_the_largest(suite, shard)
    assert found is None if words is None else words in (found or "")


@pytest.mark.parametrize(
    ("goals", "descends", "adds_up"),
    [("uut", False, True), ("tu", False, False), ("uut", True, False), ("tu", True, False)],
)
def test_radii_add_up_where_nothing_descends_and_targeted_attacks_come_last(
    goals: str, descends: bool, adds_up: bool
) -> None:
    _, suite, _ = a_shard([2], [[0, 0]] * 3, [[0, 0]] * 3, goals=goals, descends=descends)
    assert consistency._adds_up(suite) == adds_up


def test_an_attack_that_applies_and_was_tried_on_nothing_was_left_out() -> None:
    _, suite, _ = a_shard([2], [[0, 0]] * 3, [[0, 0]] * 3, goals="uuu", descends=True)
    for rows in ([[5, 5], [0, 0], [5, 5]], [[0, 0], [5, 5], [5, 5]], [[5, 5], [5, 5], [0, 0]]):
        tried = torch.tensor(rows)
        counts: Any = SimpleNamespace(tried=tried, succeeded=torch.zeros_like(tried))
        assert consistency.problem_of_order(suite, counts) is None
        assert consistency.problem_of_order(suite, counts, range(3)) is not None


def test_attacks_of_another_sweep_are_another_order() -> None:
    _, suite, _ = a_shard([2], [[0, 0]] * 3, [[0, 0]] * 3, goals="uuu", descends=True)
    suite.attacks[0].descends = False
    rows = torch.tensor([[9, 9], [5, 5], [5, 5]])
    counts: Any = SimpleNamespace(tried=rows, succeeded=torch.zeros_like(rows))
    assert consistency.problem_of_order(suite, counts) is None
    suite.attacks[0].descends = True
    assert consistency.problem_of_order(suite, counts) is not None


@pytest.mark.parametrize(("of", "again"), [("earlier", 1), ("honest", 7)])
def test_a_source_is_tried_once_and_once_for_each_half_of_a_ball(
    of: str, again: int, request: pytest.FixtureRequest
) -> None:
    evidence: Evidence = request.getfixturevalue(of)
    most = again * int(evidence.shard(0).eligible.sum())
    for tried, words in ((most, "not tried on what those"), (most + 1, "more sources than there")):
        change = tried - int(evidence.tensors["tried"][0, 1, 0])
        with pytest.raises(RejectionError, match=words):
            consistency.check_counts(edited(evidence, setting("tried", 0, 1, 0, change)))


def test_attacks_by_themselves_need_no_order(honest: Evidence) -> None:
    suite = honest.record.suite.model_copy(update={"ensemble": False})
    forged = edited(honest, of_the_shortest)
    consistency.check_counts(
        saying(forged, suite=suite, attacks=collect.attack_costs(suite, forged.outcome.counts))
    )


# ---- Shards, flags and words ----


def test_shards_are_those_of_suite_model_and_seed(honest: Evidence) -> None:
    assert consistency.check_shards(honest) == "2 shards of seed 0, by hash"
    with pytest.raises(RejectionError, match="are not those of its suite, model and seed"):
        consistency.check_shards(saying(honest, seed=1))


def test_flags_are_those_that_the_signs_raise_and_each_once(honest: Evidence) -> None:
    flag = Flag(name="gradients vanish", evidence="as it was", value=0.2, limit=0.1)
    flagged = saying(honest, flags=(flag,)).record
    consistency.require_flags(flagged, [flag])
    for theirs in ((), (flag, flag)):
        with pytest.raises(RejectionError, match=r"record\.json has .*; the signs raise the flags"):
            consistency.require_flags(saying(honest, flags=theirs).record, [flag])
    for change in ({"name": "another"}, {"value": 0.3}, {"limit": 0.2}, {"evidence": "well"}):
        with pytest.raises(RejectionError):
            consistency.require_flags(flagged, [flag.model_copy(update=change)])
    of_another = honest.record.provenance.model_copy(update={"genrobust": "9.0.0"})
    other = flagged.model_copy(update={"provenance": of_another})
    consistency.require_flags(other, [flag.model_copy(update={"evidence": "in other words"})])


def test_a_record_names_no_more_packages_than_there_are(honest: Evidence) -> None:
    def named(count: int) -> Evidence:
        packages = {f"package{i}": "1" for i in range(count)}
        where = honest.record.provenance.model_copy(update={"packages": packages})
        return saying(honest, provenance=where)

    assert "by its own word" in checked(consistency.check_said, named(consistency.MAX_PACKAGES))
    with pytest.raises(RejectionError, match="names 101 packages"):
        checked(consistency.check_said, named(consistency.MAX_PACKAGES + 1))


def test_packages_whose_names_begin_alike_are_each_looked_at(honest: Evidence) -> None:
    packages = {"a" * 40 + "x": "1\x1b[2J", "a" * 40 + "y": "1"}
    where = honest.record.provenance.model_copy(update={"packages": packages})
    with pytest.raises(RejectionError, match="not a plain word or two"):
        checked(consistency.check_said, saying(honest, provenance=where))


def test_what_is_said_may_be_as_long_as_the_limit(honest: Evidence) -> None:
    def on(processor: str) -> Evidence:
        where = honest.record.provenance.model_copy(update={"processor": processor})
        return saying(honest, provenance=where)

    assert checked(consistency.check_said, on("x" * consistency.MAX_WORDS))
    with pytest.raises(RejectionError, match="not a plain word or two"):
        checked(consistency.check_said, on("x" * (consistency.MAX_WORDS + 1)))


def test_attacks_took_less_than_ten_years_and_no_less_than_nothing(honest: Evidence) -> None:
    def took(seconds: float) -> Evidence:
        times = honest.record.times.model_copy(update={"attack_seconds": seconds})
        return saying(honest, times=times)

    most = float(consistency.MAX_SECONDS)
    for seconds in (0.0, math.nextafter(most, 0)):
        assert checked(consistency.check_said, took(seconds))
    for seconds in (-5e-324, most, math.inf, math.nan):
        with pytest.raises(RejectionError, match="says that attacks took"):
            checked(consistency.check_said, took(seconds))


@pytest.mark.parametrize("now", ["2026-11-30T00:00:00", "2026-11-30T23:59:59.999999"])
def test_a_day_is_at_most_one_ahead_of_the_whole_worlds_and_not_before_the_first(
    honest: Evidence, monkeypatch: pytest.MonkeyPatch, now: str
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls.fromisoformat(now).replace(tzinfo=tz)

    monkeypatch.setattr(consistency, "datetime", Clock)

    def made(created: str) -> Evidence:
        times = honest.record.times.model_copy(update={"created": created})
        return saying(honest, times=times)

    for created in ("2025-01-01T00:00:00+00:00", "2026-12-01T23:59:59+00:00", "2026-12-01"):
        assert created[:10] in checked(consistency.check_said, made(created))
    for created in ("2024-12-31T23:59:59+00:00", "2026-12-02T00:00:00+00:00", "2026-12-02"):
        with pytest.raises(RejectionError, match="which cannot be: here it is 2026-11-30"):
            checked(consistency.check_said, made(created))

"""What an entry says agrees with itself: each contradiction is told, and none of them is sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from genrobust.evidence.bundle import Evidence, read_evidence
from genrobust.evidence.checks import RejectionError, UntoldError
from genrobust.evidence.entry import BundledModel, ExternalModel, ZooModel
from genrobust.records.record import Record
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
    later = saying(on_suite(honest, version=99), provenance=of_another)
    if consistency.registered(later.record.suite) is None:
        with pytest.raises(UntoldError, match="install the plugin that offers it"):
            checked(consistency.check_suite, later)
    else:
        with pytest.raises(UntoldError, match="install that version"):
            checked(consistency.check_suite, later)


def test_data_are_those_of_the_suite(honest: Evidence) -> None:
    assert consistency.check_origins(honest.record).startswith("digits ")
    for field in ("name", "split", "sha256"):
        data = honest.record.data.model_copy(update={field: "another"})
        with pytest.raises(RejectionError, match=r"the data that record\.json names"):
            consistency.check_origins(honest.record.model_copy(update={"data": data}))


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("faces?shape=3x8x8&draw=90", "named by where they lay"),
        ("nowhere", "no data set 'nowhere' is registered"),
    ],
)
def test_pictures_that_are_not_here_are_no_verdict(
    honest: Evidence, dataset: str, words: str
) -> None:
    with pytest.raises(UntoldError, match=words):
        consistency.check_sources(on_suite(honest, dataset=dataset))


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


def what_was_left_alone_costs(tensors: Tensors) -> None:
    idle = (tensors["tried"][0] == 0).nonzero()[0]
    tensors["backwards"][0, idle[0], idle[1]] = 1


def one_of_the_longer_is_left_out(tensors: Tensors) -> None:
    stands = (tensors["longer.tried"] & ~tensors["longer.success"]).nonzero()[0]
    tensors["longer.tried"][stands] = False


#: Of both entries; rows are attacks, the two last the short and the longer one.
OF_ALL = [
    (setting("forwards", 0, 0, 0, -(10**9)), "a count is negative"),
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
        return consistency._problem_of_order(suite, counts)

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

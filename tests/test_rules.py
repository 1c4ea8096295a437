"""Rules as objects: each says what it needs, decides from its sources, and tells of itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from brief_signs import brief_signs
from some_sources import sources_of
from torch import Tensor
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.evidence.bundle import EVIDENCE, write_evidence
from genrobust.judges import Judge, load_judge
from genrobust.judges.judge import NO_VERDICT
from genrobust.report.html import render
from genrobust.rules import CHANGED, KEPT, RULES, Rule, Sources, Words
from genrobust.runner.measure import Baseline
from genrobust.runner.options import Options
from genrobust.runner.prepare import prepare
from genrobust.runner.run import execute
from genrobust.runner.scorer import Scorer
from genrobust.suites import AttackEntry, JudgeRef, Suite, load_suite
from genrobust.verify.verify import VerifyOptions, verify

pytestmark = pytest.mark.usefixtures("brief")

BUILTIN = ("agreement", "single", "single-live", "single-output", "distance", "damage")


def judges(rule: type[Rule]) -> list[Judge]:
    """As many as the rule needs, all with dropout."""
    return [load_judge("digits", "thesis")] * rule.judges_needed[0]


def test_the_rules_are_listed() -> None:
    lines = CliRunner().invoke(app, ["list", "rules"]).output.splitlines()
    assert [line.split()[0] for line in lines] == sorted(BUILTIN)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_rule_is_found_by_its_name_and_tells_of_itself(name: str) -> None:
    rule = RULES.get(name)
    assert rule.name == name
    assert rule.words.legend.startswith("robust accuracy: ")
    assert rule.words.found.count("{}") == rule.words.changed.count("{}") == 1
    assert all(said.endswith(".") for said in (rule.words.eligible, rule.words.success))
    assert rule.classes("digits") == (10 if rule.labelled else 3 if name == "damage" else 2)
    assert bool(rule.words.judges) == (rule.judges_needed[1] > 0)


@pytest.mark.parametrize("name", BUILTIN)
def test_an_image_is_judged_by_itself(name: str) -> None:
    """Entry i of a verdict depends on image i and source i alone, whoever is beside it."""
    images = genrobust.load_images("digits")
    ids, model = (3, 14, 15, 92), genrobust.load_model("vae")
    rule = RULES.get(name)
    x, labels = images.take(ids), images.labels_of(ids)
    clean, target = model.reconstruct(x), model.reconstruct(x.flip(0))
    sources = Sources(ids, x, labels, labels, clean, target, x.mean(0, True).expand_as(x))
    look = Scorer(rule(judges(rule)), model, 0)
    shown = model.reconstruct(0.6 * x + 0.4 * x.flip(0))[None]
    whole = look.verdict(shown, sources)
    assert whole.dtype == torch.int64
    for chosen in ([2], [3, 0]):
        index = torch.tensor(chosen)
        assert torch.equal(look.verdict(shown[:, index], sources[index]), whole[index])


def test_rules_that_do_not_look_at_the_attacked_image_keep_its_label() -> None:
    x, labels = genrobust.load_images("digits").take(range(4)), torch.arange(4) + 100
    sources = Sources((0, 1, 2, 3), x, labels, labels, x, x, x.flip(0))
    for name in BUILTIN:
        rule = RULES.get(name)
        seen = rule(judges(rule)).look_at_input(x, sources)
        assert torch.equal(seen, labels) == (name not in ("agreement", "damage"))


@pytest.mark.parametrize(
    ("name", "scorers", "attacker", "problem"),
    [
        ("agreement", 0, True, "the rule 'agreement' needs scoring_judges"),
        ("agreement", 1, True, None),
        ("agreement", 9, True, None),
        ("agreement", 2, False, "the rule 'agreement' needs an attacker_judge"),
        ("single", 0, True, "the rule 'single' needs exactly one of scoring_judges"),
        ("single", 1, True, None),
        ("single", 2, True, "the rule 'single' needs exactly one of scoring_judges"),
        ("distance", 0, False, None),
        ("distance", 1, False, "the rule 'distance' has no judges: leave them out"),
        ("distance", 0, True, "the rule 'distance' has no judges: leave them out"),
    ],
)
def test_a_rule_says_which_judges_it_needs(
    name: str, scorers: int, attacker: bool, problem: str | None
) -> None:
    assert RULES.get(name).problem_with(scorers, attacker) == problem


def test_one_judges_word_is_a_rule_that_draws_only_where_it_is_live() -> None:
    for name, live in (("single", False), ("single-live", True)):
        assert RULES.get(name).draws == live
        assert load_suite("digits").judged_by(["thesis"], name).rule == name


class Faded(Rule):
    """One judge's confidence in what it saw is gone: a judge, and yet no labels."""

    name = "faded"
    judges_needed = (1, 1)
    labelled = False
    words = Words(found="{} are sure", eligible="Sure.", success="Not sure any more.")

    def look(self, images: Tensor, sources: Sources) -> Tensor:
        sure = self.judges[0].logits(images).softmax(1).amax(1) > 0.9
        return torch.where(sure, KEPT, CHANGED)


@pytest.fixture
def faded() -> Iterator[str]:
    RULES.register(Faded.name)(Faded)
    yield Faded.name
    RULES._registered.pop(Faded.name)


def scored_by(rule: str, *attacks: AttackEntry, scorers: tuple[JudgeRef, ...] = ()) -> Suite:
    content = load_suite("digits").limited(2).model_dump()
    content |= {"name": "own", "rule": rule, "attacker_judge": None, "scoring_judges": scorers}
    return Suite.model_validate({**content, "eps": (0.1, 0.5), "attacks": attacks})


def test_a_rule_may_have_a_judge_and_no_labels(faded: str) -> None:
    lenet = load_judge("digits", "lenet")
    ref = JudgeRef(architecture="lenet", sha256=lenet.sha256)
    noise = AttackEntry(attack="noise", goal="untargeted")
    suite = scored_by(faded, noise, scorers=(ref,))
    record = genrobust.bench("vae", suite)
    images = genrobust.load_images("digits").take(suite.sample_ids)
    clean = genrobust.load_model("vae").reconstruct(images)
    sure = int((lenet.logits(clean).softmax(1).amax(1) > 0.9).sum())
    assert record.scores.eligible == sure > 0
    assert [judge.name for judge in record.judges] == ["digits/lenet"]
    assert "Not sure any more." in render([(record, [])])
    with pytest.raises(ValueError, match="the rule 'faded' has no attacker_judge"):
        Suite.model_validate({**suite.model_dump(), "attacker_judge": ref.model_dump()})
    with pytest.raises(GenrobustError, match="scores by faded, without them; choose attacks"):
        genrobust.bench("vae", suite, attacks=["classifier"])
    with pytest.raises(GenrobustError, match="scores by faded, without judges; leave --judge out"):
        genrobust.bench("vae", suite, judge="lenet")
    with pytest.raises(GenrobustError, match="scores by faded, without them; choose a suite"):
        genrobust.minimum_norm("vae", suite)


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["targeted", "untargeted"])
def test_evidence_of_attacks_of_one_kind_is_verified(goal: str, tmp_path: Path) -> None:
    """Of a suite whose attacks all aim at a target, or all at none, none tried the other goal."""
    attacks = (AttackEntry.model_validate({"attack": "noise", "goal": goal}),)
    with brief_signs():
        prepared = prepare(
            "vae", scored_by("distance", *attacks), Options(evidence=True, workers=1)
        )
        execute(prepared, tmp_path)
        write_evidence(tmp_path, prepared.loaded.scorer.model)
        found = verify(tmp_path / EVIDENCE, VerifyOptions(workers=1)).verification
    assert found.passed, [check for check in found.checks if not check.passed]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.tensor([True, False]), r"torch\.bool and shape \(2,\) for 2 images"),
        (torch.tensor([[1], [0]]), r"torch\.int64 and shape \(2, 1\) for 2 images"),
        (torch.tensor([1]), r"torch\.int64 and shape \(1,\) for 2 images"),
    ],
)
def test_a_verdict_that_is_none_is_refused(given: Tensor, said: str) -> None:
    class Careless(Faded):
        def look(self, images: Tensor, sources: Sources) -> Tensor:
            return given

    look = Scorer(Careless(), genrobust.load_model("vae"), 0)
    with pytest.raises(GenrobustError, match=rf"the rule 'faded' gave verdicts of {said}"):
        look.verdict(torch.zeros(3, 2, 1, 1, 1), sources_of([0, 1]))


def test_sources_are_taken_with_all_that_is_theirs() -> None:
    part = sources_of([5, 7, 9])[torch.tensor([2, 0])]
    assert part.sample_ids == (9, 5)
    assert part.x.shape == (2, 1, 1, 1)


def test_any_class_but_the_sources_is_a_success_and_no_verdict_is_none() -> None:
    verdicts = torch.tensor([0, 1, 2, NO_VERDICT])
    labels = torch.full((4,), 1)
    none = torch.zeros(4, 1, 1, 1)
    sources = Sources((0, 1, 2, 3), none, labels, labels + 1, none, None, None)
    base = Baseline(**vars(sources), input_verdict=verdicts, clean_verdict=labels)
    assert base.reached(verdicts, None).tolist() == [True, False, True, False]
    assert base.reached(verdicts, labels + 1).tolist() == [False, False, True, False]
    assert base.eligible.tolist() == [False, True, False, False]
    turned = Baseline(**vars(sources), input_verdict=labels, clean_verdict=verdicts)
    assert turned.eligible.tolist() == base.eligible.tolist()

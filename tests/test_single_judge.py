"""The rule of the published attacks: one judge's word, and one whose dropout was left on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from principal import bright
from some_sources import sources_of
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.data import load_images
from genrobust.errors import GenrobustError
from genrobust.files import read_tensors
from genrobust.judges import Judge, load_judge
from genrobust.rules import Sources
from genrobust.rules.agreement import Agreement
from genrobust.rules.single import Single
from genrobust.runner.measure import Baseline, measure_baseline
from genrobust.runner.options import Options
from genrobust.runner.plan import plan
from genrobust.runner.prepare import prepare
from genrobust.runner.scorer import Scorer
from genrobust.runner.shard import make_batch
from genrobust.suites import Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture(scope="module")
def vae() -> genrobust.GenerativeModel:
    """Good on digits, and cheap."""
    return bright()


@pytest.fixture
def noise(small_suite: Suite) -> Suite:
    """One attack that needs no gradient, at one radius."""
    return small_suite.with_attacks(["noise"]).with_eps([0.2])


def baseline(scorer: Scorer, suite: Suite) -> Baseline:
    setting = prepare(scorer.model, suite, Options()).loaded
    whole = suite.model_copy(update={"chunk_size": len(suite.sample_ids)})
    (spec,) = plan(whole, "f", 0, "cpu")
    return measure_baseline(scorer, make_batch(spec, setting))


# One judge


def test_one_judges_word_is_the_score(noise: Suite, tmp_path: Path) -> None:
    suite = noise.with_eps([0.4])
    record = genrobust.bench("vae", suite, judge="lenet", rule="single", out=tmp_path)
    assert record.suite.rule == "single"
    assert [(judge.name, judge.role) for judge in record.judges if judge.role == "scorer"] == [
        ("digits/lenet", "scorer")
    ]
    assert "success by the judge lenet alone" in record.deviations
    assert record.provenance.command.count("--judge lenet") == 1
    judge, images = load_judge("digits", "lenet"), load_images("digits")
    model = genrobust.load_model("vae")
    x, labels = images.take(suite.sample_ids), images.labels_of(suite.sample_ids)
    right = judge.labels(model.reconstruct(x)) == labels
    fallen = torch.zeros_like(right)
    parts = [read_tensors(p)[0] for p in (tmp_path / "shards").iterdir()]
    for tensors in parts:
        for image, found in zip(tensors["source"], tensors["ignore.x_adv"], strict=True):
            i = next(k for k in range(len(x)) if torch.equal(x[k], image))
            fallen[i] = judge.labels(model.reconstruct(found[None]))[0] != labels[i]
    at = record.scores.per_eps[0]
    assert record.scores.eligible == int(right.sum())
    assert at.robust_accuracy.value == pytest.approx(float((right & ~fallen).double().mean()))


class _Says(nn.Module):
    """The same classes for any images."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        self.said = labels

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(self.said[: len(x)], 10).float()


class _OfInputsAndReconstructions(nn.Module):
    """The right class for what is no source, another one for sources."""

    def __init__(self, sources: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.sources, self.right = sources, labels

    def forward(self, x: Tensor) -> Tensor:
        is_source = torch.equal(x, self.sources)
        return nn.functional.one_hot((self.right + int(is_source)) % 10, 10).float()


def test_the_label_of_the_input_is_not_asked_for(
    vae: genrobust.GenerativeModel, noise: Suite
) -> None:
    images = load_images("digits")
    x, labels = images.take(noise.sample_ids), images.labels_of(noise.sample_ids)
    blind = [Judge("blind to inputs", _OfInputsAndReconstructions(x, labels), "")]
    single, agreement = (
        baseline(Scorer(rule(blind), vae, 0), noise) for rule in (Single, Agreement)
    )
    assert single.eligible.all()
    assert not agreement.eligible.any()
    assert torch.equal(single.clean_verdict, agreement.clean_verdict)


def test_an_attacked_image_may_have_lost_its_label(vae: genrobust.GenerativeModel) -> None:
    x, labels = load_images("digits").take(range(3)), torch.tensor([1, 2, 3])
    judges = [Judge("sees 7", _Says(torch.tensor([7, 7, 7])), "")]
    sources = Sources((0, 1, 2), x, labels, labels, x, None)
    assert Scorer(Single(judges), vae, 0).keeps_label(x, sources).all()
    assert not Scorer(Agreement(judges), vae, 0).keeps_label(x, sources).any()


def test_the_report_speaks_of_one_judge(noise: Suite, tmp_path: Path) -> None:
    genrobust.bench("vae", noise.limited(2), judge="lenet", rule="single", out=tmp_path)
    page = (tmp_path / "report.html").read_text()
    for said in ("the judge recognises 2 of 2", "A single one scores", "is not looked at"):
        assert said in page
    for falsehood in ("the judges recognise", "only where they agree", "still see the source"):
        assert falsehood not in " ".join(page.split())


# One judge whose dropout draws


@pytest.fixture(scope="module")
def live(vae: genrobust.GenerativeModel) -> Scorer:
    suite = load_suite("digits").limited(4)
    options = Options(judge="thesis", rule="single-live", attacks=("noise",))
    return prepare(vae, suite, options).loaded.scorer


def test_only_dropout_draws_and_the_shipped_judge_stays_as_it_is() -> None:
    judge = load_judge("digits", "vgg")
    live = judge.live()
    assert live.sha256 == judge.sha256
    modes = {type(part).__name__: part.training for part in live.module.modules()}
    assert modes["Dropout"]
    assert not modes["BatchNorm2d"]
    assert not any(part.training for part in judge.module.modules())
    x = load_images("digits").take(range(8))
    assert not torch.equal(live.logits(x), live.logits(x))
    assert torch.equal(judge.logits(x), judge.logits(x))


def test_what_a_live_judge_says_depends_on_sample_seed_and_purpose_alone(live: Scorer) -> None:
    assert live.rule.name == "single-live"
    x, ids = load_images("digits").take(range(40)), list(range(40))
    faint = (0.35 * x)[None]  # where dropout decides
    torch.manual_seed(1)
    before = torch.get_rng_state()
    sources = sources_of(ids)
    first = live.verdict(faint, sources)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(live.verdict(faint, sources), first)
    for chosen in ([7], [30, 2, 11]):
        assert torch.equal(live.verdict(faint[:, chosen], sources_of(chosen)), first[chosen])
    others = [
        live.verdict(faint, sources, clean=True),
        live.verdict(faint, sources_of([i + 100 for i in ids])),
        Scorer(live.rule, live.model, 1).verdict(faint, sources),
    ]
    assert all(not torch.equal(other, first) for other in others)


@pytest.mark.slow
def test_the_floor_without_an_attack_is_the_chance_of_another_draw(live: Scorer) -> None:
    """Sources kept by one draw and judged by another: sum p (1 - p) / sum (1 - p)."""
    images = load_images("digits")
    ids = list(range(50))
    x, labels = images.take(ids), images.labels_of(ids)
    (judge,) = live.rule.judges
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shown = live.model.reconstruct(x)
        errs = torch.stack([judge.labels(shown) != labels for _ in range(100)]).double().mean(0)
    expected = float((errs * (1 - errs)).sum() / (1 - errs).sum())
    kept = fallen = 0
    for seed in range(8):
        look = Scorer(live.rule, live.model, seed)
        eligible = look.verdict(shown[None], sources_of(ids), clean=True) == labels
        changed = look.verdict(shown[None], sources_of(ids)) != labels
        kept, fallen = kept + int(eligible.sum()), fallen + int((eligible & changed).sum())
    assert 0.01 < expected < 0.3
    assert fallen / kept == pytest.approx(expected, abs=0.03)


@pytest.mark.slow
def test_without_a_radius_a_live_judge_changes_classes_and_a_calm_one_none(
    noise: Suite, tmp_path: Path
) -> None:
    suite = load_suite("digits").limited(24).with_attacks(["noise"]).with_eps([0.0])
    floors = []
    for rule in ("single-live", "single"):
        record = genrobust.bench("vae", suite, judge="thesis", rule=rule, out=tmp_path)
        assert record.suite.rule == rule
        at = record.scores.per_eps[0]
        assert at.as_ignore_target is not None
        floors.append(at.as_ignore_target.value)
        assert any("its dropout drawing" in d for d in record.deviations) == (rule == "single-live")
    assert floors[0] > 0
    assert floors[1] == 0


@pytest.mark.slow
def test_live_scores_are_those_of_any_chunk_and_one_worker(
    vae: genrobust.GenerativeModel, noise: Suite
) -> None:
    suites = [noise.model_copy(update={"chunk_size": size}) for size in (2, 4)]
    found = [
        genrobust.bench(vae, suite, judge="thesis", rule="single-live").scores for suite in suites
    ]
    seen = [(s.eligible, s.clean_accuracy, s.per_eps[0].robust_accuracy) for s in found]
    assert seen[0] == seen[1]
    options = Options(judge="thesis", rule="single-live", workers=4)
    assert prepare(vae, noise, options).workers == 1
    assert prepare(vae, noise, Options(judge="thesis", rule="single", workers=4)).workers == 4


# The command


@pytest.fixture
def run(tmp_path: Path, noise: Suite) -> Callable[..., tuple[int, str]]:
    path = tmp_path / "noise.json"
    path.write_text(noise.limited(2).model_dump_json())

    def bench(*words: str) -> tuple[int, str]:
        command = ["bench", "--model", "vae", "--suite", str(path), "--out", str(tmp_path / "out")]
        done = CliRunner().invoke(app, [*command, *words])
        return done.exit_code, " ".join(done.output.split())

    return bench


def test_the_command_scores_as_published(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, said = run("--judge", "thesis", "--rule", "single-live")
    assert code == 0, said
    (path,) = (tmp_path / "out").rglob("record.json")
    record = json.loads(path.read_text())
    assert record["suite"]["rule"] == "single-live"
    assert "--judge thesis --rule single-live" in record["provenance"]["command"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--judge", "lenet", "--rule", "single-live"], "has no dropout .* such as 'thesis'"),
        (
            ["--rule", "single"],
            "needs exactly one of scoring_judges, and there are 2; give .* --judge",
        ),
        (["--judge", "lennet"], "unknown judge 'lennet'; did you mean 'lenet'"),
    ],
)
def test_a_judge_that_cannot_score_is_refused(
    words: list[str], message: str, run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, said = run(*words)
    assert code == 2
    assert re.search(message, said), said
    assert not (tmp_path / "out").exists()


def test_a_suite_may_name_the_rule_itself(noise: Suite, tmp_path: Path) -> None:
    judge = {"architecture": "thesis", "sha256": load_judge("digits", "thesis").sha256}
    content = json.loads(noise.limited(2).model_dump_json())
    path = tmp_path / "live.json"
    path.write_text(json.dumps({**content, "rule": "single-live", "scoring_judges": [judge]}))
    assert genrobust.bench("vae", str(path)).suite.rule == "single-live"
    lenet = {"architecture": "lenet", "sha256": load_judge("digits", "lenet").sha256}
    path.write_text(json.dumps({**content, "rule": "single-live", "scoring_judges": [lenet]}))
    with pytest.raises(GenrobustError, match="has no dropout"):
        genrobust.bench("vae", str(path))

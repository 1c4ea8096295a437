"""Suites without judges: success by distance, on data without labels too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.data import DATASETS, Images, load_images
from genrobust.data.base import _load
from genrobust.errors import GenrobustError
from genrobust.files import read_tensors
from genrobust.records.record import Record
from genrobust.rules import CHANGED, KEPT, Sources
from genrobust.rules.distance import Distance
from genrobust.runner.measure import measure_baseline
from genrobust.runner.options import Options
from genrobust.runner.plan import plan
from genrobust.runner.prepare import prepare
from genrobust.runner.scorer import Scorer
from genrobust.runner.shard import make_batch
from genrobust.suites import Suite, load_suite
from genrobust.suites.suite import SUITES
from genrobust.training.judge import train_judge

pytestmark = pytest.mark.usefixtures("brief")

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a suite file that scores by distance, with changes."""

    def write_file(**changes: Any) -> Path:
        content = json.loads(load_suite("digits").limited(4).model_dump_json())
        attacks = [("noise", {}), ("latent", {"steps": 15}), ("output", {"steps": 15})]
        content |= {
            "name": "digits-by-distance",
            "rule": "distance",
            "attacker_judge": None,
            "scoring_judges": [],
            "chunk_size": 2,
            "eps": [0.02, 0.3],
            "resamples": 100,
            "attacks": [
                {"attack": name, "goal": "targeted", "settings": settings}
                for name, settings in attacks
            ],
        }
        path = tmp_path / "mine.json"
        path.write_text(json.dumps({**content, **changes}))
        return path

    return write_file


def bench(*words: str) -> Any:
    return CliRunner().invoke(app, ["bench", "--model", "vae", *words])


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).flatten(1).norm(dim=1)


# Scoring


def test_a_success_is_what_lies_nearer_to_the_targets_reconstruction(
    write: Writer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    record = genrobust.bench("vae", str(write()), out=out)
    scores = record.scores
    assert (scores.sources, scores.eligible, scores.clean_accuracy.value) == (4, 4, 1)
    assert scores.per_eps[1].robust_accuracy.value < scores.per_eps[0].robust_accuracy.value
    assert record.judges == ()
    model, images = genrobust.load_model("vae"), load_images("digits")
    suite, fallen = record.suite, 0
    target = model.reconstruct(images.take(suite.target_ids))
    source = model.reconstruct(images.take(suite.sample_ids))
    joined = [read_tensors(p)[0] for p in (out / "shards").iterdir()]
    for tensors in joined:
        for i, x in enumerate(tensors["source"]):
            at = next(
                k for k, s in enumerate(suite.sample_ids) if torch.equal(images.take([s])[0], x)
            )
            for goal in ("ignore", "target"):
                moved = model.reconstruct(tensors[f"{goal}.x_adv"][i : i + 1])
                to_target = euclidean(moved, target[at : at + 1])
                reached = bool(to_target < euclidean(moved, source[at : at + 1]))
                assert reached == (int(tensors[f"{goal}.radius"][i]) < 2)
                fallen += reached
    assert fallen >= 4


def test_every_source_that_is_reconstructed_is_eligible(write: Writer) -> None:
    suite = load_suite(str(write(target_ids=[598, 584, 597, 595])))
    setting = prepare("vae", suite, Options()).loaded
    whole = suite.model_copy(update={"chunk_size": 4})
    (spec,) = plan(whole, "f", 0, "cpu")
    baseline = measure_baseline(setting.scorer, make_batch(spec, setting))
    assert baseline.eligible.tolist() == [True] * 4
    assert baseline.labels.tolist() == [KEPT] * 4
    assert baseline.target_reconstruction is not None
    of_targets = setting.scorer.verdict(baseline.target_reconstruction[None], baseline)
    assert of_targets.tolist() == [CHANGED] * 4


@pytest.mark.parametrize("rule", ["distance", "damage"])
def test_a_source_that_is_to_imitate_itself_is_refused(rule: str, write: Writer) -> None:
    """It is never nearer to its target than to itself, and would count as robust."""
    suite = load_suite(str(write(rule=rule, target_ids=[598, 1, 597, 595])))
    assert suite.sample_ids[1] == 1
    with pytest.raises(GenrobustError, match=r"gives the image 1 itself as its target, .* another"):
        genrobust.bench("vae", suite)


def test_the_nearer_of_two_points_is_said_of_each_draw() -> None:
    dark, light, none = torch.zeros(3, 1, 1, 2), torch.ones(3, 1, 1, 2), torch.zeros(3)
    sources = Sources((0, 1, 2), dark, none, none, dark, light, light)
    draws = torch.tensor([[0.4, 0.6, 0.6], [0.4, 0.6, 0.4], [0.6, 0.6, 0.4]])
    images = draws.view(3, 3, 1, 1, 1).expand(3, 3, 1, 1, 2)
    look = Scorer(Distance(), genrobust.load_model("vae"), 0)
    assert look.verdict(images, sources).tolist() == [KEPT, CHANGED, KEPT]


def test_what_lies_as_near_to_both_is_not_brought_nearer_to_the_targets() -> None:
    dark, light, none = torch.zeros(3, 1, 1, 2), torch.ones(3, 1, 1, 2), torch.zeros(3)
    sources = Sources((0, 1, 2), dark, none, none, dark, light, light)
    grey = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1, 1).expand(3, 1, 1, 2)
    assert Distance().look(grey, sources).tolist() == [KEPT, KEPT, CHANGED]


# From the command to the page


@pytest.mark.slow
def test_a_file_runs_from_the_command_to_the_report(write: Writer, tmp_path: Path) -> None:
    done = bench("--suite", str(write()), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert "not brought nearer to their target's reconstruction" in " ".join(done.output.split())
    (folder,) = (tmp_path / "out" / "digits-by-distance-v2").iterdir()
    record = Record.model_validate_json((folder / "record.json").read_text())
    assert record.suite.rule == "distance"
    assert "--suite mine.json" in record.provenance.command
    assert not record.official
    page = (folder / "report.html").read_text()
    assert "bring" in page
    assert "nearer to the target&#39;s" in page
    for falsehood in ("the judges", "Judges", "Pairs of classes", "Class 0", "shows 1", "class 0"):
        assert falsehood not in page, falsehood
    again = bench("--suite", str(write()), "--out", str(tmp_path / "out"))
    assert again.exit_code == 0


def test_a_suite_with_judges_keeps_its_words(small_suite: Suite, tmp_path: Path) -> None:
    quick = small_suite.limited(2).with_attacks(["noise"])
    genrobust.bench("vae", quick, out=tmp_path)
    page = (tmp_path / "report.html").read_text()
    for said in ("the judges recognise", "Judges", "Pairs of classes", "still see the source"):
        assert said in page
    assert "nearer" not in page


# What is refused, before anything runs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attack", "classifier"], "'classifier' needs a judge or labels.*'latent' or 'output'"),
        (["--attack", "standard"], "needs a judge or labels"),
        (["--attack", "nearest"], "'nearest' needs a judge or labels"),
        (["--attack", "kos-latent"], "'kos-latent' needs a judge or labels"),
        (["--attack", "kos-classifier"], "'kos-classifier' needs a judge or labels"),
        (["--attack", "foolbox:LinfPGD"], "'foolbox:LinfPGD' needs a judge or labels"),
        (["--judge", "lenet"], "scores by distance, without judges; leave --judge out"),
    ],
)
def test_what_needs_a_judge_is_refused_before_anything_runs(
    words: list[str], message: str, write: Writer, tmp_path: Path
) -> None:
    done = bench("--suite", str(write()), "--out", str(tmp_path / "out"), *words)
    said = " ".join(done.output.split())
    assert done.exit_code == 2, said
    assert re.search(message, said), said
    assert not (tmp_path / "out").exists()


JUDGE = {"architecture": "lenet", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "nearest"}, "rule: unknown rule 'nearest'; did you mean"),
        ({"scoring_judges": [JUDGE]}, "'distance' has no judges: leave them out"),
        ({"attacker_judge": JUDGE}, "'distance' has no judges: leave them out"),
        ({"rule": "agreement"}, "'agreement' needs scoring_judges"),
        ({"rule": "agreement", "scoring_judges": [JUDGE]}, "'agreement' needs an attacker_judge"),
        (
            {"rule": "single", "scoring_judges": [JUDGE, JUDGE]},
            "'single' needs exactly one of scoring_judges",
        ),
        ({"rule": "single-live"}, "'single-live' needs exactly one of scoring_judges"),
    ],
)
def test_a_rule_and_its_judges_must_fit(
    change: dict[str, Any], message: str, write: Writer
) -> None:
    with pytest.raises(GenrobustError) as found:
        load_suite(str(write(**change)))
    said = str(found.value)
    assert message in said
    assert "\n" not in said
    assert said.endswith("'genrobust show suite digits'")


# Data without labels


class Waves:
    """Stripes of all widths; nobody has named them."""

    name = "waves-of-this-test"
    classes = ()
    image_shape = (1, 32, 32)

    def load(self, split: str, root: Path | None) -> Images:
        width = torch.arange(1, 13).view(-1, 1, 1, 1) + (0.5 if split == "train" else 0)
        across = torch.arange(32).view(1, 1, 1, 32)
        images = (0.5 + 0.5 * (across / width).sin()).expand(-1, 1, 32, 32)
        return Images(images.contiguous(), None, (32, 32))


@pytest.fixture
def waves() -> Iterator[str]:
    DATASETS.register(Waves.name)(Waves)
    yield Waves.name
    DATASETS._registered.pop(Waves.name)
    _load.cache_clear()


def test_images_without_labels_have_a_hash_of_their_own_and_say_so() -> None:
    images = Waves().load("test", None)
    labelled = Images(images.raw, torch.zeros(12, dtype=torch.long), (32, 32))
    assert images.sha256 != labelled.sha256
    assert images.sha256 == Waves().load("test", None).sha256
    with pytest.raises(GenrobustError, match="have no labels"):
        images.labels_of([0])
    assert labelled.labels_of([0, 3]).tolist() == [0, 0]


@pytest.mark.slow
def test_unlabelled_data_is_scored_by_distance(waves: str, write: Writer, tmp_path: Path) -> None:
    ids = list(range(6))
    changes = {"dataset": waves, "sample_ids": ids, "target_ids": ids[::-1]}
    sha256 = load_images(waves).sha256
    path = write(**changes, data_sha256=sha256, eps=[0.3])
    record = genrobust.bench(genrobust.load_model("vae"), str(path), out=tmp_path / "out")
    assert record.scores.sources == 6
    assert record.scores.per_eps[-1].as_target is not None
    assert "Class" not in (tmp_path / "out" / "report.html").read_text()


def test_the_data_and_the_suite_of_the_guide_are_benched(repository: Path) -> None:
    guide = (repository / "docs" / "plugins.md").read_text()
    blocks = [b for b in re.findall(r"```python\n(.*?)```", guide, flags=re.S) if "waves" in b]
    try:
        for block in blocks:
            exec(block, {"__name__": "guide"})
        model = genrobust.load_model("vae")
        record = genrobust.bench(model, "waves", limit=2, attacks=["noise"])
        assert record.data.name == "waves"
        assert record.suite.rule == "damage"
    finally:
        DATASETS._registered.pop("waves", None)
        SUITES._registered.pop("waves", None)
        _load.cache_clear()


def test_judges_on_unlabelled_data_are_refused(
    waves: str, small_suite: Suite, tmp_path: Path
) -> None:
    update = {"dataset": waves, "data_sha256": load_images(waves).sha256}
    with pytest.raises(GenrobustError, match=r"have no labels.*the rule 'distance'"):
        genrobust.bench("vae", small_suite.model_copy(update=update), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(GenrobustError, match=r"has no labels, and they are what is learned"):
        train_judge("lenet", waves, tmp_path, steps=1)

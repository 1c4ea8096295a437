"""Scores on model cards and in the hub's evaluation results, as the hub's library reads them."""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from genrobust import Record
from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.publish import Replayed, replay_run, write_card, write_eval_results
from genrobust.records.record import Flag
from genrobust.verify import verify as verifying

hub = pytest.importorskip("huggingface_hub", minversion="1.4")
yaml = pytest.importorskip("yaml")

ENTRY = Path(__file__).parent.parent / "leaderboard" / "entries" / "digits-v1" / "zoo-jointvae"
URL = "https://huggingface.co/owner/name/resolve/main/evidence.zip"


@pytest.fixture(scope="module")
def found() -> Replayed:
    """Of a replay, without the replay, which a slow test does."""
    digest = hashlib.sha256((ENTRY / "evidence.zip").read_bytes()).hexdigest()
    return Replayed(Record.load(ENTRY), digest, URL)


def test_a_new_card_has_every_score_and_its_source(found: Replayed, tmp_path: Path) -> None:
    path = write_card(tmp_path / "README.md", found)
    card = hub.ModelCard.load(path)
    assert card.data.model_name == "jointvae"
    scores = found.record.scores
    read = {one.metric_type: one for one in card.data.eval_results}
    assert read.keys() == {
        "clean_accuracy",
        "robust_area",
        *(f"robust_accuracy_{at.eps:g}" for at in scores.per_eps),
    }
    for at in scores.per_eps:
        one = read[f"robust_accuracy_{at.eps:g}"]
        assert one.metric_value == pytest.approx(at.robust_accuracy.value, abs=1e-4)
        assert f"eps {at.eps:g} (L∞)" in one.metric_name
        assert "over 90 sources" in one.metric_name
        assert one.source_url == f"{URL}#sha256={found.sha256}"
        assert one.dataset_args["suite_sha256"] == found.record.suite_sha256


def test_a_card_keeps_what_else_it_says_and_its_other_results(
    found: Replayed, tmp_path: Path
) -> None:
    path = tmp_path / "README.md"
    other = hub.EvalResult("image-to-image", "mnist", "MNIST", "fid", 3.5)
    data = hub.ModelCardData(license="mit", model_name="mine", eval_results=[other])
    path.write_text(f"---\n{data.to_yaml()}\n---\n\n# Mine\n\nWords.\n")
    write_card(path, found)
    once = path.read_text()
    write_card(path, found)
    assert path.read_text() == once, "scores of the same suite are replaced"
    assert once.endswith("\n# Mine\n\nWords.\n")
    card = hub.ModelCard.load(path)
    assert (card.data.license, card.data.model_name) == ("mit", "mine")
    kinds = [one.metric_type for one in card.data.eval_results]
    assert kinds.count("fid") == kinds.count("robust_area") == 1
    path.write_text("---\n: [\n---\n")
    with pytest.raises(GenrobustError, match="cannot be read as a model card"):
        write_card(path, found)


def test_evaluation_results_are_read_by_the_hub(found: Replayed, tmp_path: Path) -> None:
    path = write_eval_results(tmp_path, found, "owner/digits")
    assert path == tmp_path / ".eval_results" / "digits-v1.yaml"
    (entry,) = hub.parse_eval_result_entries(yaml.safe_load(path.read_text()))
    area = found.record.scores.robust_area
    assert area is not None
    assert (entry.dataset_id, entry.task_id) == ("owner/digits", "digits-v1")
    assert entry.value == pytest.approx(100 * area.value, abs=0.01)
    assert entry.source_url == found.source
    assert found.sha256 in entry.notes
    with pytest.raises(GenrobustError, match="names no data set on the hub"):
        write_eval_results(tmp_path, found, "digits")
    limited = found.record.model_copy(update={"official": False, "deviations": ("20 samples",)})
    with pytest.raises(GenrobustError, match=r"not the suite's \(20 samples\)"):
        write_eval_results(tmp_path, Replayed(limited, found.sha256, URL), "owner/digits")


def test_what_cannot_be_checked_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GenrobustError, match="is no address of the evidence"):
        replay_run(ENTRY, "ftp://x")
    with pytest.raises(GenrobustError, match="there is no evidence"):
        replay_run(tmp_path, URL)
    archive = tmp_path / "evidence.zip"
    shutil.copy(ENTRY / "evidence.zip", archive)
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(GenrobustError, match="does not give its scores"):
        replay_run(archive, URL)
    found = verifying.verify(ENTRY / "evidence.zip", verifying.VerifyOptions("schema"))
    assert found.subject is not None
    flag = Flag(name="gradients vanish", evidence="", value=1.0, limit=0.1)
    evidence = found.subject.evidence
    flagged = replace(evidence, record=evidence.record.model_copy(update={"flags": (flag,)}))
    found = replace(found, subject=replace(found.subject, evidence=flagged))
    monkeypatch.setattr(sys.modules[replay_run.__module__], "verify", lambda *_, **__: found)
    with pytest.raises(GenrobustError, match=r"flagged \(gradients vanish\)"):
        replay_run(ENTRY, URL)


@pytest.mark.slow
def test_the_command_replays_and_writes_both(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    words = ["publish", str(ENTRY), "--url", URL, "--card", str(card)]
    words += ["--eval-results", str(tmp_path), "--benchmark", "owner/digits"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert card.exists()
    assert (tmp_path / ".eval_results" / "digits-v1.yaml").exists()
    for wrong, said in {
        (): "nothing to write",
        ("--eval-results", "."): "go together",
    }.items():
        found = CliRunner().invoke(app, [*words[:4], *wrong])
        assert found.exit_code == 2
        assert said in found.output

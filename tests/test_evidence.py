"""Evidence: what it holds, that it is read whole or not at all, and records of earlier versions."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evidence_runs import registered, run, tiny
from pydantic import ValidationError
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust import files
from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.evidence.archive import read_archive, write_archive
from genrobust.evidence.bundle import (
    EVIDENCE,
    MANIFEST,
    OUTCOMES,
    RECORD,
    TENSORS,
    Evidence,
    gather,
    pack,
    read_evidence,
    unpack,
    write_evidence,
)
from genrobust.evidence.entry import BundledModel, Outcomes, ZooModel
from genrobust.models import load_model
from genrobust.outcomes.outcome import GOALS
from genrobust.records.load import read_record
from genrobust.records.outcomes import check_outcomes
from genrobust.records.record import Record
from genrobust.runner.options import Options
from genrobust.runner.perturbation import restore, step_of
from genrobust.runner.prepare import prepare
from genrobust.runner.run import execute
from genrobust.suites import Suite
from genrobust.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture(scope="module")
def evidence(tiny_run: Path) -> Evidence:
    return read_evidence(tiny_run / EVIDENCE)


class Narrow(nn.Module):
    """A module of one's own: the images' left halves are kept."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 0.9))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = (self.scale * x).flatten(1)
        return mean, torch.zeros_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        return z.view(-1, 1, 32, 32).clamp(0, 1)


def test_the_archive_holds_what_a_replay_needs(tiny_run: Path, evidence: Evidence) -> None:
    members = read_archive(tiny_run / EVIDENCE)
    assert set(members) == {RECORD, OUTCOMES, TENSORS, MANIFEST}
    assert members[RECORD] == (tiny_run / RECORD).read_bytes()
    assert members[OUTCOMES] == (tiny_run / OUTCOMES).read_bytes()
    assert evidence.model == ZooModel(name="vae", dataset="digits")
    check_outcomes(evidence.record, Outcomes.model_validate_json(members[OUTCOMES]))


def test_restored_images_are_those_that_were_scored(tiny_run: Path, evidence: Evidence) -> None:
    """Against the images in the shards, which the evidence leaves out."""
    suite = evidence.record.suite
    steps = torch.tensor([*(step_of(ThreatModel("linf", eps)) for eps in suite.eps), 0.0])
    for number, key in enumerate(evidence.record.provenance.shards):
        shard, _ = files.read_tensors(tiny_run / "shards" / f"{key}.safetensors")
        for goal, found in evidence.shard(number).goals.items():
            fell = found.radius < len(suite.eps)
            images = restore(found.perturbation, shard["source"], steps[found.radius])
            assert torch.equal(images[fell], shard[f"{GOALS[goal]}x_adv"][fell])
            assert not found.perturbation[~fell].any()
            assert found.perturbation.dtype == torch.int8
        assert torch.equal(evidence.tensors["tried"][number], shard["tried"])


def test_a_thousand_sources_take_less_than_their_bytes(tiny_run: Path, evidence: Evidence) -> None:
    """One byte a pixel and goal before it is packed; fixed parts are small."""
    count, pixels = len(evidence.record.suite.sample_ids), 32 * 32
    assert len(pack(evidence)[TENSORS]) < count * (2 * pixels + 220) + 10_000
    assert (tiny_run / EVIDENCE).stat().st_size < count * 2 * pixels


def test_the_same_run_gives_the_same_bytes(tiny_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    before = (copy / EVIDENCE).read_bytes()
    (copy / EVIDENCE).unlink()
    with registered():
        write_evidence(copy, load_model("vae"))
    assert (copy / EVIDENCE).read_bytes() == before


@pytest.mark.slow
def test_a_model_of_ones_own_goes_along_as_data(tmp_path: Path) -> None:
    """It is run as the data that it goes along as, so that its fingerprint is the record's."""
    suite = tiny().limited(2).model_copy(update={"attacks": tiny().attacks[:1], "eps": (0.1,)})
    genrobust.bench(genrobust.wrap(Narrow()), suite, evidence=True, workers=1, out=tmp_path)
    found = read_evidence(tmp_path / EVIDENCE)
    assert found.model == BundledModel(format="exported")
    loaded = found.load_model()
    assert loaded.fingerprint() == found.record.model.fingerprint
    x = torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(loaded.reconstruct(x), genrobust.wrap(Narrow()).reconstruct(x))


def test_a_model_that_cannot_be_data_is_named_by_its_fingerprint(tmp_path: Path) -> None:
    model = genrobust.wrap(Narrow(), deploy=lambda x: (8 * x).round() / 8)
    with pytest.warns(GenrobustWarning, match=r"by its fingerprint alone.*external"):
        genrobust.bench(model, tiny().limited(2), evidence=True, workers=1, out=tmp_path)
    found = read_evidence(tmp_path / EVIDENCE)
    assert found.model is None
    assert found.record.model.fingerprint == model.fingerprint()
    with pytest.raises(GenrobustError, match="by fingerprint alone"):
        found.load_model()


@pytest.mark.slow
def test_a_bundled_model_can_be_benched_by_others(tmp_path: Path) -> None:
    suite = tiny().limited(2).model_copy(update={"eps": (0.1,)})
    (tmp_path / "suite.json").write_text(suite.model_dump_json())
    (tmp_path / "own.py").write_text(
        "from genrobust.models.networks import NetworkSpec, initialised\n"
        "def build():\n    return initialised(NetworkSpec(gaussian=3), seed=1)\n"
    )
    common = ["--suite", str(tmp_path / "suite.json"), "--attack", "noise", "--workers", "1"]
    bench = ["bench", *common, "--out", str(tmp_path / "out"), "--model"]
    ended = CliRunner().invoke(app, [*bench, f"{tmp_path / 'own.py'}:build", "--evidence"])
    assert ended.exit_code == 0, ended.output
    folder = next((tmp_path / "out" / "tiny-v1").iterdir())
    other = ["bench", *common, "--out", str(tmp_path / "other"), "--model"]
    ended = CliRunner().invoke(app, [*other, str(folder / EVIDENCE)])
    assert ended.exit_code == 0, ended.output
    first = Record.model_validate_json((folder / RECORD).read_bytes())
    path = next((tmp_path / "other" / "tiny-v1").iterdir()) / RECORD
    again = Record.model_validate_json(path.read_bytes())
    assert again.model.fingerprint == first.model.fingerprint
    assert again.model.reference == str(folder / EVIDENCE)
    assert again.scores == first.scores
    assert "--evidence" in first.provenance.command


def test_only_a_finished_run_of_that_model_gives_evidence(tiny_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    with pytest.raises(GenrobustError, match="the model is not the one"):
        gather(copy, load_model("jointvae"))
    next((copy / "shards").iterdir()).unlink()
    with pytest.raises(GenrobustError, match=r"has 1 of the run's 2 shards; call .*bench again"):
        gather(copy, load_model("vae"))
    with pytest.raises(GenrobustError, match="name the folder of a finished run"):
        gather(tmp_path / "nowhere", load_model("vae"))


@pytest.mark.parametrize("name", [RECORD, OUTCOMES, TENSORS, MANIFEST])
def test_evidence_that_is_not_whole_is_refused(name: str, evidence: Evidence) -> None:
    contents = pack(evidence)
    with pytest.raises(GenrobustError, match=name):
        unpack({n: c for n, c in contents.items() if n != name})
    with pytest.raises(GenrobustError, match=name):
        unpack({**contents, name: contents[name][:-20]})


@pytest.mark.parametrize(
    ("name", "tensor", "match"),
    [
        ("label", torch.zeros(24), "'label' is torch.float32"),
        ("tried", torch.zeros(3, 5, 2, dtype=torch.int64), r"'tried' is .*\(3, 5, 2\)"),
        ("ignore.radius", torch.full((24,), 7), "radii that its suite does not have"),
        ("ignore.perturbation", torch.zeros(24, 1, 32, 32), "'ignore.perturbation' is torch.float"),
        ("extra", torch.zeros(24), "'extra' is"),
    ],
)
def test_tensors_that_do_not_fit_the_suite_are_refused(
    name: str, tensor: Tensor, match: str, evidence: Evidence
) -> None:
    other = replace(evidence, tensors={**evidence.tensors, name: tensor})
    with pytest.raises(GenrobustError, match=match):
        unpack(pack(other))


def test_a_sign_that_is_left_out_is_missed(evidence: Evidence) -> None:
    kept = {name: t for name, t in evidence.tensors.items() if name != "gradient_norm"}
    other = replace(evidence, tensors=kept)
    vars(other)["outcome"] = evidence.outcome  # so that its outcomes.json is whole
    with pytest.raises(GenrobustError, match="has no 'gradient_norm'"):
        unpack(pack(other))


def test_an_archive_with_a_foreign_file_is_refused(evidence: Evidence, tmp_path: Path) -> None:
    write_archive(tmp_path / "e.zip", {**pack(evidence), "model.py": b"raise SystemExit"})
    with pytest.raises(GenrobustError, match="none of those that belong in it"):
        read_evidence(tmp_path / "e.zip")


@pytest.mark.slow
def test_scores_by_distance_have_evidence_of_signs_that_need_no_judge(
    tmp_path: Path, small_suite: Suite
) -> None:
    changes = {"rule": "distance", "attacker_judge": None, "scoring_judges": ()}
    suite = small_suite.model_copy(update=changes).with_attacks(["latent"]).limited(2)
    prepared = prepare("vae", suite, Options(evidence=True, workers=1))
    execute(prepared, tmp_path)
    write_evidence(tmp_path, prepared.loaded.scorer.model)
    kept = read_evidence(tmp_path / EVIDENCE).tensors
    assert "gradient_norm" in kept
    assert not any(name.startswith("longer.") for name in kept)


def test_a_current_record_is_read_as_it_is(tiny_run: Path) -> None:
    content = (tiny_run / RECORD).read_bytes()
    assert read_record(content) == Record.model_validate_json(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"schema_version": 1}', b'{"schema_version": 99}', b"[" * 100_000],
)
def test_what_is_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(ValidationError):
        read_record(content)


def test_no_warning_for_a_model_that_can_be_data(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path / "run", limit=2, attacks=("noise",), eps=(0.1,))

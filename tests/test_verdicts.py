"""Only what is wrong with a submission is a verdict on it; all else leaves it as it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evidence_runs import BOARD, Forger, reason, registered, sha256, verified
from typer.testing import CliRunner

from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.evidence.bundle import EVIDENCE, MANIFEST, OUTCOMES, RECORD
from genrobust.evidence.entry import ZooModel
from genrobust.judges import load as judges
from genrobust.models import zoo
from genrobust.verify.subject import find_subjects
from genrobust.verify.verify import VerifyOptions, verify

VERIFICATION = "verification.json"


@pytest.fixture
def entry(tiny_entry: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, verified already."""
    copy = tmp_path / "entries" / BOARD / tiny_entry.name
    shutil.copytree(tiny_entry, copy)
    return copy


@pytest.fixture
def folder(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of a run's folder."""
    shutil.copytree(tiny_run, tmp_path / "run")
    return tmp_path / "run"


def cli(*words: str | Path) -> tuple[int, str]:
    with registered():
        ended = CliRunner().invoke(app, ["verify", *map(str, words)])
    return ended.exit_code, " ".join(ended.output.split())


@pytest.mark.parametrize(
    "words",
    [
        *(["--workers", "0"], ["--workers", "-3"], ["--share", "0"], ["--share", "nan"]),
        ["--depth", "reattack"],
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_no_verdict(words: list[str], entry: Path) -> None:
    before = (entry / VERIFICATION).read_bytes()
    code, output = cli(entry, *words)
    assert (code, "FAILED" in output) == (2, False), output
    assert words[0] in output or "reattack" in output
    assert (entry / VERIFICATION).read_bytes() == before


def _no_judges(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(judges, "WEIGHTS", folder)


def _other_judges(patch: pytest.MonkeyPatch, folder: Path) -> None:
    real = judges.load_judge
    patch.setattr("genrobust.runner.prepare.load_judge", lambda dataset, name: real(dataset, "vgg"))


def _no_weights(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(zoo, "WEIGHTS", folder)


def _no_memory(patch: pytest.MonkeyPatch, folder: Path) -> None:
    def measured(*given: object) -> None:
        raise MemoryError

    patch.setattr("genrobust.verify.replay.measure_outcome", measured)


def _no_memory_in_the_model(patch: pytest.MonkeyPatch, folder: Path) -> None:
    def measured(*given: object) -> None:
        try:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        except RuntimeError as problem:
            raise GenrobustError("the model's decode failed") from problem

    patch.setattr("genrobust.verify.replay.measure_outcome", measured)


def _disk_full(patch: pytest.MonkeyPatch, folder: Path) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr(os, "fsync", full)


def _unreadable(patch: pytest.MonkeyPatch, folder: Path) -> None:
    def broken(path: str, *given: Any, **more: Any) -> Any:
        if str(path).endswith(".zip"):
            raise OSError(5, "Input/output error")
        return real(path, *given, **more)

    real = os.open
    patch.setattr(os, "open", broken)
    real_path = Path.open
    patch.setattr(
        Path,
        "open",
        lambda self, *given, **more: (
            broken(str(self)) if self.suffix == ".zip" else real_path(self, *given, **more)
        ),
    )


TROUBLE: list[Callable[[pytest.MonkeyPatch, Path], None]] = [
    *(_no_judges, _other_judges, _no_weights, _no_memory, _no_memory_in_the_model),
    *(_disk_full, _unreadable),
]


@pytest.mark.slow
def test_trouble_of_the_verifiers_is_no_verdict(
    entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever this machine or installation lacks; what it was without stays wrong in nothing."""
    before = (entry / VERIFICATION).read_bytes()
    (tmp_path / "other").mkdir()
    for trouble in TROUBLE:
        judges._shipped.cache_clear()
        with monkeypatch.context() as patch:
            trouble(patch, tmp_path / "other")
            code, output = cli(entry, "--workers", "1")
        judges._shipped.cache_clear()
        assert "FAILED" not in output, trouble
        # How a bare one ends is not verify's to say.
        assert code == (0 if trouble is _disk_full else 2) or trouble is _no_memory, output
        assert ("no badge is kept" in output) == (trouble is _disk_full), output
        assert (entry / VERIFICATION).read_bytes() == before, trouble
    code, output = cli(entry, "--workers", "1")
    assert code == 0, output


def test_a_missing_plugin_is_no_verdict(entry: Path) -> None:
    """Its suite, its data set, its attack: who has it installed can tell."""
    before = (entry / VERIFICATION).read_bytes()
    ended = CliRunner().invoke(app, ["verify", str(entry)])  # 'tiny' is not registered
    assert ended.exit_code == 2
    assert "install the plugin" in ended.output
    assert (entry / VERIFICATION).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("butterflies", "'butterflies' is registered; install the plugin"),
        ("mine?shape=1x32x32&classes=10", "the pictures 'mine.* lie here with --data"),
    ],
)
def test_a_missing_data_set_is_no_verdict(
    name: str, words: str, entry: Path, tmp_path: Path
) -> None:
    forger = Forger(entry, tmp_path / "forged")
    suite = forger.evidence.record.suite.model_copy(update={"dataset": name})
    changed = {"official": False, "deviations": ("a suite of one's own",)}
    info = forger.evidence.record.data.model_copy(update={"name": name})
    names = [(j, j.name.replace("digits", name)) for j in forger.evidence.record.judges]
    judged = tuple(j.model_copy(update={"name": judge}) for j, judge in names)
    forger.record(suite=suite, suite_sha256=suite.sha256, data=info, judges=judged, **changed)
    forger.shards().written()
    with pytest.raises(GenrobustError, match=words):
        verified(forger.folder / EVIDENCE)


@pytest.mark.parametrize("name", ["entry.json", RECORD, MANIFEST])
def test_what_a_later_version_wrote_is_no_verdict(name: str, entry: Path, tmp_path: Path) -> None:
    """This one cannot read it, and says which could."""
    forger = Forger(entry, tmp_path / "forged")
    contents = forger.contents()
    if name == "entry.json":
        path = forger.folder / name
        path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    else:
        said = {**json.loads(contents[name]), "schema_version": 99, "novelty": True}
        contents[name] = json.dumps(said).encode()
        if name == RECORD:
            manifest = json.loads(contents[MANIFEST])
            manifest["files"][RECORD] = sha256(contents[RECORD])
            contents[MANIFEST] = json.dumps(manifest).encode()
        forger.written(contents)
    before = (forger.folder / VERIFICATION).read_bytes()
    code, output = cli(forger.folder)
    assert code == 2, output
    assert "later genrobust" in output
    assert (forger.folder / VERIFICATION).read_bytes() == before


@pytest.mark.slow
def test_a_model_of_another_versions_zoo_is_no_verdict(entry: Path, tmp_path: Path) -> None:
    """The same name with other weights, or with none: of this version it would be a lie."""
    forger = Forger(entry, tmp_path / "forged")
    model = forger.evidence.record.model.model_copy(update={"fingerprint": "0" * 64})
    forger.record(model=model).shards()
    assert "it is another model" in reason(verified(forger.written()))
    record = forger.evidence.record
    elsewhere = record.provenance.model_copy(update={"genrobust": "77.0"})
    path = forger.record(provenance=elsewhere).shards().written()
    with pytest.raises(GenrobustError, match=r"written by genrobust 77\.0"):
        verified(path)


@pytest.mark.parametrize("name", ["os:getpid", "own.py:build", "unknown"])
def test_a_name_that_is_none_of_the_zoo_is_never_looked_up(
    name: str, entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submitted name could otherwise be a reference to code, which would be run."""
    (tmp_path / "own.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    forger = Forger(entry, tmp_path / "forged")
    said = ZooModel(name=name, dataset="digits")
    forger._with(model=said)
    path = forger.written(model=said)
    assert f"names the model '{name}'" in reason(verified(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [RECORD, OUTCOMES])
def test_what_lies_beside_a_runs_evidence_must_be_what_is_in_it(name: str, folder: Path) -> None:
    assert cli(folder, "--depth", "schema")[0] == 0
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace("0.", "0.1", 1) if name == RECORD else text + " ")
    code, output = cli(folder, "--depth", "schema")
    assert code == 1
    assert f"{name} is not the one in evidence.zip" in output
    with pytest.warns(GenrobustWarning, match=f"{name}.* is not the one in"):
        assert verified(folder / EVIDENCE, "schema").passed


@pytest.mark.slow
def test_a_run_is_verified_as_a_whole_and_nothing_is_written_into_it(folder: Path) -> None:
    before = set(folder.rglob("*"))
    assert find_subjects(folder) == [folder]
    code, output = cli(folder, "--workers", "1")
    assert code == 0, output
    assert set(folder.rglob("*")) == before
    with registered():
        found = verify(folder, VerifyOptions("schema")).verification
    assert found.entry_sha256 == sha256((folder / EVIDENCE).read_bytes())


def test_a_run_without_its_record_still_has_evidence(folder: Path) -> None:
    (folder / RECORD).unlink()
    assert cli(folder, "--depth", "schema")[0] == 0


@pytest.mark.parametrize(
    ("problem", "ends"), [(MemoryError(), 2), (OSError(5, "Input/output"), 2), (KeyError("x"), 3)]
)
def test_a_crash_on_one_entry_is_not_its_verdict_nor_that_of_others(
    problem: Exception, ends: int, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = entry.with_name("other")
    shutil.copytree(entry, other)
    said = json.loads((other / "entry.json").read_text())
    (other / "entry.json").write_text(json.dumps({**said, "slug": "other"}))
    before = (other / VERIFICATION).read_bytes()

    def crash(place: Path, *given: Any, **more: Any) -> Any:
        if place.name == "other":
            raise problem
        return verify(place, *given, **more)

    monkeypatch.setattr("genrobust.cli.verify.verify", crash)
    code, output = cli(entry.parents[1], "--depth", "schema")
    assert code == ends
    assert "1 passed, 0 failed, 1 not verified" in output
    assert type(problem).__name__ in output
    assert (other / VERIFICATION).read_bytes() == before


def test_what_was_verified_before_is_not_what_is_verified(entry: Path) -> None:
    """A damaged verification.json says nothing of the submission, and is replaced."""
    for content in ("", '{"schema_version": 99}', "{}"):
        (entry / VERIFICATION).write_text(content)
        code, output = cli(entry, "--depth", "schema")
        assert code == 0, output
        assert json.loads((entry / VERIFICATION).read_text())["passed"]


def test_an_attack_is_not_blamed_for_the_entry_that_it_is_on(entry: Path) -> None:
    attack = entry / "attacks" / "mine"
    shutil.copytree(entry, attack, ignore=shutil.ignore_patterns("attacks"))
    (entry / OUTCOMES).write_text("{}")
    code, output = cli(attack)
    assert (code, "FAILED" in output) == (2, False), output


def test_a_model_that_gives_nan_is_the_submissions_fault(
    entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only it can have done is a verdict still."""

    def measured(*given: object) -> None:
        raise GenrobustError("the model gave NaN or infinite pixels")

    monkeypatch.setattr("genrobust.verify.replay.measure_outcome", measured)
    code, output = cli(entry, "--workers", "1")
    assert code == 1
    assert "FAILED: the model gave NaN" in output

"""Badges: entries are verified on the main branch, and only sound verifications are kept."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import badges
import pytest
import yaml

REPOSITORY = Path(__file__).parent.parent
ENTRIES = REPOSITORY / "leaderboard" / "entries"
PLACE = "digits-v1/zoo-vae/verification.json"


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    root = tmp_path / "entries"
    shutil.copytree(ENTRIES / "digits-v1" / "zoo-vae", root / "digits-v1" / "zoo-vae")
    return root


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def said(entries: Path, **changes: Any) -> bytes:
    found = json.loads((entries / PLACE).read_bytes())
    return json.dumps({**found, **changes}).encode()


def test_what_is_not_verified_as_it_is_is_found(entries: Path) -> None:
    entry = entries / "digits-v1" / "zoo-vae"
    assert list(badges.unverified(entries)) == []
    for spoil in (
        lambda: (entry / "entry.json").write_text((entry / "entry.json").read_text() + "\n"),
        lambda: (entry / "verification.json").write_text("[]"),
        lambda: (entry / "verification.json").unlink(),
    ):
        before = {path: path.read_bytes() for path in entry.iterdir()}
        spoil()
        assert list(badges.unverified(entries)) == [entry]
        for path, content in before.items():
            path.write_bytes(content)


@pytest.mark.slow
def test_an_entry_is_verified_and_its_verification_kept(entries: Path, tmp_path: Path) -> None:
    (entries / PLACE).unlink()
    out, words = tmp_path / "out", ["verify", "--depth", "schema", "--entries", str(entries)]
    assert badges.main([*words, "--out", str(out)]) == 0
    made = (out / PLACE).read_bytes()
    assert json.loads(made)["passed"] is True
    (entries / PLACE).unlink()
    artifact = tmp_path / "artifact.zip"
    artifact.write_bytes(zipped(**{PLACE: made}))
    assert badges.main(["keep", "--artifact", str(artifact), "--entries", str(entries)]) == 0
    assert (entries / PLACE).read_bytes() == made


@pytest.mark.slow
def test_a_failure_is_a_verification_too_and_what_cannot_be_told_is_none(
    entries: Path, tmp_path: Path
) -> None:
    (entries / PLACE).unlink()
    outcomes = entries / "digits-v1" / "zoo-vae" / "outcomes.json"
    outcomes.write_text(outcomes.read_text().replace("true", "false", 1))
    words = ["verify", "--entries", str(entries), "--depth"]
    assert badges.main([*words, "schema", "--out", str(tmp_path / "a")]) == 0
    assert json.loads((tmp_path / "a" / PLACE).read_bytes())["passed"] is False
    (entries / PLACE).unlink()
    assert badges.main([*words, "no-such-depth", "--out", str(tmp_path / "b")]) == 1
    assert not (tmp_path / "b").exists()


HOSTILE: dict[str, tuple[str, dict[str, Any], str]] = {
    "a path out": ("../../x/verification.json", {}, "no verification"),
    "a workflow": (".github/workflows/x.yml", {}, "no verification"),
    "another file of an entry": ("digits-v1/zoo-vae/entry.json", {}, "no verification"),
    "an entry that is not here": ("digits-v1/other/verification.json", {}, "not here"),
    "a key more": (PLACE, {"rank": 1}, "other keys"),
    "passed as text": (PLACE, {"passed": "yes"}, "other keys"),
    "of an entry as it was": (PLACE, {"entry_sha256": hashlib.sha256(b"").hexdigest()}, "any more"),
    "large": (PLACE, {"platform": "x" * badges.MAX_BYTES}, "too large"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_sound_verification_is_refused_and_nothing_is_written(
    kind: str, entries: Path
) -> None:
    place, changes, reason = HOSTILE[kind]
    good, bad = said(entries, seconds=0.5), said(entries, **changes)
    before = (entries / PLACE).read_bytes()
    with pytest.raises(ValueError, match=reason):
        badges.keep(zipped(**{PLACE: good} | {place: bad}), entries)
    assert (entries / PLACE).read_bytes() == before
    with pytest.raises(ValueError, match="too large"):
        badges.keep(zipped(**{f"{n}": b"" for n in range(badges.MAX_FILES + 1)}), entries)


def test_the_job_that_reads_entries_cannot_write_and_the_one_that_writes_runs_none() -> None:
    text = (REPOSITORY / ".github" / "workflows" / "leaderboard-badges.yml").read_text()
    found = yaml.safe_load(text)
    assert found[True]["push"]["branches"] == ["main"]
    verify, keep = found["jobs"]["verify"], found["jobs"]["keep"]
    assert verify["permissions"] == {"contents": "read"}
    assert "GH_TOKEN" not in json.dumps(verify)
    assert keep["permissions"] == {"actions": "read", "contents": "write"}
    scripts = " ".join(step.get("run", "") for step in keep["steps"])
    assert "python3 -I tools/badges.py keep" in scripts
    assert "install" not in scripts

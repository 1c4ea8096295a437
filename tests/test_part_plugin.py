"""A posterior part from outside: an installed package offers it, and a bench of it replays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_plugin import genrobust, install


@pytest.mark.slow
def test_a_bench_of_a_part_from_a_plugin_has_evidence_that_verifies(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "demo_plugin", tmp_path / "source")
    site = install(tmp_path / "source", tmp_path / "site")
    code, output, errors = genrobust(site, "list", "parts")
    assert code == 0, errors
    assert "demo-sign" in output
    words = ["bench", "--model", "demo-signs", "--limit", "2", "--attack", "code-switch"]
    code, _, errors = genrobust(site, *words, "--evidence", "--out", str(tmp_path / "runs"))
    assert code == 0, errors
    (record,) = (tmp_path / "runs").rglob("record.json")
    scores = json.loads(record.read_text())["scores"]
    assert json.loads(record.read_text())["model"]["latents"] == "36 demo-sign"
    assert all(at["token_flips"] is None or at["token_flips"] > 0 for at in scores["per_eps"])
    code, output, errors = genrobust(site, "verify", str(record.with_name("evidence.zip")))
    assert code == 0, output + errors

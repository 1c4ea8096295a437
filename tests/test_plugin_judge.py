"""A plugin's judge: found by name, listed, and scoring a whole bench."""

from __future__ import annotations

import json
from pathlib import Path

from test_plugin import genrobust, site  # noqa: F401 - a fixture


def test_a_plugins_judge_scores_a_whole_bench_that_verifies(
    site: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    assert "demo-means" in genrobust(site, "list", "judges")[1].split()
    code, output, errors = genrobust(
        site,
        *("bench", "--model", "vae", "--judge", "lenet", "--judge", "demo-means", "--evidence"),
        *("--attack", "noise", "--limit", "3", "--eps", "0.1", "--out", str(tmp_path)),
    )
    assert code == 0, output + errors
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    assert [j["name"] for j in record["judges"]] == ["digits/lenet", "digits/demo-means"]
    assert record["scores"]["eligible"] >= 2
    assert "demo-means" in path.with_name("report.html").read_text()
    code, output, errors = genrobust(site, "verify", str(path.parent))
    assert code == 0, output + errors

"""Runs as jobs of a cluster's scheduler, by submitit's local one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_faults import told

import genrobust
from genrobust.suites import Suite
from genrobust.suites.suite import AttackEntry


@pytest.mark.slow
def test_jobs_give_the_same_bytes_and_one_that_is_killed_is_submitted_again(
    small_suite: Suite, tmp_path: Path
) -> None:
    pytest.importorskip("submitit")
    attack = AttackEntry(attack="classifier", goal="untargeted", settings={"steps": 3})
    update = {"name": "cheap", "chunk_size": 2, "eps": (0.1,), "attacks": (attack,)}
    cheap = small_suite.limited(4).model_copy(update={**update, "resamples": 20})
    kill = tmp_path / "kill"
    kill.touch()
    (tmp_path / "model.py").write_text(
        "import os, pathlib, genrobust\n"
        f"kill, driver = pathlib.Path({str(kill)!r}), {os.getpid()}\n"
        "def build():\n"
        "    if os.getpid() != driver and kill.exists():\n"
        "        kill.unlink()\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return genrobust.load_model('vae').module\n"
    )
    place = f"{tmp_path / 'model.py'}:build"
    genrobust.bench(place, cheap, executor="slurm", workers=1, out=tmp_path / "jobs")
    assert not kill.exists()
    genrobust.bench(place, cheap, executor="serial", out=tmp_path / "alone")
    assert told(tmp_path / "jobs") == told(tmp_path / "alone")
    assert not (tmp_path / "jobs/slurm").exists()

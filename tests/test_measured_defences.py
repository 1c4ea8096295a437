"""What the benchmark of defences says of its rows, and what the reproduction of one asks for."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import genrobust
from genrobust import GenrobustError
from genrobust.reproduce.kuzina2022 import stratified


@pytest.fixture
def benchmark(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    place = repository / "benchmarks" / "defences.py"
    spec = importlib.util.spec_from_file_location("measured_defences", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def row(area: float, error: float, **more: Any) -> dict[str, Any]:
    waves = [0.02 * (i % 3 - 1) for i in range(30)]
    return {"areas": [area + w for w in waves], "errors": [error + w for w in waves], **more}


def test_a_defence_beats_those_that_have_less_area_and_no_smaller_error(
    benchmark: ModuleType,
) -> None:
    rows = {
        "defended": [row(0.8, 5.0)],
        "equal": [row(0.4, 5.0)],
        "sharper": [row(0.4, 1.0)],
        "robust": [row(0.9, 9.0)],
    }
    means = benchmark.Means(rows, sources=30)
    found = means.beaten("defended", ["equal", "sharper", "robust"])
    assert found == (["equal", "sharper"], ["equal"])


def test_a_source_counts_by_the_worse_of_the_two_attacks(benchmark: ModuleType) -> None:
    known = [0.1] * 15 + [1.0] * 15
    means = benchmark.Means({"hmc": [row(0.6, 5.0, knowing=known)]}, sources=30)
    assert means.mean(means.area, "hmc").value == pytest.approx(0.6)
    assert means.mean(means.lowest, "hmc").value == pytest.approx(0.35)


@pytest.mark.slow
def test_a_stopped_benchmark_goes_on_and_writes_its_page(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path), "--limit", "1"]
    words += ["--steps", "20", "--only"]

    def call(*names: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["defences.py", *words, *names])
        benchmark.main()
        return json.loads((tmp_path / "defences.json").read_text())["models"]

    assert set(call("vae")) == {"vae"}
    trained = [*(tmp_path / "runs").rglob("vae.safetensors")]
    times = [path.stat().st_mtime_ns for path in trained]
    assert set(call("vae", "smoothed")) == {"vae", "smoothed"}
    assert [path.stat().st_mtime_ns for path in trained] == times
    page = (tmp_path / "defences.md").read_text()
    assert "**smoothed**" in page
    assert "Cohen et al. 2019" in page
    assert "hmc" in page.partition("Not measured yet: ")[2]


def test_equally_many_sources_of_each_class_are_attacked() -> None:
    images = genrobust.load_images("digits")
    assert images.labels is not None
    assert images.labels[stratified(images, 20)].bincount().tolist() == [2] * 10
    for count in (15, 9000):
        with pytest.raises(GenrobustError, match="equally many of each class, up to"):
            stratified(images, count)

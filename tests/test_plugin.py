"""A plugin as its users meet it: installed by pip, found by the commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the demo plugin."""
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"  # setuptools writes beside what it builds
    shutil.copytree(Path(__file__).parent / "demo_plugin", source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "--target"]
    subprocess.run([*command, *options, str(folder / "site"), str(source)], check=True)
    return folder / "site"


def genrobust(site: Path, *words: str) -> tuple[int, str, str]:
    found = subprocess.run(
        [sys.executable, "-m", "genrobust", *words],
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return found.returncode, found.stdout, found.stderr


def test_a_plugins_names_are_listed_beside_our_own(site: Path) -> None:
    code, output, errors = genrobust(site, "list", "attacks")
    assert code == 0, errors
    assert {"demo-blend", "demo-broken", "latent", "foolbox:*", "art:*"} <= set(output.split())
    assert "demo" in genrobust(site, "list", "models")[1].split()


def test_a_plugins_model_is_benched_with_a_plugins_attack(site: Path, tmp_path: Path) -> None:
    code, _, errors = genrobust(
        site,
        *("bench", "--model", "demo", "--attack", "demo-blend", "--limit", "3", "--eps", "0.2"),
        *("--out", str(tmp_path)),
    )
    assert code == 0, errors
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    assert [entry["attack"] for entry in record["attacks"]] == ["demo-blend"]


def test_a_broken_plugin_is_one_sentence_and_only_when_asked_for(site: Path) -> None:
    code, _, errors = genrobust(site, "show", "attack", "demo-broken")
    assert code == 2
    assert "Traceback" not in errors
    words = " ".join(errors.split())
    assert "'demo-broken' comes from the plugin 'genrobust_demo.broken:Broken'" in words
    assert "No module named 'a_package_that_nobody_has'" in words


def test_the_demo_conforms(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "test_demo.py"
    path.write_text(
        "import pytest\n"
        "import genrobust\n"
        "from genrobust.attacks import make_attack\n"
        "from genrobust.testing import AttackConformance, ModelConformance\n"
        "class TestBlend(AttackConformance):\n"
        "    @pytest.fixture\n"
        "    def attack(self):\n"
        "        return make_attack('demo-blend')\n"
        "class TestDemo(ModelConformance):\n"
        "    @pytest.fixture\n"
        "    def build(self):\n"
        "        return lambda: genrobust.load_model('demo')\n"
    )
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stdout
    assert "failed" not in found.stdout

"""What a release is made of: one version everywhere, and scripts that a shell can read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from genrobust._version import __version__

ROOT = Path(__file__).parent.parent


def test_the_citation_is_of_this_version_and_licence() -> None:
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version"} <= told.keys()
    assert (told["version"], told["license"]) == (__version__, "MIT")


def test_the_release_reads_the_version_as_a_tag_has_it() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    build = jobs["build"]
    (check,) = [step["run"] for step in build["steps"] if "GITHUB_REF_NAME" in step.get("run", "")]
    for tag, code in {f"v{__version__}": 0, "v9.9.9": 1}.items():
        env = {"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}
        found = subprocess.run(["bash", "-c", check], cwd=ROOT, env=env, check=False)
        assert found.returncode == code


def test_the_wheel_is_tried_beside_both_ends_of_torch_and_python() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    tried = jobs["wheel"]["strategy"]["matrix"]["include"]
    assert {one["python"] for one in tried} >= {"3.10", "3.13"}
    assert {one["torch"] for one in tried} >= {"torch==2.4.1", "torch"}
    assert "lowest" in {one.get("rest") for one in tried}


SCRIPTS = sorted((ROOT / "tools").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_shell_reads_the_script(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_image_is_built_of_what_the_wheel_is_made_of() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert kept == ["genrobust", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"]
    assert all((ROOT / name).exists() for name in kept)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "USER genrobust" in dockerfile
    installs = [line for line in dockerfile.splitlines() if "pip install" in line]
    assert all("-c /constraints.txt" in line for line in installs)

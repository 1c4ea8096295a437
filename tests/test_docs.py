"""What the README says is true: its Python runs, its commands and files exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from genrobust.cli.app import app


@pytest.fixture
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(readme: str) -> None:
    script = next(b for b in blocks(readme, "python") if "genrobust.bench(" in b)
    names: dict[str, object] = {}
    exec(script.replace("limit=20", "limit=1, attacks=['noise']"), names)
    assert names["record"].scores.sources == 1  # type: ignore[attr-defined]


def test_the_random_deployment_of_the_readme_is_one(readme: str) -> None:
    script = next(b for b in blocks(readme, "python") if "draws=" in b)
    names: dict[str, Any] = {}
    exec(script, names)
    model = names["model"]
    assert (model.draws, model.deploy is not None) == (16, True)
    x = names["torch"].rand(2, 1, 32, 32)
    assert not names["torch"].equal(model.reconstruct(x), model.reconstruct(x))


def test_every_command_and_option_of_the_readme_exists(readme: str) -> None:
    lines = "\n".join(blocks(readme, "sh")).replace("\\\n", " ").splitlines()
    commands = [line.split("#")[0] for line in lines if line.strip().startswith("genrobust")]
    assert len(commands) > 6
    for line in commands:
        verbs = [word for word in line.split()[1:3] if word in ("suite", "make")]
        shown = CliRunner().invoke(app, [*(verbs or line.split()[1:2]), "--help"])
        assert shown.exit_code == 0, line
        for option in re.findall(r"--[a-z-]+", line):
            assert option in shown.output, line


def test_every_file_the_readme_links_exists(readme: str, repository: Path) -> None:
    for place in re.findall(r"\]\(([^)]+)\)", readme):
        assert (repository / place).exists(), place
    for place in re.findall(r"examples/\w+\.py", readme):
        assert (repository / place).exists(), place


def test_the_make_targets_of_the_readme_exist(readme: str, repository: Path) -> None:
    makefile = (repository / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", readme, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *(("record", "record-v3.json"), ("suite", "suite.json"), ("curve", "curve-v1.json")),
        *(("entry", "entry-v1.json"), ("outcomes", "outcomes-v1.json")),
        ("verification", "verification-v1.json"),
    ],
)
def test_the_published_schemas_are_those_of_the_code(
    repository: Path, name: str, file: str
) -> None:
    published = json.loads((repository / "docs" / "schemas" / file).read_text())
    assert published == json.loads(CliRunner().invoke(app, ["show", "schema", name]).output)

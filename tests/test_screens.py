"""What the terminal shows: help in groups with examples, lists that say what is what, doctor."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from genrobust.cli import doctor, show
from genrobust.cli.app import app
from genrobust.cli.help import EXAMPLES, GROUPS
from genrobust.registry import Registry

pytestmark = pytest.mark.usefixtures("brief")

COMMANDS = typer.main.get_command(app)


def _leaves(command: Any = COMMANDS, *path: str) -> dict[tuple[str, ...], Any]:
    below = getattr(command, "commands", None)
    if below is None:
        return {path: command}
    return {k: v for name, one in below.items() for k, v in _leaves(one, *path, name).items()}


LEAVES = _leaves()


def _shown(*words: str, columns: int = 80) -> str:
    found = CliRunner().invoke(app, words, env={"COLUMNS": str(columns)}, terminal_width=columns)
    assert found.exit_code == 0, found.output
    return found.output


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_a_short_line_and_examples(path: tuple[str, ...]) -> None:
    words = _shown(*path, "--help")
    assert path[-1] in EXAMPLES, "name in cli/help.py what one types first"
    assert "\nExamples:\n  genrobust " in words
    assert max(map(len, words.splitlines())) <= 80
    assert len(LEAVES[path].get_short_help_str(60)) <= 60
    assert "..." not in LEAVES[path].get_short_help_str(60)


@pytest.mark.parametrize(
    ("path", "example"),
    [
        pytest.param(path, example, id=example)
        for path in LEAVES
        for example in EXAMPLES.get(path[-1], ())
    ],
)  # fmt: skip
def test_an_example_names_options_that_there_are(path: tuple[str, ...], example: str) -> None:
    words = shlex.split(example.replace("\\\n", " "))
    assert words[: 1 + len(path)] == ["genrobust", *path]
    known = {flag for parameter in LEAVES[path].params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_options_stand_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    words = _shown("bench", "--help")
    heads = [line.rstrip(":") for line in words.splitlines() if re.fullmatch(r"[A-Z]\w+:", line)]
    assert heads == [*GROUPS, "Examples"]
    sections = dict(zip(heads, re.split(r"\n[A-Z]\w+:\n", words)[1:], strict=True))
    assert "--model" in sections["Model"]
    assert "--data " in sections["Data"]
    assert "--eps" in sections["Protocol"]
    assert "--workers" in sections["Running"]
    for flag in ("--device", "--seed", "--out", "--evidence", "--norm"):
        assert len(re.findall(rf"^  {flag} ", words, re.M)) == 1


def test_every_name_is_listed_with_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    registries = show._registries()
    for kind, registry in registries.items():
        lines = [line.split(maxsplit=1) for line in _shown("list", kind).splitlines()]
        names = [name for name, *_ in lines]
        assert names == [*registry.names(), *registry.families()]
        for name, *words in lines:
            assert words, f"{kind}: {name} says nothing of itself"
            assert len(words[0]) > 10
            assert "`" not in words[0]
    for kind in ("attacks", "objectives", "datasets"):
        assert " et al " not in _shown("list", kind)
    assert "[Kos, Fischer & Song 2018]" in _shown("list", "attacks")
    assert "(1 x 32 x 32)" in _shown("list", "datasets")


def test_a_broken_plugin_does_not_end_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name, module, value = "broken", "nowhere", "nowhere:thing"

        def load(self) -> None:
            raise ImportError("no module")

    shapes: Registry[type] = Registry("shape")
    shapes._plugins = {"broken": Broken()}  # type: ignore[dict-item]
    shapes.register("square")(type("Square", (), {"__doc__": "Four `sides`. And more."}))
    monkeypatch.setattr(show, "_registries", lambda: {"shapes": shapes})
    first, second = _shown("list", "shapes").splitlines()
    assert first.startswith("broken  the shape 'broken' comes from the plugin")
    assert second == "square  Four sides"


def test_doctor_says_what_is_missing_for_what(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    versions = {"numpy": "1.0", "pandas": "2.1"}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    wanted = ["numpy>=1.26", "pandas>=2; extra == 'pandas'", "ray>=2.10; extra == 'ray'"]
    wanted += ["numpy>=1.26; extra == 'bridges'"]
    monkeypatch.setattr(doctor, "requires", lambda _: wanted)
    monkeypatch.setattr(doctor, "version", version)
    declared = ["pandas", "ray", "bridges", "dev"]
    said = type("Said", (), {"get_all": lambda self, _: declared})()
    monkeypatch.setattr(doctor, "metadata", lambda _: said)
    found = {extra.name: extra for extra in doctor.extras()}
    assert found.keys() == {"pandas", "ray", "bridges"}
    assert found["pandas"].missing == ()
    assert found["ray"].missing == ("ray",)
    assert found["bridges"].missing == ("numpy>=1.26 (there is 1.0)",)
    assert "pip install 'genrobust[ray]'" in found["ray"].line


def test_doctor_finds_data_and_fetches_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    monkeypatch.setenv("GENROBUST_DATA", str(tmp_path))
    words = _shown("doctor")
    assert re.search(rf"^  mnist +{re.escape(str(tmp_path))}/MNIST/raw$", words, re.M)
    assert re.search(r"^  digits +here: it needs no files$", words, re.M)
    assert re.search(r"^  celeba +not here; give .* that holds img_align_celeba", words, re.M)
    assert list(tmp_path.rglob("*")) == [tmp_path / "MNIST", tmp_path / "MNIST" / "raw"]
    assert re.search(r"^torch +2\.", words, re.M)
    assert re.search(r"^cuda", words, re.M)


@pytest.mark.usefixtures("_homeless")
def test_doctor_examines_for_a_user_without_a_home() -> None:
    words = _shown("doctor")
    assert re.search(r"^  mnist +not here; give the folder that holds MNIST/raw", words, re.M)
    assert re.search(r"^  data +none, as this user has no home folder \(another:", words, re.M)


def test_the_shell_completes_commands_and_options() -> None:
    for typed, wanted in {"genrobust be": "bench", "genrobust bench --mo": "--model"}.items():
        words = typed.split()
        env = {
            "_GENROBUST_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(words) - 1),
        }
        found = CliRunner().invoke(app, [], env=env, prog_name="genrobust")
        assert wanted in found.output

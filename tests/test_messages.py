"""What messages tell a user to type can be typed: options and commands that they name exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app

PACKAGE = Path(genrobust.__file__).parent

#: Of git and gh, whose commands are printed and run.
FOREIGN = {"--title", "--body"}

OPTION = r"(?<![\w-])--[a-z][a-z-]*"


def options_of(command: str) -> set[str]:
    return set(re.findall(OPTION, CliRunner().invoke(app, [*command.split(), "--help"]).output))


def commands_of(group: str = "") -> set[str]:
    listed = CliRunner().invoke(app, [*group.split(), "--help"]).output.partition("Commands:")[2]
    return set(re.findall(r"^  ([a-z]+)  ", listed, flags=re.M))


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """The options of each command."""
    groups = {f"leaderboard {name}" for name in commands_of("leaderboard")}
    return {name: options_of(name) for name in {"", *commands_of(), *groups}}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module that are no docstrings; what is filled in is a '{}'."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skip = {
        id(n.body[0].value) for n in nodes if isinstance(n, documented) and ast.get_docstring(n)
    }  # type: ignore[attr-defined]
    parts = [part for n in nodes if isinstance(n, ast.JoinedStr) for part in n.values]
    skip |= {id(part) for part in parts}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            words = [p.value if isinstance(p, ast.Constant) else "{}" for p in node.values]
            yield node.lineno, "".join(map(str, words))
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skip
        ):
            yield node.lineno, node.value


def own_options(path: Path) -> set[str]:
    """Those of a module that is a script of its own."""
    return set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', path.read_text()))


def unknown_in(text: str, known: dict[str, set[str]]) -> list[str]:
    """What a message names and nobody can type."""
    every = set().union(*known.values()) | FOREIGN
    wrong = [option for option in re.findall(OPTION, text) if option not in every]
    for line in re.findall(r"(?<=['`])genrobust ([a-z][^'`]*)", text):
        verb, _, rest = line.partition(" ")
        if verb == "leaderboard":
            verb = " ".join(line.split()[:2])
        if verb not in known:
            wrong.append(f"genrobust {verb}")
        else:
            wrong += [o for o in re.findall(OPTION, rest) if o not in known[verb]]
    return wrong


def test_every_option_and_command_that_a_message_names_exists(known: dict[str, set[str]]) -> None:
    wrong, seen = [], 0
    for path in PACKAGE.rglob("*.py"):
        script = own_options(path)
        for line, text in texts(path):
            seen += len(re.findall(OPTION, text))
            found = [one for one in unknown_in(text, known) if one not in script]
            wrong += [f"{path.relative_to(PACKAGE)}:{line}: {one}" for one in found]
    assert wrong == []
    assert seen > 60


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("choose a smaller --learning-rate", ["--learning-rate"]),
        ("choose a smaller --set learning_rate=NUMBER", []),
        ("type 'genrobust trian --model vae'", ["genrobust trian"]),
        ("type 'genrobust train --model {} --limit 3'", ["--limit"]),
        ("type 'genrobust leaderboard build --out {}'", []),
        ("between words--as here--and a file-name--x", []),
    ],
)
def test_what_does_not_exist_is_seen(
    text: str, wrong: list[str], known: dict[str, set[str]]
) -> None:
    assert unknown_in(text, known) == wrong

"""Options are declared once: commands, signatures, records' commands and deviations agree."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import genrobust
from genrobust import cli
from genrobust.cli.app import app
from genrobust.runner.adjusted import adjusted
from genrobust.runner.options import Options, declared_options, flag_of
from genrobust.runner.provenance import command
from genrobust.suites.suite import load_suite

pytestmark = pytest.mark.usefixtures("brief")

#: A value that is not the default, of every option.
OTHER: dict[str, Any] = {
    "weights": "somewhere/best.pt",
    "attacks": ("noise", "latent"),
    "norm": "l2",
    "eps": (0.05, 0.1),
    "judge": ("thesis",),
    "rule": "single",
    "name": "mine",
    "limit": 3,
    "device": "cuda",
    "workers": 2,
    "executor": "serial",
    "batch_size": 4,
    "data_root": "data",
    "judge_root": "judges",
    "evidence": True,
    "seed": 7,
    "radius": 0.3,
}


@pytest.mark.parametrize(
    ("name", "function"), [("bench", genrobust.bench), ("curve", genrobust.minimum_norm)]
)
def test_a_python_function_spells_out_the_options(name: str, function: Callable[..., Any]) -> None:
    spelled = inspect.signature(function).parameters
    # Weights are already in a module that is given.
    declared = {n: f.default for n, _, f in declared_options(name) if n != "weights"}
    # A command has a name for each of its models, a function one.
    found = {n: p.default for n, p in spelled.items() if n in OTHER and n != "name"}
    assert found == declared
    told = inspect.getdoc(function) or ""  # indented alike in all versions of Python
    assert all(f"\n    {n}:" in told for n in declared)


@pytest.mark.parametrize("name", ["bench", "curve"])
def test_what_a_record_says_can_be_typed(name: str) -> None:
    """And says all that the results depend on."""
    values = {n: OTHER[n] for n, *_ in declared_options(name)}
    words = shlex.split(command("vae", load_suite("digits"), Options(**values)))[2:]
    typed = get_command(app).commands[name]  # type: ignore[attr-defined]
    params = typed.make_context(name, words).params
    for n, option, declared in declared_options(name):
        if n == "weights":
            assert params[n].name == "best.pt"
        elif option.written == "here":
            assert flag_of(n, option) not in words
            assert params[n] == declared.default
        else:
            assert (tuple(params[n]) if isinstance(params[n], list) else params[n]) == values[n]


def test_only_what_deviates_makes_a_run_unofficial() -> None:
    suite = load_suite("digits")
    for n, option, _ in declared_options():
        also = {"judge": "thesis", "rule": "single"} if n in ("judge", "rule") else {}
        deviations = adjusted(suite, Options(**{n: OTHER[n], **also}))[1]
        assert bool(deviations) == option.deviates, n
    assert OTHER.keys() == {n for n, *_ in declared_options()}


def test_no_command_says_again_what_an_option_does() -> None:
    said = "".join(path.read_text() for path in Path(cli.__file__).parent.glob("*.py"))
    assert not [name for name, option, _ in declared_options() if f'"{option.help}"' in said]

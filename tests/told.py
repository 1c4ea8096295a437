"""What is said of a module that is wrapped, and what a command prints."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning


def warned(module: nn.Module, **given: Any) -> list[str]:
    """The warnings, or why it is refused."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            genrobust.wrap(module, **given)
        except GenrobustError as problem:
            return [str(problem)]
    return [str(w.message) for w in caught if issubclass(w.category, GenrobustWarning)]


def said(module: nn.Module, **given: Any) -> str:
    return "; ".join(warned(module, **given))


def cli(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output

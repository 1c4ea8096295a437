"""The parameters of commands that run a suite, from where options are declared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any

import typer

from genrobust.cli.values import file, folder
from genrobust.runner.options import Option, Options, declared_options, flag_of, kind_of

_PARSERS = {"FILE": file, "FOLDER": folder}


def with_options(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: a command has its options of a run where its function has ``options``."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        declared = {one[0]: parameter(*one) for one in declared_options(name)}

        def run(**given: Any) -> None:
            values = {one: given.pop(one) for one in declared}
            chosen = {one: value for one, value in values.items() if value is not None}
            function(**given, options=Options(**chosen))

        shown: list[inspect.Parameter] = []
        for one in inspect.signature(function, eval_str=True).parameters.values():
            shown += declared.values() if one.name == "options" else [one]
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in shown}
        return run

    return decorate


def parameter(name: str, option: Option, declared: Field[Any]) -> inspect.Parameter:
    """What typer makes an option of."""
    kind, several = kind_of(name)
    default = None if several else declared.default
    hint: Any = GenericAlias(list, (kind,)) if several else kind
    hint = Annotated[hint if default is not None else hint | None, _told(name, option)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _told(name: str, option: Option) -> Any:
    return typer.Option(
        flag_of(name, option),
        help=option.help,
        envvar=option.envvar,
        metavar=option.metavar,
        parser=_PARSERS.get(option.metavar or ""),
        min=option.least,
        max=option.most,
    )


_TOLD = {name: _told(name, option) for name, option, _ in declared_options()}

# For commands that run no suite, or not as they are told to.
Weights = Annotated[Path | None, _TOLD["weights"]]
DataRoot = Annotated[Path | None, _TOLD["data_root"]]
BatchSize = Annotated[int | None, _TOLD["batch_size"]]
Device = Annotated[str, _TOLD["device"]]
Workers = Annotated[int | None, _TOLD["workers"]]
Seed = Annotated[int, _TOLD["seed"]]

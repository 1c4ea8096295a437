"""What ``--help`` shows: options in groups, and commands to start from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from genrobust.names import unkept

Function = TypeVar("Function", bound=Callable[..., Any])

#: The groups in their order, with the parameters in each; what is in none stands in the last.
GROUPS = {
    "Model": ("model", "weights", "name", "max_batch", "batch_size", "trust_code"),
    "Data": ("data", "sources", "dataset", "data_root", "suite"),
    "Protocol": (
        *("attacks", "norm", "eps", "judge", "judge_root", "rule", "limit", "seed", "seeds"),
        *("radius", "depth", "share", "change"),
    ),
    "Running": ("device", "workers", "executor", "shard", "evidence", "out", "json_out", "help"),
}

#: What one types first, by command.
EXAMPLES = {
    "bench": (
        "genrobust bench --model jointvae",
        "genrobust bench --model vae --model my_model.py:build --out results",
        "genrobust bench --model my_model.py:build --data photos/ --sources 50",
        "genrobust bench --model hf://stabilityai/sd-vae-ft-mse@31f26fd --data photos/",
    ),
    "curve": (
        "genrobust curve --model jointvae",
        "genrobust curve --model my_model.py:build --norm l2 --limit 20",
    ),
    "status": ("genrobust status genrobust-runs/digits-v2/vae",),
    "collect": ("genrobust collect genrobust-runs/digits-v2/vae",),
    "check": (
        "genrobust check my_model.py:build",
        "genrobust check my_model.py:build --weights best.safetensors --dataset mnist",
    ),
    "submit": (
        "genrobust submit genrobust-runs/digits-v2/my_model --dry-run",
        "genrobust submit genrobust-runs/digits-v2/my_model --name 'My VAE' --open-pr",
    ),
    "verify": (
        "genrobust verify leaderboard/entries",
        "genrobust verify evidence.zip --depth re-attack",
    ),
    "publish": (
        "genrobust publish genrobust-runs/digits-v2/my_model --card README.md \\\n"
        "    --url https://huggingface.co/ME/VAE/resolve/main/evidence.zip",
    ),
    "train": (
        "genrobust train --model vae --dataset mnist",
        "genrobust train --model vae --seeds 5",
        "genrobust train --judge lenet --dataset fashion-mnist",
    ),
    "reproduce": ("genrobust reproduce thesis --fast",),
    "study": (
        "genrobust study studies/digits.toml --dry-run",
        "genrobust study studies/digits.toml --out my-study",
    ),
    "list": ("genrobust list attacks", "genrobust list models"),
    "show": (
        "genrobust show suite digits",
        "genrobust show attack latent",
        "genrobust show schema record",
    ),
    "doctor": ("genrobust doctor",),
    "make": ("genrobust suite make --model vae.py:build --data photos/ --out photos.json",),
    "build": ("genrobust leaderboard build",),
    "serve": ("genrobust leaderboard serve",),
}


class Command(TyperCommand):
    """A command whose help has its options in groups, and examples below."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except _USAGE as problem:
            problem.message += _advice(problem, typed)
            raise
        _require_folder(ctx)
        parameters: list[Any] = [*self.params]
        for one in parameters:
            if reason := unkept(ctx.params.get(one.name)):
                raise typer.BadParameter(reason, ctx, one)
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        shown = [(one, one.get_help_record(ctx)) for one in self.get_params(ctx)]
        rows: dict[str, list[Any]] = {name: [] for name in ("Arguments", *GROUPS)}
        for parameter, record in shown:
            if record is not None:
                rows[_group(parameter)].append(record)
        for name, found in rows.items():
            if found:
                with formatter.section(name):
                    formatter.write_dl(found)
        if examples := EXAMPLES.get(self.name or ""):
            with formatter.section("Examples"):
                for line in "\n".join(examples).splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class App(typer.Typer):
    """Whose commands are such."""

    def command(self, name: str | None = None, **known: Any) -> Callable[[Function], Function]:
        return super().command(name, **{"cls": Command, **known})


#: What typer raises for what cannot be parsed, of its own or of click's by its version: no type
#: that is known before says that it has a message.
_USAGE: Any = typer.BadParameter.__mro__[1]


def _require_folder(ctx: Any) -> None:
    """The current folder has not been removed meanwhile, where no path, and no torch, would be."""
    try:
        Path.cwd()
    except OSError as problem:
        raise _USAGE(
            f"the current folder is not there ({problem.strerror}); go to one that is, by cd", ctx
        ) from problem


def _advice(problem: Any, typed: list[str]) -> str:
    """What was given and what to type, where the parser's own words do not say."""
    if "unexpected extra argument" in problem.message:
        return "; an option stands before each of its values, as in --eps 0.02 --eps 0.1"
    whole = "valid integer" in problem.message
    if not whole and "valid number" not in problem.message:
        return ""
    names = problem.param.opts
    words = [word for one in typed for word in one.split("=", one.startswith("--"))]
    given = [value for name, value in pairwise(words) if name in names]
    example = "20" if whole else "0.0314, which is 8/255"
    return f" (given: {', '.join(given)}); type plain digits, such as {example}"


def _group(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return next((group for group, names in GROUPS.items() if parameter.name in names), "Running")

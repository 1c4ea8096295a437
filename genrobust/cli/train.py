"""The work of ``genrobust train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from genrobust.cli.errors import if_stopped
from genrobust.cli.progress import progress
from genrobust.errors import GenrobustError, unknown_name
from genrobust.judges.networks import ARCHITECTURES
from genrobust.models.card import Card
from genrobust.training.judge import default_steps, train_judge
from genrobust.training.recipes import JudgeRecipe, recipe
from genrobust.training.vae import train_vae

R = TypeVar("R", bound=BaseModel)


def train_one(
    model: str | None,
    judge: str | None,
    dataset: str,
    changes: list[str],
    seed: int,
    out: Path | None,
    data_root: Path | None,
    beside: list[str],
) -> None:
    """Train and say where the weights are and how good they are."""
    if (model is None) == (judge is None):
        raise GenrobustError("give one of --model NAME and --judge ARCHITECTURE")
    if beside and judge is None:
        raise GenrobustError("--beside is about judges; give it with --judge ARCHITECTURE")
    name = model or f"judge-{judge}"
    folder = out or Path("genrobust-training") / dataset / name
    card = (
        _train_judge(judge, dataset, changes, seed, folder, data_root, beside)
        if judge is not None
        else _train_model(name, dataset, changes, seed, folder, data_root)
    )
    metrics = ", ".join(f"{key} {value:g}" for key, value in card.metrics.items())
    print(f"{folder / name}.safetensors\n{metrics}")


def _train_model(
    name: str, dataset: str, changes: list[str], seed: int, folder: Path, data_root: Path | None
) -> Card:
    chosen = changed(recipe(name, dataset), changes)
    with (
        if_stopped("The same command goes on from the last checkpoint."),
        progress(name) as advance,
    ):
        return train_vae(
            name,
            dataset,
            chosen,
            folder,
            seed=seed,
            data_root=data_root,
            on_step=lambda step, loss: advance(step, chosen.steps, f"loss {loss:.1f}"),
        )


def _train_judge(
    architecture: str,
    dataset: str,
    changes: list[str],
    seed: int,
    folder: Path,
    data_root: Path | None,
    beside: list[str],
) -> Card:
    if architecture not in ARCHITECTURES:
        raise unknown_name("judge", architecture, ARCHITECTURES)
    steps = changed(JudgeRecipe(steps=default_steps(architecture, dataset)), changes).steps
    with progress(f"judge-{architecture}") as advance:
        return train_judge(
            architecture,
            dataset,
            folder,
            seed=seed,
            steps=steps,
            data_root=data_root,
            beside=beside,
            on_step=lambda step, loss: advance(step, steps, f"loss {loss:.2f}"),
        )


def changed(given: R, changes: list[str]) -> R:
    """The recipe with ``KEY=VALUE`` changes; a dot reaches into its network and penalty.

    Raises:
        GenrobustError: no such key, or a value of the wrong kind or size.

    Example:
        >>> changed(recipe("betavae", "digits"), ["penalty.beta=8", "steps=10"]).penalty
        Beta(kind='beta', beta=8.0)
    """
    content = _content(given)
    for change in changes:
        path, equals, text = change.partition("=")
        *outer, last = path.split(".")
        place: Any = content
        for key in outer:
            place = place.get(key) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict) or last not in place:
            raise GenrobustError(
                f"--set {change} changes nothing; give KEY=VALUE with a key of {_keys(given)}"
            )
        try:
            place[last] = json.loads(text)
        except (ValueError, RecursionError):  # no JSON, or more of it than Python reads
            place[last] = text
    try:
        return type(given).model_validate(content)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = {str(part) for part in first["loc"]}
        blamed = [c for c in changes if c.partition("=")[0].split(".")[-1] in where] or changes
        raise GenrobustError(
            f"--set {' --set '.join(blamed)} cannot be taken ({first['msg']}); give another value, "
            "or leave it out"
        ) from problem


def _content(given: BaseModel) -> dict[str, Any]:
    """All its fields, also those that are left out of what is written."""
    return {k: _content(v) if isinstance(v, BaseModel) else v for k, v in given}


def _keys(given: BaseModel) -> str:
    keys: list[str] = []
    for key, value in _content(given).items():
        keys += [f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key]
    return ", ".join(keys)

"""The work of ``genrobust train``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from genrobust.cli.errors import if_stopped
from genrobust.cli.progress import progress
from genrobust.errors import GenrobustError, unknown_name
from genrobust.judges.networks import ARCHITECTURES
from genrobust.models.card import Card
from genrobust.runner.execute import Progress
from genrobust.runner.options import MOST
from genrobust.training.changes import changed
from genrobust.training.judge import default_steps, train_judge
from genrobust.training.recipes import JudgeRecipe, recipe
from genrobust.training.vae import train_vae


def train_one(
    model: str | None,
    judge: str | None,
    dataset: str,
    changes: list[str],
    seed: int,
    out: Path | None,
    data_root: Path | None,
    beside: list[str],
    device: str,
    seeds: int | None = None,
) -> None:
    """Train, as often as there are seeds, and say where the weights are and how good they are."""
    if (model is None) == (judge is None):
        raise GenrobustError("give one of --model NAME and --judge ARCHITECTURE")
    if beside and judge is None:
        raise GenrobustError("--beside is about judges; give it with --judge ARCHITECTURE")
    last = seed if seeds is None else seed + seeds - 1
    if last > MOST:
        raise GenrobustError(
            f"--seeds {seeds} from --seed {seed} on go up to {last}, and seeds up to {MOST} are "
            f"allowed; give --seed as {MOST - (last - seed)} or less"
        )
    name = f"judge-{judge}" if model is None else model
    folder = out or Path("genrobust-training") / dataset / name
    train = (
        _model(name, dataset, changes) if judge is None else _judge(judge, dataset, changes, beside)
    )
    cards = []
    for one in range(seed, last + 1):
        place = folder if seeds is None else folder / f"seed-{one}"
        with progress(name) as advance:
            card = train(place, advance, seed=one, data_root=data_root, device=device)
        metrics = ", ".join(f"{key} {value:g}" for key, value in card.metrics.items())
        print(f"{place / name}.safetensors\n{metrics}", flush=True)
        cards.append(card)
    if len(cards) > 1:
        print(f"over {len(cards)} seeds: {_spread(cards)}")


def _spread(cards: list[Card]) -> str:
    """Of each metric the mean and the range."""
    words = []
    for key in cards[0].metrics:
        values = [card.metrics[key] for card in cards if key in card.metrics]
        mean, low, high = sum(values) / len(values), min(values), max(values)
        words.append(f"{key} {mean:.4g} ({low:.4g} to {high:.4g})")
    return ", ".join(words)


def _model(name: str, dataset: str, changes: list[str]) -> Callable[..., Card]:
    """What trains a model into a folder."""
    chosen = changed(recipe(name, dataset), changes)

    def train(folder: Path, advance: Progress, **how: Any) -> Card:
        def on_step(step: int, loss: float) -> None:
            advance(step, chosen.steps, f"loss {loss:.1f}")

        with if_stopped("The same command goes on from the last checkpoint."):
            return train_vae(name, dataset, chosen, folder, on_step=on_step, **how)

    return train


def _judge(
    architecture: str, dataset: str, changes: list[str], beside: list[str]
) -> Callable[..., Card]:
    """What trains a judge into a folder."""
    if architecture not in ARCHITECTURES:
        raise unknown_name("judge", architecture, ARCHITECTURES)
    steps = changed(JudgeRecipe(steps=default_steps(architecture, dataset)), changes).steps

    def train(folder: Path, advance: Progress, **how: Any) -> Card:
        def on_step(step: int, loss: float) -> None:
            advance(step, steps, f"loss {loss:.2f}")

        how |= {"steps": steps, "beside": beside, "on_step": on_step}
        return train_judge(architecture, dataset, folder, **how)

    return train

"""The work of ``genrobust train``."""

from __future__ import annotations

from pathlib import Path

from genrobust.cli.errors import if_stopped
from genrobust.cli.progress import progress
from genrobust.errors import GenrobustError, unknown_name
from genrobust.judges.networks import ARCHITECTURES
from genrobust.models.card import Card
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
    cards = []
    for one in range(seed, last + 1):
        place = folder if seeds is None else folder / f"seed-{one}"
        card = (
            _train_judge(judge, dataset, changes, one, place, data_root, device, beside)
            if judge is not None
            else _train_model(name, dataset, changes, one, place, data_root, device)
        )
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


def _train_model(
    name: str,
    dataset: str,
    changes: list[str],
    seed: int,
    folder: Path,
    data_root: Path | None,
    device: str,
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
            device=device,
            on_step=lambda step, loss: advance(step, chosen.steps, f"loss {loss:.1f}"),
        )


def _train_judge(
    architecture: str,
    dataset: str,
    changes: list[str],
    seed: int,
    folder: Path,
    data_root: Path | None,
    device: str,
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
            device=device,
            on_step=lambda step, loss: advance(step, steps, f"loss {loss:.2f}"),
        )

"""Train the judges: classifiers that must read sharp images and blurred reconstructions alike.

But for the thesis', which is trained as published.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from genrobust import files
from genrobust._version import __version__
from genrobust.data.base import DATASETS, Images
from genrobust.errors import GenrobustError, unknown_name
from genrobust.judges.networks import ARCHITECTURES
from genrobust.models.card import Card
from genrobust.models.weights import half_precision, round_to_half, save_weights
from genrobust.seeding import generator, seed_of
from genrobust.training.augment import blur_and_noise, move
from genrobust.training.inputs import Claim, DivergedError, load_splits

#: Height and width of what judges read.
SIZE = (32, 32)

BATCH_SIZE = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.01
RECIPE: dict[str, object] = {
    "batch_size": BATCH_SIZE,
    "learning_rate": LEARNING_RATE,
    "weight_decay": WEIGHT_DECAY,
    "augment": "moved, turned, scaled, blurred, noised",
}
STEPS = {"digits": 2500, "mnist": 2800}

#: Sootla 2018: plain SGD on the images as they are, for ten epochs of MNIST.
AS_PUBLISHED: dict[str, float] = {"batch_size": 64, "learning_rate": 0.01, "momentum": 0.5}
STEPS_AS_PUBLISHED = {"digits": 9380, "mnist": 9380}


def train_judge(
    architecture: str,
    dataset: str,
    out: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    data_root: str | Path | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Card:
    """Train a classifier and write ``judge-ARCHITECTURE.safetensors`` and its card.

    Args:
        architecture: ``lenet``, ``vgg``, ``resnet`` or ``thesis``.
        dataset: a registered dataset.
        out: the folder to write to.
        seed: of weights, batches and augmentation.
        steps: default by dataset.
        data_root: see :func:`genrobust.data.load_images`.
        on_step: called with the step and its loss.

    Raises:
        GenrobustError: no such architecture or dataset; the data set cannot be learned from, or
            has images of another size; ``out`` cannot be written, or is taken by another training;
            the loss is no longer finite.
    """
    if architecture not in ARCHITECTURES:
        raise unknown_name("judge", architecture, ARCHITECTURES)
    train, test = load_splits(dataset, data_root, labels=True)
    if train.size != SIZE:
        raise GenrobustError(
            f"judges read images of {SIZE[0]} x {SIZE[1]}, and those of '{dataset}' have "
            f"{train.size[0]} x {train.size[1]}; give that data set Images(..., size={SIZE}), to "
            "which its images are resized"
        )
    classes = len(DATASETS.get(dataset).classes)
    steps = default_steps(architecture, dataset) if steps is None else steps
    if steps < 1:
        raise GenrobustError(f"steps is {steps}; it must be 1 or more")
    name = f"judge-{architecture}"
    run = {"name": name, "seed": seed, "steps": steps, "data": train.sha256}
    claim = Claim(out / f"{name}.run.json", json.dumps(run, sort_keys=True))
    as_published = architecture == "thesis"
    fit = _fit_as_published if as_published else _fit
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("judge", architecture, seed))  # weights and dropout
        network = ARCHITECTURES[architecture](train.shape[0], classes).train()
        fit(network, train, steps, seed, on_step)
    round_to_half(network)
    if not all(weights.isfinite().all() for weights in network.parameters()):
        raise _diverged("not finite", steps)
    card = Card(
        name=name,
        kind="judge",
        dataset=dataset,
        train_sha256=train.sha256,
        test_sha256=test.sha256,
        architecture={"name": architecture, "channels": train.shape[0], "classes": classes},
        recipe=dict(AS_PUBLISHED if as_published else RECIPE),
        seed=seed,
        steps=steps,
        metrics={"accuracy": accuracy(network, test)},
        parameters=sum(p.numel() for p in network.parameters()),
        weights_sha256=files.sha256_of_tensors(half_precision(network)),
        genrobust_version=__version__,
        torch_version=torch.__version__,
    )
    claim.check()
    save_weights(out, network, card)
    return card


def default_steps(architecture: str, dataset: str) -> int:
    """Steps of a judge's training; data sets of others get MNIST's."""
    steps = STEPS_AS_PUBLISHED if architecture == "thesis" else STEPS
    return steps.get(dataset, steps["mnist"])


@torch.no_grad()
def accuracy(network: nn.Module, images: Images, batch_size: int = 500) -> float:
    """Share of the images that the network labels right, in eval mode."""
    network.eval()
    right = 0
    for ids in torch.arange(len(images)).split(batch_size):
        right += int((network(images.take(ids)).argmax(1) == images.labels_of(ids)).sum())
    return round(right / len(images), 4)


def _fit(
    network: nn.Module,
    train: Images,
    steps: int,
    seed: int,
    on_step: Callable[[int, float], None],
) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        draws = generator("judge", seed, step)
        ids = torch.randint(len(train), (BATCH_SIZE,), generator=draws)
        x = move(train.take(ids), draws, degrees=15, shift=0.08, scale=0.15)
        x = blur_and_noise(x, draws)
        loss = F.cross_entropy(network(x), train.labels_of(ids), label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        on_step(step + 1, _finite(loss.item(), step + 1))


def _fit_as_published(
    network: nn.Module,
    train: Images,
    steps: int,
    seed: int,
    on_step: Callable[[int, float], None],
) -> None:
    size, settings = int(AS_PUBLISHED["batch_size"]), AS_PUBLISHED
    optimizer = torch.optim.SGD(
        network.parameters(), settings["learning_rate"], settings["momentum"]
    )
    for step in range(steps):
        ids = torch.randint(len(train), (size,), generator=generator("judge", seed, step))
        loss = F.cross_entropy(network(train.take(ids)), train.labels_of(ids))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        on_step(step + 1, _finite(loss.item(), step + 1))


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise _diverged(loss, step)
    return loss


def _diverged(loss: float | str, step: int) -> DivergedError:
    return DivergedError(loss, step, "look at the data set's images, or choose another --seed")

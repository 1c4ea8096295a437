"""Train the judges: classifiers that must read sharp images and blurred reconstructions alike.

But for the thesis', which is trained as published.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from genrobust import files
from genrobust._version import __version__
from genrobust.arguments import path, usable_device, whole_seed
from genrobust.data.base import DATASETS, Images
from genrobust.errors import GenrobustError, unknown_name
from genrobust.foreign import explain
from genrobust.judges import Judge, load_judge
from genrobust.judges.load import is_place
from genrobust.judges.networks import ARCHITECTURES, Committee
from genrobust.models.card import Card
from genrobust.models.weights import half_precision, round_to_half, save_weights
from genrobust.seeding import generator, seed_of
from genrobust.training.augment import blur_and_noise, move
from genrobust.training.inputs import Claim, DivergedError, load_splits

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
    out: str | Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    data_root: str | Path | None = None,
    beside: Sequence[str] = (),
    device: str = "cpu",
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Card:
    """Train a classifier and write ``judge-ARCHITECTURE.safetensors`` and its card.

    Args:
        architecture: ``lenet``, ``vgg``, ``resnet`` or ``thesis``.
        dataset: a registered dataset with labels, of images of any size from 16 x 16 up.
        out: the folder to write to, of a name in UTF-8.
        seed: of weights, batches and augmentation.
        steps: default by dataset.
        data_root: see :func:`genrobust.data.load_images`.
        beside: judges (see :func:`genrobust.judges.load_judge`) of which the card says on what
            share of the test images they see the same class.
        device: where to compute, such as ``"cuda"``.
        on_step: called with the step and its loss.

    Raises:
        GenrobustError: no such architecture, dataset, judge, seed or device; the data set cannot be
            learned from, or its images are too small; ``out`` cannot be written, or has such a
            judge of another training, or is taken by one; the loss is no longer finite.
    """
    if architecture not in ARCHITECTURES:
        raise unknown_name("judge", architecture, ARCHITECTURES)
    seed, place = whole_seed(seed), usable_device(device)
    folder = Path(path("out", out, "my-model"))
    train, test = load_splits(dataset, data_root, labels=True)
    classes = len(DATASETS.get(dataset).classes)
    steps = default_steps(architecture, dataset) if steps is None else steps
    if steps < 1:
        raise GenrobustError(f"steps is {steps}; it must be 1 or more")
    _check_reads(architecture, train, classes, dataset)
    others = [load_judge(dataset, reference) for reference in beside]
    name = f"judge-{architecture}"
    run = {"name": name, "seed": seed, "steps": steps, "data": train.sha256}
    _require_free(folder, run)
    claim = Claim(folder / f"{name}.run.json", json.dumps(run, sort_keys=True))
    as_published = architecture == "thesis"
    fit = _fit_as_published if as_published else _fit
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed_of("judge", architecture, seed))  # weights and dropout
        network = ARCHITECTURES[architecture](train.shape[0], classes).train().to(place)
        fit(network, train, steps, seed, on_step)
    round_to_half(network.cpu())
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
        metrics={
            "accuracy": accuracy(network, test),
            "balanced accuracy": balanced_accuracy(network, test),
            **{
                f"agreement with {_called(other)}": agreement(network, other, test)
                for other in others
            },
        },
        parameters=sum(p.numel() for p in network.parameters()),
        weights_sha256=files.sha256_of_tensors(half_precision(network)),
        genrobust_version=__version__,
        torch_version=torch.__version__,
    )
    claim.check()
    save_weights(folder, network, card)
    return card


def _require_free(folder: Path, run: dict[str, Any]) -> None:
    """No judge of another training is written over: suites name it by its hash.

    Raises:
        GenrobustError: there is one.
    """
    try:
        card = Card.model_validate_json((folder / f"{run['name']}.json").read_bytes())
    except (OSError, ValidationError):
        return
    there = {"name": card.name, "seed": card.seed, "steps": card.steps, "data": card.train_sha256}
    if there != run:
        raise GenrobustError(
            f"'{folder}' holds a '{card.name}' of another training (seed, steps or data differ); "
            "choose another --out, or delete it"
        )


def default_steps(architecture: str, dataset: str) -> int:
    """Steps of a judge's training; data sets of others get MNIST's."""
    steps = STEPS_AS_PUBLISHED if architecture == "thesis" else STEPS
    return steps.get(dataset, steps["mnist"])


def accuracy(network: nn.Module, images: Images) -> float:
    """Share of the images that the network labels right, in eval mode."""
    return _share(_seen(network, images) == images.labels_of(range(len(images))))


def balanced_accuracy(network: nn.Module, images: Images) -> float:
    """The mean over the classes of the share that it labels right; a coin has 1 / classes."""
    labels = images.labels_of(range(len(images)))
    right = (_seen(network, images) == labels).double()
    return round(float(torch.stack([right[labels == k].mean() for k in labels.unique()]).mean()), 4)


def agreement(network: nn.Module, judge: Judge, images: Images) -> float:
    """Share of the images, of whatever class, on which network and judge see the same one."""
    return _share(_seen(network, images) == _seen(judge.labels, images))


def _share(true: Tensor) -> float:
    return round(int(true.sum()) / len(true), 4)


@torch.no_grad()
def _seen(look: nn.Module | Callable[[Tensor], Tensor], images: Images) -> Tensor:
    """The classes (N,) that a network, by its logits, or a judge, by its labels, sees."""
    if isinstance(look, nn.Module):
        look.eval()
    parts = [look(images.take(ids)) for ids in torch.arange(len(images)).split(500)]
    return torch.cat([seen if seen.ndim == 1 else seen.argmax(1) for seen in parts])


def _called(judge: Judge) -> str:
    """Where it lies on this machine is nobody's business; which one it is, its hash says."""
    return (
        f"{PurePath(judge.name).name}@{judge.sha256[:12]}" if is_place(judge.name) else judge.name
    )


def _check_reads(architecture: str, images: Images, classes: int, dataset: str) -> None:
    with torch.random.fork_rng(devices=[]):
        network = ARCHITECTURES[architecture](images.shape[0], classes).eval()
    try:
        network(images.take([0]))
    except RuntimeError as problem:
        height, width = images.size
        raise GenrobustError(
            f"the judge '{architecture}' cannot read images of {height} x {width}, as those of "
            f"'{dataset}' are ({explain(problem)}); give that data set Images(..., size=(32, 32)), "
            "to which its images are resized"
        ) from problem


def _fit(
    network: nn.Module,
    train: Images,
    steps: int,
    seed: int,
    on_step: Callable[[int, float], None],
) -> None:
    parts = network.members if isinstance(network, Committee) else [network]
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        draws = generator("judge", seed, step)
        ids = torch.randint(len(train), (BATCH_SIZE,), generator=draws)
        x = move(train.take(ids), draws, degrees=15, shift=0.08, scale=0.15)
        x = blur_and_noise(x, draws)
        x, labels = (t.to(next(network.parameters()).device) for t in (x, train.labels_of(ids)))
        losses = [F.cross_entropy(part(x), labels, label_smoothing=0.05) for part in parts]
        loss = torch.stack(losses).sum()
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
        device = next(network.parameters()).device
        x, labels = train.take(ids).to(device), train.labels_of(ids).to(device)
        loss = F.cross_entropy(network(x), labels)
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

"""The loop that trains every model: exactly resumable, every draw keyed by the seed and step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust import files
from genrobust._version import __version__
from genrobust.arguments import path, usable_device, whole_seed
from genrobust.data.base import DATASETS, Images
from genrobust.errors import GenrobustError
from genrobust.models.card import Card
from genrobust.models.networks import ConvVAE, initialised
from genrobust.models.weights import half_precision, round_to_half, save_weights
from genrobust.seeding import generator
from genrobust.training.augment import move
from genrobust.training.inputs import Claim, DivergedError, load_splits
from genrobust.training.losses import Sampler, Step
from genrobust.training.recipes import Recipe

OnStep = Callable[[int, float], None]


@dataclass
class _State:
    step: int
    network: ConvVAE
    optimizer: torch.optim.Optimizer
    helper: nn.Module | None
    helper_optimizer: torch.optim.Optimizer | None


def train_vae(
    name: str,
    dataset: str,
    recipe: Recipe,
    out: str | Path,
    *,
    seed: int = 0,
    data_root: str | Path | None = None,
    device: str = "cpu",
    log_every: int = 500,
    checkpoint_every: int = 1000,
    on_step: OnStep = lambda step, loss: None,
) -> Card:
    """Train, and write ``NAME.safetensors``, ``NAME.json`` (the card) and ``log.jsonl``.

    If ``out`` holds a checkpoint of the same run, training goes on from there and ends with the
    weights it would have had without the stop.

    Args:
        name: the model's name, for its files.
        dataset: a registered dataset.
        recipe: network, loss and settings.
        out: the folder to write to, of a name in UTF-8.
        seed: of weights, batches and noise.
        data_root: see :func:`genrobust.data.load_images`.
        device: where to compute, such as ``"cuda"``. Each draw is the same on all, a sum's last
            digits are not: weights of another device differ.
        log_every: steps between lines of the log: loss, KL per latent (nats), capacities.
        checkpoint_every: steps between checkpoints.
        on_step: called with the step and its loss.

    Raises:
        GenrobustError: the data set cannot be learned from, or is not what the network reads, or
            not what the family needs: labels, or images of given factors; ``seed`` is none;
            ``out`` cannot be written, holds another run's checkpoint, or is taken by another run;
            torch has no such ``device``; the loss is no longer finite.
    """
    seed, place = whole_seed(seed), usable_device(device)
    folder = Path(path("out", out, "my-model"))
    sampler = recipe.penalty.sampler(dataset)
    train, test = load_splits(dataset, data_root, labels=recipe.penalty.needs_labels)
    if train.shape != recipe.network.input_shape:
        raise GenrobustError(
            f"the images of '{dataset}' have the shape {train.shape} and the network's input_shape "
            f"is {recipe.network.input_shape}; give it that of the images: --set "
            f"'network.input_shape={list(train.shape)}'"
        )
    classes = recipe.network.classes
    if recipe.penalty.needs_labels and classes != len(DATASETS.get(dataset).classes):
        raise GenrobustError(
            f"'{dataset}' has {len(DATASETS.get(dataset).classes)} classes and the network reads "
            f"{classes}; leave network.classes out, or give it the data's"
        )
    run = json.dumps(
        {"name": name, "recipe": recipe.model_dump(), "seed": seed, "data": train.sha256},
        sort_keys=True,
    )
    state = _start(recipe, seed, place)
    checkpoint = folder / "checkpoint.safetensors"
    log = folder / "log.jsonl"
    if checkpoint.exists():
        _restore(state, checkpoint, run)
    lines = _log_until(log, state.step)
    claim = Claim(folder / "run.json", run)

    def keep() -> None:
        claim.check()
        files.write_text(log, "".join(f"{line}\n" for line in lines))
        files.write_tensors(checkpoint, _tensors(state), {"run": run, "step": str(state.step)})

    try:
        while state.step < recipe.steps:
            loss, entry = _train_step(state, recipe, train, seed, sampler)
            on_step(state.step, loss)
            if state.step % log_every == 0 or state.step == recipe.steps:
                lines.append(json.dumps(entry))
            if state.step % checkpoint_every == 0 or state.step == recipe.steps:
                keep()
        round_to_half(state.network.cpu())
        if not all(weights.isfinite().all() for weights in state.network.parameters()):
            raise _diverged("not finite", state.step, recipe)
    except DivergedError:
        checkpoint.unlink(missing_ok=True)  # it leads here again, and is in the way of others
        raise
    card = Card(
        name=name,
        kind="vae",
        dataset=dataset,
        train_sha256=train.sha256,
        test_sha256=test.sha256,
        architecture=recipe.network.model_dump(mode="json"),
        recipe=recipe.model_dump(mode="json", exclude={"network"}),
        seed=seed,
        steps=recipe.steps,
        metrics=evaluate(state.network, test, seed),
        parameters=sum(p.numel() for p in state.network.parameters()),
        weights_sha256=files.sha256_of_tensors(half_precision(state.network)),
        genrobust_version=__version__,
        torch_version=torch.__version__,
    )
    claim.check()
    save_weights(folder, state.network, card)
    return card


@torch.no_grad()
def evaluate(
    network: ConvVAE, images: Images, seed: int, batch_size: int = 500
) -> dict[str, float]:
    """Test metrics per image.

    Returns:
        ``elbo``: nats, one posterior draw an image; ``kl``: nats; ``bce`` and
        ``squared_error``: of the deployed reconstruction, summed over pixels.
    """
    network.eval()
    totals = dict.fromkeys(("elbo", "kl", "bce", "squared_error"), 0.0)
    for first in range(0, len(images), batch_size):
        x = images.take(torch.arange(first, min(first + batch_size, len(images))))
        posterior = network.encode(x)
        noise = posterior.draw_noise(generator("evaluate", seed, first))
        kl = posterior.kl_to_prior().sum()
        deployed = network.decode(posterior.mode())
        drawn = network.decode(posterior.sample(noise))
        if posterior.has_density:  # an autoencoder has no bound on a likelihood
            totals["elbo"] -= (F.binary_cross_entropy(drawn, x, reduction="sum") + kl).item()
        else:
            totals.pop("elbo", None)
        totals["kl"] += kl.item()
        totals["bce"] += F.binary_cross_entropy(deployed, x, reduction="sum").item()
        totals["squared_error"] += F.mse_loss(deployed, x, reduction="sum").item()
    return {key: round(value / len(images), 4) for key, value in totals.items()}


def _start(recipe: Recipe, seed: int, device: torch.device) -> _State:
    network = initialised(recipe.network, seed).train().to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    helper, helper_optimizer = _helper(recipe, seed, device)
    return _State(0, network, optimizer, helper, helper_optimizer)


def _helper(
    recipe: Recipe, seed: int, device: torch.device
) -> tuple[nn.Module | None, torch.optim.Optimizer | None]:
    """A family's networks beside the model, from a seed of their own, and what trains them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        helper = recipe.penalty.helper(recipe.network)
    if helper is None:
        return None, None
    helper.to(device)
    if not [*helper.parameters()]:
        return helper, None
    return helper, torch.optim.Adam(helper.parameters(), **recipe.penalty.helper_adam())


def _train_step(
    state: _State, recipe: Recipe, train: Images, seed: int, sampler: Sampler | None
) -> tuple[float, dict[str, object]]:
    ids = _batch_ids(len(train), recipe.batch_size, state.step, seed)
    draws = generator("train", seed, state.step)
    x = sampler(state.step, len(ids), draws) if sampler else train.take(ids)
    if recipe.augment:
        x = move(x, draws, degrees=12, shift=0.08, scale=0.1)
    x = x.to(next(state.network.parameters()).device)
    posterior = state.network.encode(x)
    code = recipe.penalty.code(posterior, draws, recipe.temperature)
    image = state.network.decode(code)
    if not image.isfinite().all():  # binary_cross_entropy would raise a RuntimeError
        raise _diverged("not finite", state.step + 1, recipe)
    at = Step(
        network=state.network,
        helper=state.helper,
        x=x,
        posterior=posterior,
        code=code,
        image=image,
        draws=draws,
        number=state.step,
        images=len(train),
        temperature=recipe.temperature,
        labels=train.labels_of(ids).to(x.device) if recipe.penalty.needs_labels else None,
    )
    _descend(state.optimizer, loss := recipe.penalty.loss(at))
    if state.helper_optimizer is not None:
        _descend(state.helper_optimizer, recipe.penalty.helper_loss(at))
    recipe.penalty.settle(at)
    state.step += 1
    value = loss.item()
    if not value < float("inf"):
        raise _diverged(value, state.step, recipe)
    per_latent = posterior.kl_to_prior().mean(0).tolist()
    return value, {
        "step": state.step,
        "loss": round(value, 3),
        "bce": round(at.bce.item(), 3),
        "kl_per_latent": [round(kl, 4) for kl in per_latent],
        "capacity": recipe.penalty.capacities(posterior, state.step),
    }


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _diverged(loss: float | str, step: int, recipe: Recipe) -> DivergedError:
    smaller = f"{recipe.learning_rate / 10:g}"
    return DivergedError(
        loss,
        step,
        f"choose smaller settings, such as --set learning_rate={smaller}, or in a study "
        f"settings.learning_rate = {smaller}",
    )


def _batch_ids(count: int, batch_size: int, step: int, seed: int) -> Tensor:
    """The ids of a step's batch: each epoch is a permutation keyed by (seed, epoch)."""
    size = min(batch_size, count)
    per_epoch = count // size
    epoch, index = divmod(step, per_epoch)
    order = torch.randperm(count, generator=generator("epoch", seed, epoch))
    return order[index * size : (index + 1) * size]


def _tensors(state: _State) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, module, optimizer in _trained(state):
        prefix = name.removesuffix("network")
        tensors |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
        kept = optimizer.state_dict()["state"] if optimizer else {}
        for index, moments in kept.items():
            tensors |= {
                f"{prefix}optimizer.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()
            }
    return tensors


def _trained(state: _State) -> Iterator[tuple[str, nn.Module, torch.optim.Optimizer | None]]:
    yield "network", state.network, state.optimizer
    if state.helper is not None:
        yield "helper_network", state.helper, state.helper_optimizer


def _restore(state: _State, path: Path, run: str) -> None:
    try:
        tensors, metadata = files.read_tensors(path)
    except (OSError, ValueError) as problem:
        raise GenrobustError(
            f"the checkpoint '{path}' cannot be read ({problem}); delete it to start afresh"
        ) from problem
    if metadata.get("run") != run:
        raise GenrobustError(
            f"'{path.parent}' holds a checkpoint of another run (model, data, seed or settings "
            "differ); choose another --out, or delete that folder"
        )
    state.step = int(metadata["step"])
    for name, module, optimizer in _trained(state):
        module.load_state_dict(_below(f"{name}.", tensors))
        if optimizer is None:
            continue
        moments: dict[int, dict[str, Tensor]] = {}
        kept = _below(f"{name.removesuffix('network')}optimizer.", tensors)
        for key, tensor in kept.items():
            index, moment = key.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _log_until(path: Path, step: int) -> list[str]:
    """The log's lines up to the step: what came after a lost checkpoint is trained again."""
    if step == 0 or not path.exists():
        return []
    return [line for line in files.read_text(path).splitlines() if json.loads(line)["step"] <= step]

"""Try a model on a few images before anything is measured: each failure is one clear sentence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.models.adapters import describe
from genrobust.models.model import GenerativeModel
from genrobust.models.state import check_history
from genrobust.posterior import Categorical, Gaussian, Part, Posterior
from genrobust.seeding import generator, seeded

T = TypeVar("T")

RANGE_TOLERANCE = 1e-3
REPEAT_TOLERANCE = 1e-5
BATCH_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ModelCheck:
    """What was found on the probe batch."""

    latents: str
    code_size: int
    lowest: float
    highest: float
    gradient: float


def probe_images(shape: tuple[int, int, int], count: int = 4) -> Tensor:
    """Soft blobs at different places over faint noise: a stand-in for images, always the same."""
    channels, height, width = shape
    rows = torch.linspace(-1, 1, height)[:, None]
    columns = torch.linspace(-1, 1, width)[None]
    noise = 0.05 * torch.rand(count, *shape, generator=generator("probe"))
    turns = torch.linspace(0, 5, count)[:, None, None]
    blobs = torch.exp(-8 * ((rows - 0.4 * turns.sin()) ** 2 + (columns - 0.4 * turns.cos()) ** 2))
    return (0.9 * blobs[:, None].expand(-1, channels, -1, -1) + noise).clamp(0, 1)


def check_model(model: GenerativeModel, x: Tensor | None = None) -> ModelCheck:
    """Check shapes, range, finiteness, determinism, independence of the batch and gradients.

    Args:
        model: the model to try.
        x: at least two images (B, C, H, W) in [0, 1]; default synthetic ones.

    Raises:
        GenrobustError: the first check that failed, what was found, and what to do.
    """
    x = (probe_images(model.input_shape) if x is None else x).to(model.device)
    with nullcontext() if model.draws == 1 else seeded(model.device, "check"):
        return _checked(model, x)


def _checked(model: GenerativeModel, x: Tensor) -> ModelCheck:
    with torch.no_grad():
        posterior = _run("encode", lambda: model.encode(x), x.shape)
        _check_posterior(posterior, len(x))
        code = posterior.mode()
        image = _run("decode", lambda: model.decode(code), code.shape)
        _check_image("decode", image, x, model.clamp)
        if model.deploy is not None:
            deployed = _run("deploy", lambda: model.reconstruct(x), x.shape)
            _check_image("deploy", deployed, x, model.clamp)
        if model.draws == 1:
            _check_repeatable(model, x)
            check_history(model, x)
    gradient = _check_gradient(model, x) if model.differentiable else 0.0
    return ModelCheck(
        latents=_latents(posterior),
        code_size=posterior.size,
        lowest=float(image.min()),
        highest=float(image.max()),
        gradient=gradient,
    )


def _run(what: str, call: Callable[[], T], shape: torch.Size) -> T:
    try:
        return call()
    except GenrobustError:
        raise
    except Exception as problem:
        raise GenrobustError(
            f"the model's {what} failed on a batch of shape {tuple(shape)} "
            f"({type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}); "
            f"check input_shape, or pass {what}=, a function that takes such a batch"
        ) from problem


def _check_posterior(posterior: Posterior, count: int) -> None:
    for part in posterior.parts:
        tensors = [getattr(part, field.name) for field in fields(part)]  # type: ignore[arg-type]
        for tensor in tensors:
            if tensor.ndim < 2 or len(tensor) != count or tensor.shape != tensors[0].shape:
                raise GenrobustError(
                    f"the encoder gave {describe(tensor)} for {count} images; it must give one "
                    "code an image, batch first, and a mean and a log-variance of one shape"
                )
            if not tensor.isfinite().all():
                raise GenrobustError(
                    "the encoder gave NaN or infinite values on images in [0, 1]; check the "
                    "weights and value_range"
                )


def _check_image(what: str, image: Tensor, x: Tensor, clamp: bool) -> None:
    who = {"decode": "the decoder", "deploy": "deploy="}[what]
    if image.shape != x.shape:
        raise GenrobustError(
            f"{who} gave shape {tuple(image.shape)} for images of shape {tuple(x.shape)}; pass the "
            f"input_shape the model was trained on, or {what}=, a function that gives images of "
            "that shape"
        )
    if not image.isfinite().all():
        raise GenrobustError(
            f"{who} gave NaN or infinite pixels on images in [0, 1]; check the weights and "
            "value_range"
        )
    low, high = float(image.min()), float(image.max())
    if not clamp and (low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE):
        raise GenrobustError(
            f"reconstructions reach from {low:.2f} to {high:.2f} where [0, 1] is allowed; pass "
            "value_range=(lowest, highest) if the model works in other units, clamp=True if its "
            f"deployment clips, or {what}= with the missing sigmoid"
        )


def _check_repeatable(model: GenerativeModel, x: Tensor) -> None:
    once, again = model.reconstruct(x), model.reconstruct(x)
    alone = _run("encode or decode", lambda: model.reconstruct(x[:1]), x[:1].shape)
    moved = float((once - again).abs().max())
    if moved > REPEAT_TOLERANCE:
        raise GenrobustError(
            f"the model gives another reconstruction each time (they differ by up to {moved:.2g}); "
            "it draws random numbers in eval mode: pass encode= and decode= that do not, such as "
            "an encode that returns (mean, logvar); or, if the deployment is random, draws=16"
        )
    moved = float((once[:1] - alone).abs().max())
    if moved > BATCH_TOLERANCE:
        raise GenrobustError(
            f"an image's reconstruction changes with the others in its batch (by up to {moved:.2g})"
            "; use layers that treat images one by one in eval mode (batch norm with running "
            "statistics, no minibatch statistics)"
        )


def _check_gradient(model: GenerativeModel, x: Tensor) -> float:
    x = x.clone().requires_grad_()
    gradient, problem = None, None
    try:
        image = model.surrogate(x, "softmax")
        if image.requires_grad:
            (gradient,) = torch.autograd.grad(image.square().sum(), x, allow_unused=True)
    except (RuntimeError, GenrobustError) as raised:  # such as numpy() of one with a gradient
        problem = raised
    if gradient is None or not gradient.any():
        reason = f" ({str(problem).splitlines()[0]})" if str(problem or "") else ""
        raise GenrobustError(
            f"no gradient reaches the image from its reconstruction{reason}; remove "
            "torch.no_grad, detach, numpy, rounding or .data from the path through encode and "
            "decode, or pass encode= and decode= without them, and the path with them as deploy="
        ) from problem
    if not gradient.isfinite().all():
        raise GenrobustError(
            "the gradient of the reconstruction with respect to the image is NaN or infinite; "
            "look for log(0), sqrt(0) or a division by 0 in encode and decode"
        )
    return float(gradient.flatten(1).norm(dim=1).mean())


def _latents(posterior: Posterior) -> str:
    def name(part: Part) -> str:
        size = part.mode()[0].numel()
        if isinstance(part, Gaussian):
            return f"{size} Gaussian"
        return f"one {size}-way categorical" if isinstance(part, Categorical) else f"{size} point"

    return " + ".join(name(part) for part in posterior.parts)

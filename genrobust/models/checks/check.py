"""Try a model on a few images before anything is measured: each failure is one clear sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from genrobust.errors import GenrobustError, is_out_of_memory
from genrobust.foreign import Call, explain
from genrobust.models.checks.batches import check_batches, check_draws, check_gradients
from genrobust.models.checks.edges import with_edges
from genrobust.models.checks.fidelity import pictures_of_methods, reads_alone
from genrobust.models.checks.handed import handed_apart, handed_laid_out, handed_whole
from genrobust.models.checks.lines import line_that_reads
from genrobust.models.checks.sizes import size_taken
from genrobust.models.checks.state import check_history
from genrobust.models.inputs import probe_images
from genrobust.models.model import FORWARD_ALONE, GenerativeModel
from genrobust.models.reading.adapters import DrawnError, SeveralCodesError
from genrobust.models.reading.kept import kept
from genrobust.models.reading.modules import by_name_alone, halves_within, method, require_numbers
from genrobust.models.reading.outputs import describe
from genrobust.models.straight import cut_in
from genrobust.plugins import is_ours
from genrobust.posterior import Gaussian, Posterior
from genrobust.posterior.base import titled
from genrobust.posterior.trial import try_part
from genrobust.seeding import generators_kept
from genrobust.threat import TOLERANCE

T = TypeVar("T")

RANGE_TOLERANCE = 1e-3

#: What a record says of a model that is a forward alone.
NO_LATENTS = "none, as only its forward is known: attacks on the output and on judges count alone"

#: By how much each pixel is moved to see whether a reconstruction without a gradient moves at all.
NUDGE = 0.01

_ALONE = "pass encode=torch.nn.Identity() to read it by its forward alone"

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class ModelCheck:
    """What was found on the probe batch.

    Args:
        model: the one that was tried, which takes its gradients where it has some.
        latents: what its code is made of, in words.
        code_size: how many numbers that is.
        lowest, highest: pixel of its reconstructions.
        gradient: mean L2 norm of that of their squares.

    Example:
        >>> import genrobust
        >>> found = check_model(genrobust.load_model("vae"))
        >>> found.code_size, found.gradient > 0
        (10, True)
    """

    model: GenerativeModel
    latents: str
    code_size: int
    lowest: float
    highest: float
    gradient: float


def check_model(model: GenerativeModel, x: Tensor | None = None) -> ModelCheck:
    """Check shapes, range, finiteness, determinism, independence of the batch and gradients.

    Args:
        model: the model to try.
        x: images (B, C, H, W) in [0, 1], best as many as a run's batches have; default four
            synthetic ones.

    Raises:
        GenrobustError: the first check that failed, what was found, and what to do.

    Example:
        >>> import genrobust
        >>> check_model(genrobust.load_model("vae")).latents
        '10 Gaussian'
    """
    require_numbers(model.module)
    x = probe_images(model.input_shape) if x is None else x
    _check_given(x, model)
    # Not for the draws of a random model alone: nothing that is drawn here is the user's loss.
    with generators_kept(model.device), kept(model.module), _halves_named(model, x):
        return _checked(model, x.to(model.device))


def _check_given(x: Tensor, model: GenerativeModel) -> None:
    if tuple(x.shape[1:]) != model.input_shape:
        raise GenrobustError(
            f"the model takes images of shape {model.input_shape} and these are of shape "
            f"{tuple(x.shape[1:])}; choose a data set of the model's shape, or pictures of your "
            "own, which are resized to it (--data), or convert in encode= and decode= when you "
            "wrap it"
        )
    low, high = float(x.min()), float(x.max())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also NaN
        raise GenrobustError(
            f"the images that the model is to be tried on reach from {low:.4g} to {high:.4g} where "
            "[0, 1] is allowed; let the data set give floats in [0, 1], such as images / 255, and "
            "the model say in which range it works by value_range="
        )


def _checked(model: GenerativeModel, x: Tensor) -> ModelCheck:
    with torch.no_grad():
        with _handed(model, x):
            posterior = _run("encode", model, lambda: model.encode(x), x)
            _check_posterior(posterior, len(x))
        for part in posterior.parts:
            try_part(part, len(x), model.differentiable)
        with _handed(model, x):
            code = posterior.mode()
            image = _run("decode", model, lambda: model.decode(code), x, code)
        _check_image("decode", image, model.clamp)
        if model.deploy is not None:
            deployed = _run("deploy", model, lambda: model.reconstruct(x), x)
            _check_image("deploy", deployed, model.clamp)
    random = check_draws(model, x)
    steady = {stage for stage, draws in random.items() if not draws}
    if not any(random.values()):
        check_history(model, x)
    check_batches(model, x, steady)
    gradient = 0.0
    if model.differentiable:
        model = _from_inside(model, x, image)
        gradient = _check_gradient(model, x, image)
        if "decode" in steady:
            check_gradients(model, x)
    return ModelCheck(
        model=model,
        latents=NO_LATENTS if model.spec.get(FORWARD_ALONE) else posterior.describe(),
        code_size=posterior.size,
        lowest=float(image.min()),
        highest=float(image.max()),
        gradient=gradient,
    )


@contextmanager
def _halves_named(model: GenerativeModel, x: Tensor) -> Iterator[None]:
    """Where a module that is read by its forward alone fails, say which part of it has halves, or
    which method gives pictures."""
    try:
        yield
    except GenrobustError as problem:
        alone = model.spec.get(FORWARD_ALONE)
        line = (halves_within(model.module) or _by_method(model, x)) if alone else None
        if line is None or (problem.__cause__ and is_out_of_memory(problem.__cause__)):
            raise
        raise GenrobustError(f"{problem}; or {line}") from problem.__cause__


def _by_method(model: GenerativeModel, x: Tensor) -> str | None:
    """The line that takes the pictures of a method such as ``reconstruct``."""
    found = next(pictures_of_methods(model, x), None)
    return found and f"{found.line}, the pictures that its {found.name} gives"


@contextmanager
def _handed(model: GenerativeModel, x: Tensor) -> Iterator[None]:
    """Where what is read of the encoder's output is not what decode takes, say what that is."""
    try:
        yield
    except GenrobustError as problem:
        cause = problem.__cause__
        if isinstance(problem, DrawnError) or (cause is not None and is_out_of_memory(cause)):
            raise
        told = handed_whole(model, x)
        if told is None and cause is None:
            told = _told_by_lines(model, x, problem)
        if told is None:
            raise
        also = f"; {_LABELS}" if cause is not None and _is_given_too_little(cause) else ""
        raise GenrobustError(told + also) from cause


def _told_by_lines(model: GenerativeModel, x: Tensor, problem: GenrobustError) -> str | None:
    """A refusal of what the encoder gives, with a line that was tried where one is known."""
    found, *known = re.split("; (?:known are|pass) ", str(problem), maxsplit=1)
    if line := line_that_reads(model, x, likely=False):
        return f"{found}; {line}"
    if isinstance(problem, SeveralCodesError) and (line := line_that_reads(model, x)):
        return ", or ".join([f"{found}; {line}", *known])
    return f"{problem}, or {_ALONE}" if reads_alone(model, x) else None


def _run(
    what: str,
    model: GenerativeModel,
    call: Callable[[], T],
    x: Tensor,
    code: Tensor | None = None,
) -> T:
    """Call the model's code; where its fault has a cause that shows in its layers, name that."""
    given = x if code is None else code
    try:
        return call()
    except GenrobustError as problem:
        if problem.__cause__ is None or is_out_of_memory(problem.__cause__):
            raise
        reason = _lacking(model, problem.__cause__, what)
        if model.condition is not None and _is_given_too_much(problem.__cause__):
            reason = _without_labels(model, what)
        line = size_taken(model, what, x, given)
        if line is not None:
            pass
        elif what == "encode" or model.spec.get(FORWARD_ALONE):
            line = handed_laid_out(model, x)
        elif what == "decode":
            line = handed_apart(model, x) or line_that_reads(model, x)
        if line is not None:
            reason = line
        elif what != "deploy" and reads_alone(model, x):
            reason = f"{reason}, or {_ALONE}" if reason else _ALONE
        else:
            reason = reason or _misfit(model, what, x)
        if reason is None:
            raise
        raise GenrobustError(
            f"the model's {what} failed on a batch of shape {tuple(given.shape)} "
            f"({explain(problem.__cause__)}; model '{model.name}'): {reason}"
        ) from problem.__cause__


def _without_labels(model: GenerativeModel, what: str) -> str:
    """What to type where a half takes no second argument; by its name it may take the label."""
    half = model.typed.encode if what == "encode" else model.typed.decode
    batch = "x" if what == "encode" else "z"
    without = f"{what}=lambda {batch}, y: {half}({batch})"
    own = method(model.network, what, f"{what}r") if half.startswith("module.") else None
    name = None if own is None else by_name_alone(own)
    if name is None:
        return f"it takes no labels, which labels= gives it; pass {without}"
    return (
        f"it takes '{name}' by its name alone; pass {what}=lambda {batch}, y: {half}({batch}, "
        f"{name}=y) if that is its label, or {without} if it takes none"
    )


def _lacking(model: GenerativeModel, cause: BaseException, what: str) -> str | None:
    """What to type where a function takes more than a batch."""
    if not _is_given_too_little(cause):
        return None
    batch = "z" if what == "decode" else "x"
    half = model.typed.put(f"module.{what}")
    filled = f"{what}= that fills it in, such as lambda {batch}: {half}({batch}, None)"
    return f"it takes more than a batch; {_LABELS}, or {filled}"


_LABELS = (
    "of a conditional model pass labels=, a function from images to their labels, such as "
    "lambda x: genrobust.Categorical(classifier(x))"
)


def _is_given_too_little(cause: BaseException) -> bool:
    given = re.search(r"required (positional|keyword-only) argument", str(cause))
    return isinstance(cause, TypeError) and given is not None


def _is_given_too_much(cause: BaseException) -> bool:
    return isinstance(cause, TypeError) and "were given" in str(cause)


def _misfit(model: GenerativeModel, what: str, x: Tensor) -> str | None:
    """Why a model cannot take images of its shape, as far as its layers say."""
    weights = [p for p in model.module.parameters() if p.is_floating_point()]
    precisions = sorted({str(p.dtype).removeprefix("torch.") for p in weights})
    if len(precisions) > 1:
        given = "z" if what == "decode" else "x"
        return model.typed.put(
            f"its weights are in {' and '.join(precisions)}; pass {what}=, a function that "
            f"converts where they meet, such as lambda {given}: module.{what}({given}.to(torch."
            f"{precisions[0]}))"
        )
    if what == "decode":
        return None
    channels, height, width = model.input_shape
    # What comes after the first says nothing about images; what is not run, neither.
    name, layer = _first_layer(model, x)
    if isinstance(layer, _CONVOLUTIONS) and layer.in_channels != channels:
        return (
            f"its layer '{name}' takes {layer.in_channels} channels and these images have "
            f"{channels}; choose a data set of such images, or pass input_shape="
            f"({layer.in_channels}, {height}, {width}) or an encode= that converts"
        )
    if isinstance(layer, nn.Linear) and layer.in_features != channels * height * width:
        return (
            f"its layer '{name}' takes {layer.in_features} numbers and an image of shape "
            f"{model.input_shape} has {channels * height * width}; choose a data set of the "
            "images it was trained on, or check input_shape and encode="
        )
    return None


def _first_layer(model: GenerativeModel, x: Tensor) -> tuple[str, nn.Module | None]:
    """The first layer with weights that encode runs, though it may fail."""
    run: list[tuple[str, nn.Module]] = []
    with ExitStack() as stack:
        for name, layer in model.module.named_modules():
            if isinstance(layer, (*_CONVOLUTIONS, nn.Linear)):

                def seen(layer: nn.Module, _: object, name: str = name) -> None:
                    run.append((name, layer))

                stack.callback(layer.register_forward_pre_hook(seen).remove)
        with suppress(Exception), torch.no_grad():  # other people's code
            model.encode(x)
    return run[0] if run else ("", None)


def _check_posterior(posterior: Posterior, count: int) -> None:
    for part in posterior.parts:
        tensors = part.tensors()
        for tensor in tensors:
            batched = tensor.ndim >= 2 and len(tensor) == count
            if not batched and not is_ours(part):
                raise GenrobustError(
                    f"{titled(part)} holds {describe(tensor)} for {count} images; let it hold "
                    "(B, n), batch first, such as (B, 1) of one number an image"
                )
            # Those of others may hold tensors of several shapes, as a weight beside a mean.
            if is_ours(part) and not (batched and tensor.shape == tensors[0].shape):
                raise GenrobustError(
                    f"the encoder gave {describe(tensor)} for {count} images; it must give one "
                    "code an image, batch first, and a mean and a log-variance of one shape"
                )
            if not tensor.isfinite().all():
                raise GenrobustError(
                    "the encoder gave NaN or infinite values on images in [0, 1]; check the "
                    "weights and value_range"
                )
        if isinstance(part, Gaussian) and torch.equal(part.mean, part.logvar):
            raise GenrobustError(
                "the encoder's mean and log-variance are the same numbers, as of (z, mean) with "
                "nothing drawn; pass encode=, a function that returns (mean, logvar), or the code "
                "alone"
            )


def _check_image(what: str, image: Tensor, clamp: bool) -> None:
    who = {"decode": "the decoder", "deploy": "deploy="}[what]
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


def _from_inside(model: GenerativeModel, x: Tensor, image: Tensor) -> GenerativeModel:
    """The model, which takes gradients inside the box where it gives none at its edge, and passes
    them straight through parts of it where these cut them."""
    try:
        return with_edges(_straightened(model, x))
    except (RuntimeError, GenrobustError):
        _check_gradient(model, x, image)  # says it better, if it is for want of a gradient
        raise


def _straightened(model: GenerativeModel, x: Tensor) -> GenerativeModel:
    """The model, of whose parts those give a gradient without which none reaches the image."""
    if model.straight or _gradient(model, x)[0] is not None:
        return model
    x = x.clone().requires_grad_()
    with suppress(RuntimeError, GenrobustError), torch.enable_grad():  # told by its check
        parts = cut_in(model.module, lambda: model.surrogate(x, "softmax"))
        straight = replace(model, straight=tuple(parts))
        if parts and _gradient(straight, x)[0] is not None:
            return straight
    return model


def _gradient(model: GenerativeModel, x: Tensor) -> tuple[Tensor | None, Exception | None]:
    """That of the squared reconstruction, if there is one that is not 0; else what went wrong."""
    x = x.detach().clone().requires_grad_()
    problem = None
    for kind in ("softmax", "straight-through"):  # of a code far off, the softmax is one-hot
        gradient = None
        try:
            image = model.surrogate(x, kind)
            if image.requires_grad:
                with Call(model.name, "gradient", x):
                    (gradient,) = torch.autograd.grad(image.square().sum(), x, allow_unused=True)
        except (RuntimeError, GenrobustError) as raised:  # such as numpy() of one with a gradient
            problem = raised
        if gradient is not None and gradient.any():
            return gradient, None
    return None, problem


def _what_cuts(model: GenerativeModel, x: Tensor, image: Tensor) -> str:
    """What is seen of reconstructions from which no gradient reaches an image, and what to do."""
    odd = "images that it finds odd, as those of this check may be"
    apart = "pass encode= and decode= without that and the path with it as deploy="
    cuts = "torch.no_grad, detach, numpy, rounding or .data"
    if len(x) > 1 and (image - image[0]).abs().max() <= TOLERANCE:
        found = (
            ", which is one picture for all images; train the model anew or load its weights, "
            f"where its code has collapsed; where it gives that picture for {odd}, {apart}; else"
        )
    elif _gradient(model, image.clamp(0, 1))[0] is not None:
        return (
            ", and one does where that is the image, as of a model that gives other pictures in "
            f"place of {odd}; {apart}"
        )
    elif _stands_still(model, x, image):
        found, cuts = (
            f", which stands still where each pixel moves by {NUDGE:g};",
            "rounding, or what puts a picture that it knows in place of the image,",
        )
    else:
        found = ";"
    return (
        f"{found} remove {cuts} from the path through encode and decode, or pass encode= and "
        "decode= without them, and the path with them as deploy=; what has none to give, such as a "
        "service, takes differentiable=False"
    )


@torch.no_grad()
def _stands_still(model: GenerativeModel, x: Tensor, image: Tensor) -> bool:
    """Whether a change of all pixels that is hardly seen changes no reconstruction at all."""
    moved = model.surrogate((x + NUDGE).where(x < 0.5, x - NUDGE), "deployed")
    return bool((moved - image).abs().max() <= TOLERANCE)


def _check_gradient(model: GenerativeModel, x: Tensor, image: Tensor) -> float:
    gradient, problem = _gradient(model, x)
    if gradient is None:
        reason = f" ({str(problem).splitlines()[0]})" if str(problem or "") else ""
        raise GenrobustError(
            f"no gradient reaches the image from its reconstruction{reason}"
            f"{_what_cuts(model, x, image)}"
        ) from problem
    if not gradient.isfinite().all():
        raise GenrobustError(
            "the gradient of the reconstruction with respect to the image is NaN or infinite; "
            "look for log(0), sqrt(0) or a division by 0 in encode and decode"
        )
    return float(gradient.flatten(1).norm(dim=1).mean())

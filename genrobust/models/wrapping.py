"""wrap(): any torch module with an encoder and a decoder, as a GenerativeModel."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from genrobust.arguments import text, truth, whole
from genrobust.errors import GenrobustError, GenrobustWarning, one_line
from genrobust.models.checks.behind import warn_of_halves_behind
from genrobust.models.checks.check import check_model
from genrobust.models.checks.fidelity import IMAGES, fidelity, say
from genrobust.models.inputs import probe_images
from genrobust.models.model import FORWARD_ALONE, GenerativeModel, images_at_once
from genrobust.models.quantiser import by_tokens
from genrobust.models.reading.conditional import Conditional
from genrobust.models.reading.kept import Attributes, Held
from genrobust.models.reading.modules import (
    as_module,
    freeze,
    own_shape,
    part_called,
    part_of_halves,
    qualified_name,
    shape_of,
    unwrapped,
)
from genrobust.models.reading.typed import typed_of
from genrobust.models.reading.within import Functions, Within
from genrobust.modes import plain_modes
from genrobust.posterior import Categorical
from genrobust.projects import plain_name

#: How many channels images have, at the end of the shape too where a model has them last.
COLOURS = (1, 3, 4)


@plain_modes()
def wrap(
    module: nn.Module | tuple[nn.Module, nn.Module],
    *,
    encode: Callable[[Tensor], Any] | None = None,
    decode: Callable[[Tensor], Any] | None = None,
    input_shape: tuple[int, int, int] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    clamp: bool = False,
    deploy: Callable[[Tensor], Any] | None = None,
    labels: Callable[[Tensor], Tensor | Categorical] | None = None,
    draws: int = 1,
    differentiable: bool = True,
    max_batch: int | None = None,
    name: str | None = None,
) -> GenerativeModel:
    """Make a module attackable: put it in eval mode, freeze it, find its posterior, check it.

    What ``encode`` (or ``encoder``) returns decides the posterior: (mean, log-variance) as tuple
    or list, also with a sample that is drawn anew each time, or is the mean, beside them; a
    dictionary or an object with ``mean`` or ``mu`` beside ``logvar``, ``log_var`` or ``std``;
    joint-vae's ``{'cont': [mean, logvar], 'disc': [probabilities]}``; diffusers' ``latent_dist``
    and ``latents``; pythae's ``ModelOutput``; a ``torch.distributions`` object, as a Gaussian or
    categories where it is one, else as the point that is its mean; a tensor (a plain
    autoencoder's point); or a :class:`genrobust.Posterior`, one of its parts such as
    :class:`genrobust.Codebook`, or a list of these, the layers of a hierarchy, whose codes
    ``decode`` then takes as a list. Where a vector quantiser with a table of codes lies between
    encoder and decoder, in ``forward`` or in ``encode``, the posterior is that
    :class:`genrobust.Codebook`. ``decode`` (or ``decoder``) returns
    images as a tensor, ``sample``, ``reconstruction`` or a distribution, whose mean is taken. A
    module in half or double precision is given its own, and gives float32 back; one that takes
    flat rows is given those. Of a module that has a ``forward`` alone nothing is known but its
    images: attacks on the output and on judges are left, and the record says so.

    Args:
        module: the trained module, or the pair (encoder, decoder). It is put in eval mode and its
            weights are frozen, as ``encode`` and its like may reach it by ways that a copy would
            not have; where the check fails, it is left as it was. :func:`genrobust.bench` gives it
            back as it was in any case.
        encode: images in the module's own range to any of the forms above; default
            ``module.encode``, else ``module.encoder``. With ``torch.nn.Identity()`` the module is
            read by its ``forward`` alone, such as one whose decoder takes more than a code.
        decode: codes (B, latents), or the posterior mean's own shape, to images; default
            ``module.decode``, else ``module.decoder``.
        input_shape: (channels, height, width); default the module's ``input_shape`` or
            ``img_size``, where that is all three.
        value_range: lowest and highest pixel the module works with, such as (-1, 1).
        clamp: clip reconstructions to that range, as the deployment does. Attacks still
            differentiate through the unclipped image.
        deploy: images in the module's own range to the reconstructions that the deployment really
            gives, where that is not ``decode`` of the posterior's mode: with a quantised input, a
            purified one, a sampled code. It is what is scored. Attacks differentiate through
            ``encode`` and ``decode`` in its place (Athalye, Carlini & Wagner 2018, BPDA).
        labels: for a conditional model, images in the module's own range to the label that its
            ``encode`` and ``decode`` take as their second argument, as a class number or a one-hot
            row: ``lambda x: genrobust.Categorical(classifier(x))`` of logits (B, classes). It is a
            part of the code, gradients go through it and attacks switch it. Numbers (B,) or rows
            are taken as they are; what an ``argmax`` gave has no gradient, and is flagged.
        draws: for a deployment that draws random numbers, how often it is drawn for each score;
            attacks then follow the mean over as many draws (expectation over transformation).
        differentiable: False for a model through which no gradient reaches the image, with no
            stand-in for it at hand. Only attacks that need no gradient can do something then, and
            the record is flagged.
        max_batch: the most images that the module takes at once, or that memory has room for;
            larger batches go through it in pieces, with the same results up to rounding.
        name: for tables and folders; default the class's name.

    Returns:
        A model whose images are in [0, 1]. Where it differs from what the module's own ``forward``
        gives, or one of its methods such as ``reconstruct`` where that gives no picture, a warning
        says how, and what to type.

    Raises:
        GenrobustError: no encoder or decoder is found, or a check on a probe batch failed: of
            shapes, range, finiteness, determinism, independence of the batch, gradients.

    Example:
        >>> import torch, genrobust
        >>> class VAE(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.enc, self.dec = torch.nn.Linear(64, 8), torch.nn.Linear(4, 64)
        ...     def encode(self, x):
        ...         return self.enc(x.flatten(1)).chunk(2, 1)
        ...     def decode(self, z):
        ...         return self.dec(z).sigmoid().view(-1, 1, 8, 8)
        >>> model = genrobust.wrap(VAE(), input_shape=(1, 8, 8))
        >>> model.reconstruct(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 1, 8, 8])
    """
    module = as_module(module)
    put_back = _remembered(module)
    try:
        model = adapt(
            module,
            encode=encode,
            decode=decode,
            input_shape=input_shape,
            value_range=value_range,
            clamp=clamp,
            deploy=deploy,
            labels=labels,
            draws=draws,
            differentiable=differentiable,
            max_batch=max_batch,
            name=name,
        )
        model = check_model(model).model
        say(model, fidelity(model, probe_images(model.input_shape, IMAGES), real=False))
    except BaseException:
        put_back()
        raise
    return model


@contextmanager
def left_as_it_was(model: object) -> Iterator[None]:
    """Frozen here, a live module is put back at the end: where it is, what trains, what wants a
    gradient, what its attributes stand for and what its random generators give next.

    Args:
        model: a module, a wrapped one, or something else, such as a name, of which nothing is kept.
    """
    module = model.module if isinstance(model, GenerativeModel) else model
    if not isinstance(module, nn.Module):
        yield
        return
    put_back = _remembered(as_module(module))
    try:
        freeze(module)  # a wrapped one may have been trained since
        yield
    finally:
        put_back()


def _remembered(module: nn.Module) -> Callable[[], None]:
    """What puts a module back to how it is now; the values of its weights are not its business."""
    held, attributes = Held(module, weights=False), Attributes(module)
    wants = [(weight, weight.requires_grad) for weight in module.parameters()]

    def put_back() -> None:
        attributes.put_back()
        held.put_back()
        for weight, wants_gradient in wants:
            weight.requires_grad_(wants_gradient)

    return put_back


def adapt(
    module: nn.Module | tuple[nn.Module, nn.Module],
    *,
    encode: Callable[[Tensor], Any] | None = None,
    decode: Callable[[Tensor], Any] | None = None,
    input_shape: tuple[int, int, int] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    clamp: bool = False,
    deploy: Callable[[Tensor], Any] | None = None,
    labels: Callable[[Tensor], Tensor | Categorical] | None = None,
    draws: int = 1,
    differentiable: bool = True,
    max_batch: int | None = None,
    name: str | None = None,
) -> GenerativeModel:
    """:func:`wrap` without the checks."""
    module = as_module(module)
    _require_functions(encode=encode, decode=decode, deploy=deploy)
    own_range = _ordered(value_range)
    clamp, differentiable = truth("clamp", clamp), truth("differentiable", differentiable)
    max_batch = images_at_once(max_batch)
    draws = _often(draws)
    part = part_of_halves(module, encode, decode)
    network = part_called(module, part)
    if part:
        encode = decode = None  # it is read as if it were given itself
    shape = shape_of(module if own_shape(module) else network, input_shape)
    if shape[0] == shape[1] > max(COLOURS) and shape[2] in COLOURS:
        _warn_of_last_channels(shape)
    functions = Functions.of(network, encode, decode, deploy)
    typed = typed_of(module, encode, decode, labels, part)
    conditional = Conditional(functions.encode, functions.decode, labels) if labels else None
    freeze(module)
    kind = type(unwrapped(module))
    chosen = text("name", name, "mine") if name else kind.__name__
    spec: dict[str, Any] = {
        "class": f"{plain_name(kind.__module__)}.{kind.__qualname__}".removeprefix("__main__."),
        "encode": qualified_name(functions.encode),
        "decode": qualified_name(functions.decode),
        "value_range": [*own_range],
    }
    if functions.alone:
        spec[FORWARD_ALONE] = True
    if labels is not None:
        spec["labels"] = qualified_name(labels)
    if part:
        spec["part"] = part  # another one of the same class is another model
    if functions.deploy is not None:
        spec["deploy"] = qualified_name(functions.deploy)
    within = Within(chosen, module, functions, conditional, shape, own_range, typed, max_batch)
    model = GenerativeModel(
        chosen,
        module,
        shape,
        within.encode,
        within.decode,
        clamp=clamp,
        deploy=None if functions.deploy is None else within.deploy,
        draws=draws,
        differentiable=differentiable,
        max_batch=max_batch,
        condition=conditional.told if conditional else None,
        spec=spec,
        typed=typed,
        part=part,
    )
    alike: dict[str, Any] = {
        "input_shape": input_shape,
        "value_range": own_range,
        "clamp": clamp,
        "draws": draws,
        "differentiable": differentiable,
        "max_batch": max_batch,
        "name": name,
    }
    if functions.alone and encode is None:
        warn_of_halves_behind(model, partial(adapt, module, **alike))
    if functions.alone or any(given is not None for given in (encode, decode, deploy, labels)):
        return model
    return by_tokens(model, partial(adapt, module, **alike))


def _require_functions(**given: object) -> None:
    for what, function in given.items():
        if function is not None and not callable(function):
            raise GenrobustError(f"{what} is {function!r}; give a function of a batch")


def _warn_of_last_channels(shape: tuple[int, int, int]) -> None:
    """A square with its channels last would be many channels of a thin strip."""
    height, width, channels = shape
    warnings.warn(
        f"input_shape {shape} is {height} channels of {width} x {channels} pixels; if the channels "
        f"are last, pass input_shape={(channels, height, width)}, encode=lambda x: "
        "module.encode(x.permute(0, 2, 3, 1)) and decode=lambda z: module.decode(z).permute(0, 3, "
        "1, 2)",
        GenrobustWarning,
        stacklevel=3,
    )


def _often(draws: int) -> int:
    if whole("draws", draws, 16) < 1:
        raise GenrobustError(f"draws is {draws}; it is 1, or more for a random deployment, as 16")
    return int(draws)


def _ordered(value_range: tuple[float, float]) -> tuple[float, float]:
    """The lowest and the highest pixel."""
    try:
        low, high = map(_plain, value_range)
        ordered = -math.inf < low < high < math.inf
    except (TypeError, ValueError, RuntimeError):  # of several numbers for one
        ordered = False
    if not ordered:
        raise GenrobustError(
            "value_range is (lowest, highest) pixel, such as (-1, 1), not "
            f"{one_line(str(value_range))}"
        )
    return low, high


def _plain(number: Any) -> Any:
    """As Python has it, of an array or a tensor too, which no fingerprint or record can hold."""
    return number.item() if hasattr(number, "item") else number

"""What a model is, beyond its weights: results belong to it and to no other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust import files
from genrobust.models.inputs import probe_images
from genrobust.models.model import GenerativeModel
from genrobust.seeding import generator

#: How many images of each kind a model is tried on.
IMAGES = 2

#: How far rough images are from theirs, in each pixel: detectors and clamps act on these.
ROUGH = (0.1, 0.3)


@dataclass(frozen=True)
class Identity:
    """What tells a model from another.

    Args:
        fingerprint: of its numbers, see :meth:`genrobust.models.GenerativeModel.fingerprint`.
        own: of its numbers and its code, on whatever machine it is looked at.
        whole: of these and of what it gives for some images, to the last bit.
    """

    fingerprint: str
    own: str
    whole: str


def identity(model: GenerativeModel, images: Tensor) -> Identity:
    """Hashes of all that a result may depend on: numbers, code and behaviour.

    They cover the fingerprint; the code and the plain values that the model's functions reach (see
    :func:`genrobust.reach.reach`); and, bit for bit and on one thread, what the model gives
    for a few images, clean and rough: the encoder's distributions, the deployed reconstruction and
    the gradient of the surrogate one. What it gives elsewhere than on the CPU is left out, as it
    need not be the same twice.

    Args:
        model: where it is.
        images: (N, C, H, W) in [0, 1]; the first two are used, two synthetic ones, and the first
            two under noise.

    Example:
        >>> from genrobust import load_images, load_model
        >>> images = load_images("digits", "test").take(range(2))
        >>> one = identity(load_model("vae"), images)
        >>> one == identity(load_model("vae"), images)
        True
        >>> one.own == identity(load_model("vae-wd"), images).own
        False
    """
    fingerprint = model.fingerprint()
    own = hashlib.sha256(f"{fingerprint}{model.reach().code}".encode()).hexdigest()
    whole = "".join([own, *_behaviour(model, images[:IMAGES])])
    return Identity(fingerprint, own, hashlib.sha256(whole.encode()).hexdigest())


def _behaviour(model: GenerativeModel, images: Tensor) -> Iterator[str]:
    probes = probe_images(model.input_shape, IMAGES)
    fits = images.shape[1:] == probes.shape[1:]
    clean = torch.cat([probes, images]) if fits else probes
    for x in (clean, _rough(images if fits else probes)):
        yield from _seen(model, x.to(model.device))


def _rough(images: Tensor) -> Tensor:
    """The images under signs of noise, the same for the same shape."""
    draw = torch.rand(images.shape, generator=generator("identity", "rough"))
    return torch.cat([(images + far * (draw - 0.5).sign()).clamp(0, 1) for far in ROUGH])


def _seen(model: GenerativeModel, x: Tensor) -> Iterator[str]:
    views: list[Callable[[GenerativeModel, Tensor], list[Tensor]]] = [_encoded, _reconstructed]
    if model.differentiable:
        views.append(_gradient)
    for view in views:
        with _one_thread(), model.keyed("identity"):
            try:
                seen = view(model, x)
            except Exception as problem:  # the check refuses such a model, in words
                yield type(problem).__name__
                continue
        yield "|".join(files.sha256_of_tensors({"": t}) for t in seen if t.device.type == "cpu")


def _encoded(model: GenerativeModel, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return model.encode(x).tensors()


def _reconstructed(model: GenerativeModel, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [model.reconstruct(x)]


def _gradient(model: GenerativeModel, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    return [*torch.autograd.grad(model.surrogate(x, "softmax").square().sum(), x)]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums may depend on how many threads share them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

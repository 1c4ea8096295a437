"""Randomness by key: the same key gives the same stream, whatever ran before or beside it."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

#: Held in threads by whoever seeds the process's generators for code that draws from them.
GENERATORS = threading.RLock()


def seed_of(*key: object) -> int:
    """A 63-bit seed from a key of numbers and strings."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*key: object) -> torch.Generator:
    """A generator on the CPU, seeded by the key.

    >>> torch.equal(torch.rand(2, generator=generator(0, "a")),
    ...             torch.rand(2, generator=generator(0, "a")))
    True
    """
    return torch.Generator().manual_seed(seed_of(*key))


def per_sample(
    draw: Callable[[torch.Generator], Tensor], sample_ids: Sequence[int], *key: object
) -> Tensor:
    """Stack one draw per sample, keyed by (key, sample id): batch positions do not matter."""
    return torch.stack([draw(generator(*key, int(i))) for i in sample_ids])


def noise_like(
    x: Tensor,
    sample_ids: Sequence[int],
    *key: object,
    draw: Callable[..., Tensor] = torch.rand,
) -> Tensor:
    """Noise of the shape of each image (B, ...), keyed by (key, sample id); default in [0, 1).

    >>> images = torch.zeros(2, 1, 4, 4)
    >>> both, second = noise_like(images, [7, 8], "a"), noise_like(images[1:], [8], "a")
    >>> both.shape, torch.equal(both[1:], second)
    (torch.Size([2, 1, 4, 4]), True)
    """
    shape = x.shape[1:]
    return per_sample(lambda source: draw(shape, generator=source), sample_ids, *key).to(x)


@contextmanager
def seeded(device: torch.device, *key: object) -> Iterator[None]:
    """Key the generators that code of other people draws from, and put them back.

    They are torch's own, numpy's global one and Python's ``random``, and the process's: whoever
    uses this must be alone. Generators that the code makes itself are its own affair.

    >>> with seeded(torch.device("cpu"), "a"):
    ...     first = torch.rand(2), np.random.random(2), random.random()
    >>> with seeded(torch.device("cpu"), "a"):
    ...     again = torch.rand(2), np.random.random(2), random.random()
    >>> torch.equal(first[0], again[0]), (first[1] == again[1]).all(), first[2] == again[2]
    (True, np.True_, True)
    """
    seed = seed_of(*key)
    with generators_kept(device):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Put the process's generators back as they were, whatever is drawn or seeded within."""
    devices = [device] if device.type == "cuda" else []
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def states(device: torch.device) -> tuple[object, ...]:
    """Where the process's generators are: another place after any draw from one of them.

    >>> before = states(torch.device("cpu"))
    >>> states(torch.device("cpu")) == before
    True
    >>> _ = random.random()
    >>> states(torch.device("cpu")) == before
    False
    """
    of_torch = [torch.get_rng_state()]
    if device.type == "cuda":
        of_torch.append(torch.cuda.get_rng_state(device))
    _, key, *place = np.random.get_state(legacy=True)
    numbers = [state.numpy().tobytes() for state in of_torch]
    return (*numbers, np.asarray(key).tobytes(), *place, random.getstate())

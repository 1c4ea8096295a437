"""Randomness by key: the same key gives the same stream, whatever ran before or beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


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


@contextmanager
def seeded(device: torch.device, *key: object) -> Iterator[None]:
    """Key torch's own generators, which models of other people draw from, and put them back.

    They are the process's: whoever uses this must be alone.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed_of(*key))
        yield

"""Attacks of others: the same whatever ran before or beside them, or it is said that they are not.

Ours key every draw. Others may draw from the process's generators, which threads share and which go
on from one call to the next, and may keep something themselves.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import torch

from genrobust.attacks.base import Attack, AttackResult
from genrobust.batch import Batch
from genrobust.errors import GenrobustWarning
from genrobust.models.model import GenerativeModel
from genrobust.plugins import is_ours
from genrobust.seeding import GENERATORS, seeded, states
from genrobust.threat import ThreatModel

#: So many sources are attacked twice over.
FEW = 2


class _Turns:
    """Many at once who leave the generators alone, or one who draws from them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._many, self._waiting, self._alone = 0, 0, False

    @contextmanager
    def many(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not (self._alone or self._waiting))
            self._many += 1
        try:
            yield
        finally:
            with self._changed:
                self._many -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not (self._alone or self._many))
            self._waiting, self._alone = self._waiting - 1, True
        try:
            with GENERATORS:
                yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


_TURNS = _Turns()
#: Classes that were seen to draw from the process's generators, and those that were asked twice.
_DRAW: WeakSet[type[Attack]] = WeakSet()
_ASKED: WeakSet[type[Attack]] = WeakSet()


def repeatable(
    attack: Attack, model: GenerativeModel, batch: Batch, threat: ThreatModel
) -> AttackResult:
    """What an attack finds; one of others is first asked twice about a few of the sources.

    One that draws from the process's generators is called alone, with these keyed by the seed and
    all sample ids: what it gives can be had again, but depends on the batch.

    Raises:
        GenrobustError: as by calling it.

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import make_attack
        >>> model, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> batch, threat = Batch(x, (0, 1)), ThreatModel("linf", 0.1)
        >>> repeatable(make_attack("noise"), model, batch, threat).x_adv.shape
        torch.Size([2, 1, 32, 32])
    """
    if is_ours(attack) and is_ours(getattr(attack, "objective", attack)):
        return attack(model, batch, threat)
    kind = type(attack)
    if kind not in _ASKED and batch.x.device.type == "cpu":  # others add up in any order
        _ASKED.add(kind)
        few = batch[torch.arange(len(batch)) < FEW]
        first, again = (_called(attack, model, few, threat).x_adv for _ in range(2))
        if not torch.equal(first, again):
            warnings.warn(
                f"the attack '{attack.name}' gave other images when it was asked again about the "
                "same sources, so that what it finds depends on what ran before, and nobody can "
                "compute the record again; let it keep nothing from one call to the next, and draw "
                "with genrobust.seeding.per_sample",
                GenrobustWarning,
                stacklevel=2,
            )
    return _called(attack, model, batch, threat)


def _called(
    attack: Attack, model: GenerativeModel, batch: Batch, threat: ThreatModel
) -> AttackResult:
    kind, device = type(attack), batch.x.device
    if kind not in _DRAW:
        with _TURNS.many():
            before = states(device)
            found = attack(model, batch, threat)
            if states(device) == before:
                return found
        _DRAW.add(kind)
    key = ("attack", attack.name, batch.seed, batch.sample_ids, threat.eps)
    with _TURNS.alone(), seeded(device, *key):
        return attack(model, batch, threat)

"""Foolbox: every attack of it that needs no images but those it attacks."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor

from genrobust.attacks.bridges.base import Bridge, Composed, fields_of
from genrobust.batch import Batch, Goal
from genrobust.errors import GenrobustError, unknown_name
from genrobust.norms import NORMS
from genrobust.objectives.classifier import aim
from genrobust.threat import ThreatModel

#: The norms that foolbox takes as a setting, as it calls them too.
_NORMS = ("linf", "l2")

#: Attacks with another goal than both, by a class they derive from.
_GOALS: dict[str, tuple[Goal, ...]] = {
    "L1FastGradientAttack": ("untargeted",),
    "L2FastGradientAttack": ("untargeted",),
    "LinfFastGradientAttack": ("untargeted",),
    "DeepFoolAttack": ("untargeted",),
    "NewtonFoolAttack": ("untargeted",),
    "VirtualAdversarialAttack": ("untargeted",),
    "GenAttack": ("targeted",),
}

#: Attacks that do not run here, and why.
_REFUSED = {
    "BinarizationRefinementAttack": "refines what another attack found",
    "DatasetAttack": "gives back images of a data set instead of changing the source",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoolboxBridge(Bridge):
    """An attack of foolbox (Rauber et al. 2020) on the model followed by the attacker's judge."""

    paper = "foolbox; Rauber, Zimmermann, Bethge & Brendel 2020"
    libraries = ("foolbox",)
    #: Whether it runs inside a given radius of the threat model's norm.
    in_ball: ClassVar[bool]

    def generate(self, composed: Composed, batch: Batch, threat: ThreatModel) -> Tensor:
        import foolbox

        model = foolbox.PyTorchModel(composed, bounds=(0, 1), device=batch.x.device)
        attack = self._attack(foolbox, threat)
        eps = threat.eps if self.in_ball and threat.eps < float("inf") else None

        def run(chosen: slice) -> Tensor:
            labels = aim(batch)[0][chosen]
            criterion = (
                foolbox.criteria.TargetedMisclassification(labels)
                if batch.targeted
                else foolbox.criteria.Misclassification(labels)
            )
            found: Tensor = attack(model, batch.x[chosen], criterion, epsilons=eps)[1]
            return found

        try:
            return run(slice(None))
        except (AssertionError, ValueError) as problem:
            if not _no_start(problem):
                raise
        return torch.cat([self._one(run, batch, i) for i in range(len(batch))])

    @staticmethod
    def _one(run: Any, batch: Batch, i: int) -> Tensor:
        """The result on one sample; its source where there is no point to start from."""
        try:
            found: Tensor = run(slice(i, i + 1))
        except (AssertionError, ValueError) as problem:
            if not _no_start(problem):
                raise
            found = batch.x[i : i + 1]
        return found

    def _attack(self, foolbox: Any, threat: ThreatModel) -> Any:
        given = self.library_settings()
        parameters = inspect.signature(self.wrapped).parameters
        if "distance" in parameters:
            given["distance"] = getattr(foolbox.distances, threat.norm.name)
        if "constraint" in parameters:
            given["constraint"] = threat.norm.name
        return self.wrapped(**given)


def bridge(name: str) -> type[FoolboxBridge]:
    """The bridge to foolbox's attack of that name.

    Raises:
        GenrobustError: foolbox has no such attack, or it cannot run in a bridge.

    Example:
        >>> bridge("LinfPGD")(steps=20).norms
        ('linf',)
    """
    return _bridge(name, *NORMS.names())


@functools.cache
def _bridge(name: str, *norms: str) -> type[FoolboxBridge]:
    """The bridge where these norms are known: a plugin's one opens attacks that had none."""
    known = _known()
    if name not in known:
        raise unknown_name("attack", f"foolbox:{name}", [f"foolbox:{one}" for one in names()])
    wrapped = known[name]
    reason = _refusal(name, wrapped)
    if reason is not None:
        raise GenrobustError(f"the attack 'foolbox:{name}' {reason}")
    fields, required = fields_of(wrapped, hidden=("distance", "constraint"))
    norm = _norm(wrapped)
    namespace = {
        "__doc__": f"{name} of foolbox; see its documentation for the settings.",
        "__module__": __name__,
        "name": f"foolbox:{name}",
        "goals": _goals(wrapped),
        "norms": (norm,) if norm in norms else _NORMS,
        "needs_ball": _is(wrapped, "FixedEpsilonAttack"),
        "in_ball": norm in norms or _takes_norm(wrapped),
        "wrapped": wrapped,
        "required": required,
    }
    return dataclasses.make_dataclass(
        f"Foolbox{name}", fields, bases=(FoolboxBridge,), namespace=namespace, frozen=True,
        kw_only=True,
    )  # fmt: skip


def names() -> list[str]:
    """The names of foolbox's attacks that run through the bridge, sorted; aliases included.

    Example:
        >>> "L2CarliniWagnerAttack" in names()
        True
    """
    return [name for name, wrapped in _known().items() if _refusal(name, wrapped) is None]


@functools.cache
def _known() -> dict[str, type]:
    import foolbox

    return {
        name: kind
        for name, kind in sorted(vars(foolbox.attacks).items())
        if inspect.isclass(kind)
        and issubclass(kind, foolbox.attacks.base.Attack)
        and not inspect.isabstract(kind)
    }


def _refusal(name: str, wrapped: type) -> str | None:
    """Why the attack does not run here, to follow its name; None where it does."""
    if name in _REFUSED:
        return f"{_REFUSED[name]}; choose another, such as 'foolbox:LinfPGD'"
    if _is(wrapped, "FixedEpsilonAttack") and _norm(wrapped) not in (None, *NORMS.names()):
        return (
            f"takes a radius in {_norm(wrapped)}; genrobust measures in "
            f"{' and '.join(NORMS.names())}: choose its like there, such as 'foolbox:L2PGD'"
        )
    return None


def _no_start(problem: Exception) -> bool:
    """Whether an attack on decisions says that a sample of the batch has no point to start from."""
    return isinstance(problem, AssertionError) or "init_attack failed" in str(problem)


def _norm(wrapped: type) -> str | None:
    """The norm that the class declares; None where it has none or takes it as a setting."""
    if _takes_norm(wrapped):
        return None
    distance = getattr(wrapped, "distance", None)
    if isinstance(distance, property):  # some find it only when made, and then without settings
        try:
            distance = wrapped().distance
        except (AttributeError, ValueError):
            return None
    return None if distance is None else f"l{distance.p:g}"


def _takes_norm(wrapped: type) -> bool:
    return not {"distance", "constraint"}.isdisjoint(inspect.signature(wrapped).parameters)


def _goals(wrapped: type) -> tuple[Goal, ...]:
    for base in wrapped.__mro__:
        if base.__name__ in _GOALS:
            return _GOALS[base.__name__]
    return ("targeted", "untargeted")


def _is(wrapped: type, base: str) -> bool:
    return any(kind.__name__ == base for kind in wrapped.__mro__)

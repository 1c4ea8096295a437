"""The Adversarial Robustness Toolbox (ART): its evasion attacks on classifiers of images."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrobust.attacks.bridges.base import Bridge, Composed, fields_of
from genrobust.batch import Batch, Goal
from genrobust.errors import GenrobustError, unknown_name
from genrobust.objectives.classifier import aim
from genrobust.threat import ThreatModel

#: What the bridge itself gives. The classifier is the first parameter, under either name.
_GIVEN = ("estimator", "classifier", "targeted", "norm", "eps", "verbose")

#: The norms that ART takes as a setting, as it calls them.
_ORDERS = {"linf": np.inf, "l2": 2}

#: Attacks that declare a norm by their name or algorithm, not by a setting.
_NORMS = {
    "BasicIterativeMethod": "linf",
    "CarliniL2Method": "l2",
    "CarliniLInfMethod": "linf",
    "VirtualAdversarialMethod": "l2",
}

#: Attacks whose goals do not follow from whether there is a setting ``targeted``.
_GOALS: dict[str, tuple[Goal, ...]] = {
    "AutoAttack": ("untargeted",),  # its own setting tries all classes, not one target
    "SaliencyMapMethod": ("targeted", "untargeted"),
    "SignOPTAttack": ("untargeted",),  # targeted it needs images of the target to start from
    "TargetedUniversalPerturbation": ("targeted",),
}

#: Attacks that take labels for targets, and so get none where there is no target.
_LABELS_ARE_TARGETS = ("SaliencyMapMethod",)

#: Attacks on a classifier that gives probabilities instead of logits.
_ON_PROBABILITIES = ("SimBA", "VirtualAdversarialMethod")

#: Attacks on one image at a time.
_ONE_BY_ONE = ("ShadowAttack",)

#: Attacks whose norm and radius are those of another geometry: both stay settings.
_OWN_BALL = ("Wasserstein",)

#: Beginnings of names, and why those attacks do not run here though ART would let them.
_REFUSED = {
    "AdversarialPatch": "makes a patch for any image instead of changing one",
    "CompositeAdversarialAttack": "changes colours, and needs images with three channels",
    "FeatureAdversaries": "imitates the features of a guide image; use 'latent' or 'sabour'",
    "FrameSaliency": "is on videos",
    "GRAPHITE": "makes a physical sticker, and needs a mask",
    "LaserAttack": "shines a physical laser, and needs a generator of its pictures",
    "LowProFool": "is on tables, and needs the importance of columns",
    "MalwareGD": "is on programs",
    "OverTheAirFlickering": "is on videos",
    "OverloadPyTorch": "is on object detectors",
    "SNAL": "is on object detectors",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ARTBridge(Bridge):
    """An attack of ART (Nicolae et al. 2018) on the model followed by the attacker's judge.

    Where ``eps_step`` is None, it is the same part of the radius as ART's default is of ART's
    default radius.
    """

    paper = "ART; Nicolae et al. 2018"
    libraries = ("art",)

    def generate(self, composed: Composed, batch: Batch, threat: ThreatModel) -> Tensor:
        from art.estimators.classification import PyTorchClassifier

        assert batch.judge is not None, "attacks check that they have a judge"
        with torch.no_grad():
            classes = batch.judge.logits(batch.x[:1]).shape[1]
        name = self.wrapped.__name__
        classifier = PyTorchClassifier(
            nn.Sequential(composed, nn.Softmax(1)) if name in _ON_PROBABILITIES else composed,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(batch.x.shape[1:]),
            nb_classes=classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if batch.x.device.type == "cuda" else "cpu",
        )
        attack = self._attack(classifier, batch, threat)
        x = batch.x.cpu().numpy().astype(np.float32)
        labels = np.eye(classes, dtype=np.float32)[aim(batch)[0].cpu().numpy()]
        unlabelled = not batch.targeted and name in _LABELS_ARE_TARGETS
        size = 1 if name in _ONE_BY_ONE else len(x)
        parts = [
            attack.generate(x[i : i + size], None if unlabelled else labels[i : i + size])
            for i in range(0, len(x), size)
        ]
        return torch.from_numpy(np.concatenate(parts))

    def _attack(self, classifier: Any, batch: Batch, threat: ThreatModel) -> Any:
        given = self.library_settings()
        parameters = inspect.signature(self.wrapped).parameters
        mine: dict[str, Any] = {"targeted": batch.targeted, "verbose": False}
        if self.wrapped.__name__ not in _OWN_BALL:
            mine |= {"norm": _ORDERS[threat.norm.name], "eps": threat.eps}
        if "eps_step" in given and given["eps_step"] is None:
            given["eps_step"] = _relative_step(self.wrapped) * threat.eps
        given |= {name: value for name, value in mine.items() if name in parameters}
        return self.wrapped(classifier, **given)


@functools.cache
def bridge(name: str) -> type[ARTBridge]:
    """The bridge to ART's evasion attack of that name.

    Raises:
        GenrobustError: ART has no such attack, or it cannot run in a bridge.

    Example:
        >>> bridge("SquareAttack")(max_iter=50).goals
        ('untargeted',)
    """
    known = _known()
    if name not in known:
        raise unknown_name("attack", f"art:{name}", [f"art:{one}" for one in names()])
    wrapped = known[name]
    reason = _refusal(name, wrapped)
    if reason is not None:
        raise GenrobustError(
            f"the attack 'art:{name}' {reason}; choose another, such as "
            "'art:ProjectedGradientDescent'"
        )
    parameters = inspect.signature(wrapped).parameters
    own_ball = name in _OWN_BALL
    hidden = [one for one in _GIVEN if not (own_ball and one in ("norm", "eps"))]
    fields, required = fields_of(wrapped, hidden)
    if "eps_step" in parameters and "eps" in hidden:
        step = ("eps_step", Any, dataclasses.field(default=None))
        fields = [step if field[0] == "eps_step" else field for field in fields]
    namespace = {
        "__doc__": f"{name} of ART; see its documentation for the settings.",
        "__module__": __name__,
        "name": f"art:{name}",
        "goals": _goals(name, wrapped),
        "norms": (_NORMS[name],) if name in _NORMS else tuple(_ORDERS),
        "needs_ball": "eps" in parameters and not own_ball,
        "wrapped": wrapped,
        "required": required,
    }
    return dataclasses.make_dataclass(
        f"ART{name}", fields, bases=(ARTBridge,), namespace=namespace, frozen=True, kw_only=True
    )


def names() -> list[str]:
    """The names of ART's evasion attacks that run through the bridge, sorted.

    Example:
        >>> "DeepFool" in names()
        True
    """
    return [name for name, wrapped in _known().items() if _refusal(name, wrapped) is None]


@functools.cache
def _known() -> dict[str, type]:
    from art.attacks import evasion
    from art.attacks.attack import EvasionAttack

    return {
        name: kind
        for name, kind in sorted(vars(evasion).items())
        if inspect.isclass(kind) and issubclass(kind, EvasionAttack)
    }


def _refusal(name: str, wrapped: Any) -> str | None:
    """Why the attack does not run here, to follow its name; None where it does."""
    from art.estimators.classification import PyTorchClassifier

    if "TensorFlow" in name and "Malware" not in name:
        return "is written for TensorFlow"
    for beginning, reason in _REFUSED.items():
        if name.startswith(beginning):
            return reason
    missing = [
        kind.__name__
        for kind in wrapped._estimator_requirements
        if not issubclass(PyTorchClassifier, kind)
    ]
    if missing:
        return f"needs an estimator of another kind ({missing[0]}) than a classifier of images"
    return None


def _goals(name: str, wrapped: type) -> tuple[Goal, ...]:
    if name in _GOALS:
        return _GOALS[name]
    if "targeted" in inspect.signature(wrapped).parameters:
        return ("targeted", "untargeted")
    return ("untargeted",)


def _relative_step(wrapped: type) -> float:
    """ART's default step, as a part of its default radius."""
    parameters = inspect.signature(wrapped).parameters
    return float(parameters["eps_step"].default / parameters["eps"].default)

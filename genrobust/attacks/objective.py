"""Any registered objective as an attack: ``objective:NAME``."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any, ClassVar, get_type_hints

from genrobust.attacks.base import Attack
from genrobust.attacks.given import unchanged
from genrobust.attacks.search import restarted_apgd
from genrobust.attacks.settings import require_fields
from genrobust.batch import Context
from genrobust.errors import GenrobustError
from genrobust.objectives.base import OBJECTIVES, Objective
from genrobust.objectives.checked import checked
from genrobust.optimizers import Minimum, Problem
from genrobust.plugins import blamed, is_ours
from genrobust.threat import ThreatModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveAttack(Attack):
    """Lower an objective by adaptive PGD; its fields are settings beside these.

    Args:
        steps: gradients per restart.
        restarts: random starts.

    Reference:
        Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of
        diverse parameter-free attacks": the search alone, APGD.
    """

    paper = "Croce & Hein 2020 (the search)"
    norms = ("any",)
    needs_ball = True
    objective: ClassVar[type[Objective]]

    steps: int = 100
    restarts: int = 1

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        own = {f.name for f in dataclasses.fields(ObjectiveAttack)}
        chosen = {name: value for name, value in self.settings().items() if name not in own}
        name = self.name.partition(":")[2]
        who = f"the objective '{name}'"
        with blamed(who, self.objective):
            objective = checked(self.objective(**chosen), name)
        with nullcontext() if is_ours(self.objective) else unchanged(who, context):
            return restarted_apgd(objective, context, threat, self.steps, self.restarts)


def attack_on(name: str) -> type[ObjectiveAttack]:
    """The attack that lowers the objective of that name.

    An objective may say ``needs_judge`` and ``goals``, as attacks do.

    Raises:
        GenrobustError: no such objective, or one that is made for each model by an attack.

    Example:
        >>> attack_on("output-distance")(steps=20).settings()["surrogate"]
        'softmax'
    """
    kind: Any = OBJECTIVES.get(name)
    known: Any = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    missing = dataclasses.MISSING
    needed = [f.name for f in known if f.default is missing and f.default_factory is missing]
    if (needed and is_ours(kind)) or not dataclasses.is_dataclass(kind):
        raise GenrobustError(
            f"the objective '{name}' is made anew for each model or batch "
            f"({', '.join(needed) or 'it is no dataclass'}), by the attacks that use it; choose "
            "another, such as 'objective:output-distance'"
        )
    require_fields(f"the objective '{name}'", kind)
    with blamed(f"the objective '{name}'", kind):
        hints = get_type_hints(kind, include_extras=True)
    fields: list[Any] = [
        (
            f.name,
            hints[f.name],
            dataclasses.field(default=f.default, default_factory=f.default_factory),
        )
        for f in known
        if f.init
    ]
    namespace: dict[str, Any] = {
        "__doc__": kind.__doc__,
        "__module__": __name__,
        "name": f"objective:{name}",
        "objective": kind,
        "needs_judge": getattr(kind, "needs_judge", False),
        "goals": getattr(kind, "goals", Attack.goals),
    }
    return dataclasses.make_dataclass(
        f"Objective_{name}", fields, bases=(ObjectiveAttack,), namespace=namespace,
        frozen=True, kw_only=True,
    )  # fmt: skip

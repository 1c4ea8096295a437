"""standard: one strong ensemble without parameters, so that nobody has to choose an attack."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from genrobust.attacks.base import Attack, make_attack
from genrobust.attacks.search import BestOf
from genrobust.batch import Context, Goal
from genrobust.optimizers import Minimum, Problem
from genrobust.threat import ThreatModel

#: Members by goal, first what wins most per pass: name and settings. Each runs on what the ones
#: before it left. The judge attacks break most continuous models; where the judge is too sure to
#: have a gradient, the codes of the other classes and the reconstructions of their nearest images
#: have one; on a saturated output every class has to be tried; the categorical models need the
#: warmer softmax and the code switch; the last two are there to unmask a model whose gradients lie.
#: What each adds is in ``benchmarks/ablation.md``.
MEMBERS: dict[Goal, tuple[tuple[str, dict[str, Any]], ...]] = {
    "untargeted": (
        ("noise", {}),
        ("classifier", {}),
        ("classifier", {"temperature": 5.0}),
        ("neighbours", {}),
        ("nearest", {"objective": "output", "search_by": "falling"}),
        ("multi-target", {}),
        ("code-switch", {}),
        ("stand-in", {}),
        ("square", {}),
    ),
    "targeted": (
        ("classifier", {}),
        ("neighbours", {}),
        ("latent", {}),
        ("code-switch", {"categories": 2}),
    ),
}

#: How far below 0 the judge's margin must fall before the ensemble leaves a sample alone.
CONFIDENCE = 4.0


@dataclass(frozen=True)
class Standard(Attack):
    """The ensemble of latent, output and judge attacks in a cascade; the worst case is kept.

    In a suite its members are listed one by one, so that the runner scores each and runs the next
    on the sources that still stand; as an attack of its own it goes by the attacker's judge.

    Reference:
        genrobust, after Croce & Hein 2020 (AutoAttack).
    """

    name = "standard"
    paper = "genrobust"
    norms = ("any",)
    needs_judge = True
    needs_references = True
    needs_ball = True

    def needs(self, goal: Goal) -> tuple[str, ...]:
        """All that its members need: without a part of it they would be another ensemble."""
        whole = [*super().needs(goal), *(n for m in _members(goal) for n in m.needs(goal))]
        return tuple(dict.fromkeys(whole))

    def expected_passes(self) -> int:
        return max(sum(m.expected_passes() for m in _members(goal)) for goal in self.goals)

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        best = BestOf(context, CONFIDENCE)
        for member in _members(context.batch.goal):
            member.refuse_impossible(context.batch, threat)
            if member.applies_to(context.source_posterior):
                best.search(partial(member.search, threat=threat))
        return best.problem, best.minimum


def _members(goal: Goal) -> list[Attack]:
    return [make_attack(name, settings) for name, settings in MEMBERS[goal]]

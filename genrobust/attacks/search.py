"""The search our own attacks share: adaptive PGD from keyed random starts."""

from __future__ import annotations

from genrobust.batch import Context
from genrobust.objectives.base import Objective
from genrobust.optimizers import Minimum, Problem, apgd
from genrobust.threat import ThreatModel


def restarted_apgd(
    objective: Objective,
    context: Context,
    threat: ThreatModel,
    steps: int,
    restarts: int,
    stop_below: float | None = None,
) -> tuple[Problem, Minimum]:
    """Run APGD from ``restarts`` random points of the ball, the best of each sample kept.

    Samples that a restart brought below ``stop_below`` are left out of the next.
    """
    whole = problem = Problem.of(objective, context)
    best = Minimum(whole, context.batch.x)
    for restart in range(restarts):
        batch = problem.context.batch
        start = threat.random_start(batch.x, batch.sample_ids, batch.seed, restart)
        best.merge(apgd(problem, start, threat, steps, stop_below))
        if stop_below is not None:
            problem = problem.narrow(best.loss[problem.index] >= stop_below)
            if not len(problem.index):
                break
    return whole, best

"""From outcomes to what a record and its page show beside scores."""

from __future__ import annotations

from typing import Any

from genrobust.outcomes.outcome import Counts, MinimumNormOutcome, Outcome
from genrobust.records.record import AttackCost
from genrobust.rules.base import RULES
from genrobust.suites.suite import Suite

#: How many sources a report shows where there are no classes.
EXAMPLES = 10

#: What the last two rows of the counts are: work done for the flags.
DIAGNOSTICS = ("short attacks, for the flags", "twice the steps, for a flag")


def attack_costs(suite: Suite, counts: Counts) -> tuple[AttackCost, ...]:
    """What each attack tried, reached and cost."""
    rows: list[tuple[str, dict[str, Any]]] = [(e.label, e.settings) for e in suite.attacks]
    rows += [(label, {}) for label in DIAGNOSTICS]
    return tuple(
        AttackCost(
            label=label,
            settings=settings,
            tried=tuple(counts.tried[a].tolist()),
            succeeded=tuple(counts.succeeded[a].tolist()),
            forwards=int(counts.forwards[a].sum()),
            backwards=int(counts.backwards[a].sum()),
        )
        for a, (label, settings) in enumerate(rows)
    )


def shown(suite: Suite, found: Outcome | MinimumNormOutcome) -> list[int]:
    """Positions of the first eligible source of each class, before anything is known of its attack.

    Without classes of the first few.
    """
    label = found.label
    each = 1 if RULES.get(suite.rule).labelled else EXAMPLES
    chosen = []
    for c in label.unique().tolist():
        positions = (found.eligible & (label == c)).nonzero()[:, 0]
        chosen += positions[:each].tolist()
    return chosen

"""What a suite becomes by the options of a run, and how the run says so."""

from __future__ import annotations

import warnings
from pathlib import PurePath
from typing import NamedTuple

from genrobust.errors import GenrobustWarning
from genrobust.judges.load import judges_at
from genrobust.rules.base import RULES
from genrobust.runner.options import Options
from genrobust.suites.suite import OWN, Suite, load_suite, registered_as


class Adjusted(NamedTuple):
    """A suite as it is run.

    Args:
        suite: by its options.
        deviations: how that departs from the suite.
        settings: the same in short words, which also name the seed, and not that the suite is
            one's own.
    """

    suite: Suite
    deviations: tuple[str, ...]
    settings: tuple[str, ...]


def adjusted(suite: Suite, options: Options) -> Adjusted:
    """The suite by what is not left as it says."""
    with judges_at(options.judge_root):
        return _adjusted(suite, options)


def _adjusted(suite: Suite, options: Options) -> Adjusted:
    used, deviations, settings = suite, [], []
    known = registered_as(suite)
    if known is None or load_suite(known, options.data_root) != suite:
        deviations.append(OWN)
    if options.attacks:
        used = used.with_attacks(list(options.attacks))
        deviations.append(f"attacks {', '.join(options.attacks)} in place of the suite's")
        settings.append(f"attack-{'-'.join(options.attacks)}")
    if options.judge or options.rule is not None:
        used = used.judged_by(options.judge, options.rule)
        deviations.append(_said_of_judges(used))
        settings += [] if options.rule is None else [f"rule-{options.rule}"]
        settings += [f"judge-{PurePath(reference).name}" for reference in options.judge]
    if used.shared_judges:
        names = " and ".join(used.shared_judges)
        deviations.append(f"one judge is attacker and scorer: {names}")
        warnings.warn(
            f"one judge, {names}, is attacker and scorer: attacks may fool it rather than change "
            "what a picture shows; give more with --judge, of which the first attacks and the "
            "others score",
            GenrobustWarning,
            stacklevel=3,
        )
    if options.norm is not None:
        used = used.with_norm(options.norm)
        if used.norm != suite.norm:
            deviations.append(f"the norm {used.norm} in place of the suite's")
            settings.append(f"norm-{used.norm}")
    if options.eps:
        used = used.with_eps(list(options.eps))
        deviations.append(f"eps {', '.join(map(str, used.eps))} in place of the suite's")
    if options.limit is not None:
        used = used.limited(options.limit)
        if len(used.sample_ids) < len(suite.sample_ids):
            deviations.append(f"the first {options.limit} of {len(suite.sample_ids)} samples")
            settings.append(f"limit-{options.limit}")
    if options.eps:
        settings.append(f"eps-{'-'.join(map(str, used.eps))}")
    if options.seed != 0:
        settings.append(f"seed-{options.seed}")
    return Adjusted(used, tuple(deviations), tuple(settings))


def _said_of_judges(suite: Suite) -> str:
    names = [ref.architecture for ref in suite.scoring_judges]
    rule = RULES.get(suite.rule)
    if rule.judges_needed[1] == 1:
        drawing = ", its dropout drawing" if rule.draws else ""
        return f"success by the judge {names[0]} alone{drawing}"
    assert suite.attacker_judge is not None
    attacker = suite.attacker_judge.architecture
    return f"success by the judges {' and '.join(names)}, attacks by {attacker}"

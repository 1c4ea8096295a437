"""What scores must have in common to stand in one column: the terms on which a run was measured.

Which attacks searched, and on how many sources, is not of them: a row says so.
"""

from __future__ import annotations

from typing import NamedTuple

from genrobust.names import short_hash
from genrobust.norms import load_norm
from genrobust.suites.suite import Suite

#: So many radii are named one by one.
NAMED = 6


class Terms(NamedTuple):
    """The pictures, the threat, and whose word counts.

    Args:
        data: sha256 of the pictures.
        norm: of the balls.
        eps: their radii, ascending.
        rule: what success is.
        judges: sha256 of each whose word scores.
    """

    data: str
    norm: str
    eps: tuple[float, ...]
    rule: str
    judges: tuple[str, ...]

    @classmethod
    def of(cls, suite: Suite) -> Terms:
        judges = tuple(judge.sha256 for judge in suite.scoring_judges)
        return cls(suite.data_sha256, suite.norm, suite.eps, suite.rule, judges)

    @property
    def mark(self) -> str:
        """What tells them from other terms in a folder's name."""
        return short_hash(repr(tuple(self)))


def departure(suite: Suite, whole: Suite) -> str:
    """In which terms a suite is not as the whole one of its name, in short words; or nothing.

    Example:
        >>> from genrobust.suites import load_suite
        >>> digits = load_suite("digits")
        >>> departure(digits.with_norm("l2").with_eps([1, 0.5]), digits)
        'L2 at eps 0.5, 1'
        >>> departure(digits.limited(5), digits)
        ''
    """
    own, usual = Terms.of(suite), Terms.of(whole)
    words = []
    if (own.norm, own.eps) != (usual.norm, usual.eps):
        words.append(f"{load_norm(own.norm).label} at eps {_radii(own.eps)}")
    if (own.rule, own.judges) != (usual.rule, usual.judges):
        names = " and ".join(judge.architecture for judge in suite.scoring_judges)
        words.append(f"scored by {own.rule}" + (f" of {names}" if names else ""))
    if own.data != usual.data:
        words.append(f"of other pictures ({own.data[:8]})")
    return "; ".join(words)


def _radii(eps: tuple[float, ...]) -> str:
    if len(eps) <= NAMED:
        return ", ".join(f"{radius:g}" for radius in eps)
    return f"{eps[0]:g} to {eps[-1]:g}, {len(eps)} of them"

"""Claimed scores beside recomputed ones: equal, or on another machine within the interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator

from torch import Tensor

from genrobust.errors import a_few
from genrobust.evidence.checks import RejectionError
from genrobust.records.record import Estimate, PairMatrix, Provenance, Scores

Score = Estimate | PairMatrix | float | None

#: On the machine that made a record, sums of the same numbers in the same order.
EXACT = 1e-6
#: On another one: of means that have no interval, and the share of sources that may differ.
NEAR, DIFFERING = 0.05, 0.01
#: Of means beside 0, such as the similarity of pictures that have nothing in common.
LITTLE = 0.001
#: Likewise: how far the ends of an interval may be off, in its recomputed widths.
ENDS = 0.25
#: Differences that are listed.
LISTED = 3

#: What follows from outcomes alone; the other scores need the images.
FROM_OUTCOMES = (
    *("sources", "eligible", "clean_accuracy", "robust_area", "eps50", "robust_accuracy"),
    *("as_ignore_target", "as_target", "as_ignore_target_macro", "as_target_macro"),
    *("as_target_of_wrong", "as_ignore_target_pairs", "as_target_pairs", "damage"),
)
#: Rates of few sources each, which one source that differs may change by much.
_OF_FEW = (
    *("as_ignore_target_macro", "as_target_macro", "as_target_of_wrong"),
    *("as_ignore_target_pairs", "as_target_pairs"),
)


def other_machine(provenance: Provenance, here: Provenance) -> str | None:
    """What differs between two machines that results to the bit depend on; None if nothing."""
    pairs = {
        "genrobust": (provenance.genrobust, here.genrobust),
        "platform": (provenance.platform, here.platform),
        "processor": (provenance.processor, here.processor),
        "device": (provenance.device, here.device),
        "torch": (provenance.packages.get("torch"), here.packages["torch"]),
    }
    found = [f"{name} {a} there, {b} here" for name, (a, b) in pairs.items() if a != b]
    return "; ".join(found) or None


def require_equal(claimed: Scores, found: Scores, names: tuple[str, ...] | None = None) -> int:
    """Refuse scores that differ by more than rounding.

    Args:
        claimed: of the record.
        found: recomputed.
        names: which scores to compare; None for all.

    Returns:
        How many were compared.
    """
    return _require(claimed, found, _equal, _names(claimed) if names is None else names)


def require_near(claimed: Scores, found: Scores) -> int:
    """Refuse scores that another machine would not have given.

    The claim is free, so that it is the recomputed interval that judges: the claimed value lies
    inside it, and the claimed ends are near its ends. Means without one differ by 5% at most.
    """
    return _require(claimed, found, _near, _names(claimed) - set(_OF_FEW))


def lowest(estimate: Estimate) -> float:
    """The lower end of an interval; where it has no width, that of the rule of three."""
    if estimate.low == estimate.high:
        return estimate.low - 3 / max(estimate.n, 1)
    return estimate.low


def highest(estimate: Estimate) -> float:
    """The upper end, likewise."""
    if estimate.low == estimate.high:
        return estimate.high + 3 / max(estimate.n, 1)
    return estimate.high


def positions(mask: Tensor) -> str:
    """The first few positions at which a mask is true, in words."""
    return a_few(mask.nonzero()[:, 0].tolist(), LISTED)


def _names(claimed: Scores) -> set[str]:
    return {name for name, _, _ in _named(claimed)}


def _require(
    claimed: Scores,
    found: Scores,
    same: Callable[[Score, Score], bool],
    wanted: Collection[str],
) -> int:
    theirs, ours = list(_named(claimed)), list(_named(found))
    if [place[:2] for place in theirs] != [place[:2] for place in ours]:
        raise RejectionError("the record has scores at other radii than its suite")
    compared = [
        (f"{name}{where}", a, b)
        for (name, where, a), (_, _, b) in zip(theirs, ours, strict=True)
        if name in wanted
    ]
    wrong = [(name, a, b) for name, a, b in compared if not same(a, b)]
    if wrong:
        shown = "; ".join(f"{n} is claimed {_shown(a)} and is {_shown(b)}" for n, a, b in wrong[:3])
        more = f"; and {len(wrong) - LISTED} more differ" if len(wrong) > LISTED else ""
        raise RejectionError(shown + more)
    return len(compared)


def _named(scores: Scores) -> Iterator[tuple[str, str, Score]]:
    """Name, radius in words, and value of every score."""
    for name in Scores.model_fields:
        if name not in ("per_eps", "damage"):
            yield name, "", getattr(scores, name)
    for at in scores.per_eps:
        for name in type(at).model_fields:
            yield name, f" at eps {at.eps:g}", getattr(at, name)
    if scores.damage is None:
        return
    yield "damage", ": reconstructed", scores.damage.reconstructed
    yield "damage", ": constant", scores.damage.constant
    pictures = {"clean": scores.damage.clean}
    for reached in scores.damage.per_eps:
        where = f" at eps {reached.eps:g}"
        yield "damage", f": to_target{where}", reached.to_target
        pictures |= {f"attacked{where}": reached.attacked, f"noise{where}": reached.noise}
    for where, picture in pictures.items():
        for name in type(picture).model_fields:
            yield "damage", f": {name}, {where}", getattr(picture, name)


def _equal(a: Score, b: Score) -> bool:
    if isinstance(a, Estimate) and isinstance(b, Estimate):
        pairs = [(a.value, b.value), (a.low, b.low), (a.high, b.high)]
        return a.n == b.n and all(_close(x, y, EXACT) for x, y in pairs)
    if isinstance(a, PairMatrix) and isinstance(b, PairMatrix):
        return a.n == b.n and a.rate == b.rate
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return _close(a, b, EXACT)
    return a is None and b is None


def _near(a: Score, b: Score) -> bool:
    if isinstance(a, Estimate) and isinstance(b, Estimate):
        rounding = EXACT * max(1.0, abs(b.value))
        reach = ENDS * (highest(b) - lowest(b)) + rounding
        near = abs(a.low - b.low) <= reach and abs(a.high - b.high) <= reach
        inside = lowest(b) - rounding <= a.value <= highest(b) + rounding
        return near and inside and abs(a.n - b.n) <= max(1, DIFFERING * b.n)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return _close(a, b, NEAR)
    return a is None and b is None


def _close(a: float, b: float, tolerance: float) -> bool:
    """By a share of the number; beside 0, where that is next to nothing, by a little besides."""
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=min(tolerance, LITTLE))


def _shown(score: Score) -> str:
    if isinstance(score, Estimate):
        return f"{score.value:.6g} [{score.low:.6g}, {score.high:.6g}]"
    if isinstance(score, PairMatrix):
        return "another matrix"
    return "nothing" if score is None else f"{score:.6g}"

"""How often attacks reach their goal, and how that grows with the radius.

Labels are classes 0, 1, ...; a predicted label may be -1 where a panel of judges gave no verdict,
which counts neither as another class nor as the target's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.arguments import classes as as_classes
from genrobust.arguments import flags, real, several, whole
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import require_same_shape, same_shape

#: By how much shares that were rounded elsewhere may contradict each other.
ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class SuccessRate:
    """A success rate, whole and per ordered pair of classes.

    Args:
        hits: successes per (source class, target class), (K, K) int64.
        n: attempts per pair, (K, K) int64.
    """

    hits: Tensor
    n: Tensor

    @property
    def pooled(self) -> float:
        """All successes over all attempts, in [0, 1]; NaN where there was no attempt."""
        attempts = int(self.n.sum())
        return int(self.hits.sum()) / attempts if attempts else math.nan

    @property
    def macro(self) -> float:
        """The unweighted mean over pairs with an attempt, in [0, 1]; NaN where there is none."""
        rates = self.pairs[self.n > 0]
        return float(rates.mean()) if len(rates) else math.nan

    @property
    def pairs(self) -> Tensor:
        """The rate of each pair, (K, K) float64; NaN where there was no attempt."""
        return self.hits.double() / self.n.double()


def success_rate(
    success: Tensor,
    source: Tensor,
    target: Tensor,
    eligible: Tensor | None = None,
    classes: int | None = None,
) -> SuccessRate:
    """Count given successes per pair of classes, for criteria other than those named below.

    Args:
        success: whether the attack on each source succeeded, (B,) bool.
        source: the sources' classes, (B,) int64.
        target: the classes aimed at, (B,) int64.
        eligible: which sources count, (B,) bool; default all.
        classes: how many classes there are; default the largest label plus one.

    Returns:
        The rate over all sources, the mean over pairs, and each pair's.

    Raises:
        GenrobustError: the shapes differ; an eligible source is its own target; a label is
            outside the classes.

    Example:
        >>> rate = success_rate(torch.tensor([True, False, True]), torch.tensor([0, 0, 1]),
        ...                     torch.tensor([1, 1, 0]))
        >>> rate.pooled, rate.macro
        (0.6666666666666666, 0.75)
        >>> rate.pairs
        tensor([[   nan, 0.5000],
                [1.0000,    nan]], dtype=torch.float64)
    """
    success, source, target = (
        flags("success", success),
        as_classes("source", source),
        as_classes("target", target),
    )
    chosen = _chosen(eligible, success)
    require_same_shape(success=success, source=source, target=target, eligible=chosen)
    s, t = source[chosen], target[chosen]
    if bool((s == t).any()):
        raise GenrobustError(
            f"{int((s == t).sum())} eligible sources have their own class as target, which tells "
            "nothing of an attack; give them another target or leave them out of eligible"
        )
    highest = int(torch.cat([s, t]).max()) if len(s) else -1
    K = highest + 1 if classes is None else whole("classes", classes)
    if highest >= K or (len(s) and int(torch.cat([s, t]).min()) < 0):
        raise GenrobustError(f"labels must be from 0 to {K - 1}; check labels and classes")
    pair = s * K + t
    return SuccessRate(
        hits=torch.bincount(pair[success[chosen]], minlength=K * K).view(K, K),
        n=torch.bincount(pair, minlength=K * K).view(K, K),
    )


def as_ignore_target(
    source: Tensor,
    predicted: Tensor,
    target: Tensor,
    eligible: Tensor | None = None,
    classes: int | None = None,
) -> SuccessRate:
    r"""AS_ignore-target: how often the reconstruction shows another class than the source's.

    .. math:: \frac{1}{n} \#\{i : f(\hat x(x'_i)) \ne y_i\}

    Args:
        source: the sources' classes y, (B,) int64.
        predicted: what the judge sees in the adversarial images' reconstructions, (B,) int64;
            -1 for no verdict.
        target: the classes aimed at, (B,) int64: they only say to which pair a source belongs.
        eligible: which sources count, (B,) bool; default all. Sootla 2018 counts those whose clean
            reconstruction shows their class.
        classes: how many classes there are; default the largest label plus one.

    Returns:
        ``.pooled`` (Kos, Fischer & Song 2018), ``.macro`` (Sootla 2018: the mean over pairs),
        ``.pairs`` and ``.n``.

    Raises:
        GenrobustError: as :func:`success_rate`.

    Example:
        >>> y, t = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0])
        >>> as_ignore_target(y, torch.tensor([2, 0, 0, -1]), t).pooled
        0.5
    """
    source, predicted = same_shape(as_classes, source=source, predicted=predicted)
    return success_rate(_wrong(source, predicted), source, target, eligible, classes)


def as_target(
    source: Tensor,
    predicted: Tensor,
    target: Tensor,
    eligible: Tensor | None = None,
    classes: int | None = None,
) -> SuccessRate:
    r"""AS_target: how often the reconstruction shows the target's class.

    .. math:: \frac{1}{n} \#\{i : f(\hat x(x'_i)) = t_i\}

    It is at most AS_ignore-target. Kos, Fischer & Song 2018; Sootla 2018.

    Args:
        source: the sources' classes, (B,) int64.
        predicted: what the judge sees in the adversarial images' reconstructions, (B,) int64;
            -1 for no verdict.
        target: the classes aimed at, t, (B,) int64.
        eligible: which sources count, (B,) bool; default all.
        classes: how many classes there are; default the largest label plus one.

    Returns:
        ``.pooled``, ``.macro``, ``.pairs`` and ``.n``.

    Raises:
        GenrobustError: as :func:`success_rate`.

    Example:
        >>> y, t = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0])
        >>> as_target(y, torch.tensor([2, 0, 0, -1]), t).pooled
        0.25
    """
    predicted, target = same_shape(as_classes, predicted=predicted, target=target)
    return success_rate(predicted == target, source, target, eligible, classes)


def as_target_of_wrong(
    source: Tensor,
    predicted: Tensor,
    target: Tensor,
    eligible: Tensor | None = None,
    classes: int | None = None,
) -> SuccessRate:
    r"""Of the reconstructions that show another class than the source's, how many the target's.

    .. math:: \#\{i : f(\hat x(x'_i)) = t_i\} / \#\{i : f(\hat x(x'_i)) \ne y_i\}

    Kos, Fischer & Song's code calls it the matching rate; in tables it is easily taken for
    AS_target, so it has a name of its own here.

    Args:
        source: the sources' classes y, (B,) int64.
        predicted: what the judge sees in the adversarial images' reconstructions, (B,) int64;
            -1 for no verdict.
        target: the classes aimed at, t, (B,) int64.
        eligible: which sources count, (B,) bool; default all.
        classes: how many classes there are; default the largest label plus one.

    Returns:
        ``.pooled`` (NaN where none is wrong), ``.macro``, ``.pairs`` and ``.n``.

    Raises:
        GenrobustError: as :func:`success_rate`.

    Example:
        >>> y, t = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0])
        >>> as_target_of_wrong(y, torch.tensor([2, 0, 0, -1]), t).pooled
        0.5
    """
    source, predicted, target = same_shape(
        as_classes, source=source, predicted=predicted, target=target
    )
    wrong = _wrong(source, predicted)
    chosen = _chosen(eligible, wrong)
    require_same_shape(source=source, eligible=chosen)
    counted = wrong & chosen
    return success_rate(predicted == target, source, target, counted, classes)


def robust_accuracy(source: Tensor, predicted: Tensor, eligible: Tensor | None = None) -> float:
    r"""The share of all sources that are eligible and that no attack moved to another class.

    .. math:: \frac{1}{B} \#\{i \text{ eligible} : f(\hat x(x'_i)) = y_i \text{ or no verdict}\}

    Sources that are not eligible (the model reconstructs them as something else without any
    attack) count against the model.

    Args:
        source: the sources' classes, (B,) int64.
        predicted: what the judge sees in the worst reconstruction found, (B,) int64; -1 for no
            verdict.
        eligible: whether the clean reconstruction shows the class, (B,) bool; default all.

    Returns:
        A number in [0, 1].

    Raises:
        GenrobustError: the shapes differ, there is no source, or one has no class.

    Example:
        >>> robust_accuracy(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 0, 3]),
        ...                 torch.tensor([True, True, True, False]))
        0.5
    """
    source, predicted = same_shape(as_classes, source=source, predicted=predicted)
    counted = _chosen(eligible, source)
    require_same_shape(source=source, predicted=predicted, eligible=counted)
    if not len(source):
        raise GenrobustError("there are no sources; a robust accuracy needs at least one")
    if bool((source < 0).any()):
        raise GenrobustError(
            "a source has a negative class, and only a predicted one may be -1, for no verdict; "
            "give classes from 0 up"
        )
    return float((counted & ~_wrong(source, predicted)).double().mean())


def robust_area(eps: Sequence[float], accuracy: Sequence[float], clean: float) -> float:
    r"""The area under robust accuracy over the radius, as a share of the range.

    .. math:: \frac{1}{\varepsilon_E} \int_0^{\varepsilon_E} R(\varepsilon)\, d\varepsilon

    by trapezoids through :math:`(0, R_0), (\varepsilon_1, R_1), \dots, (\varepsilon_E, R_E)`:
    the mean robust accuracy over radii up to the largest. It depends on the grid, so only areas
    over one grid compare.

    Args:
        eps: the radii, above 0 and increasing.
        accuracy: robust accuracy at each, in [0, 1].
        clean: the value at radius 0, the share of eligible sources, in [0, 1].

    Returns:
        A number in [0, 1]: 0 breaks at once, ``clean`` never moves.

    Raises:
        GenrobustError: lengths differ, radii do not increase from above 0, a share is outside
            [0, 1], or one is above ``clean``, of which it is a part.

    Example:
        >>> robust_area([0.1, 0.2], [0.5, 0.0], clean=1.0)
        0.5
    """
    x, y = _curve(eps, accuracy, clean)
    return float(torch.trapezoid(y, x) / x[-1])


def eps50(eps: Sequence[float], accuracy: Sequence[float], clean: float) -> float:
    r"""The radius at which half of the eligible sources have fallen.

    The smallest :math:`\varepsilon` at which the line through
    :math:`(0, R_0), (\varepsilon_1, R_1), \dots` is at most :math:`R_0 / 2`.

    Args:
        eps: the radii, above 0 and increasing.
        accuracy: robust accuracy at each, in [0, 1].
        clean: :math:`R_0`, the share of eligible sources, in [0, 1].

    Returns:
        A radius in the units of ``eps``; ``inf`` where more than half are left at the largest
        radius; 0 where no source is eligible.

    Raises:
        GenrobustError: as :func:`robust_area`.

    Example:
        >>> eps50([0.25, 0.75], [0.75, 0.25], clean=1.0)
        0.5
        >>> eps50([0.1, 0.2], [0.8, 0.7], clean=0.8)
        inf
    """
    x, y = _curve(eps, accuracy, clean)
    half = clean / 2
    below = (y <= half).nonzero()[:, 0]
    if not len(below):
        return math.inf
    k = int(below[0])
    if k == 0:
        return 0.0
    share = (y[k - 1] - half) / (y[k - 1] - y[k])
    return float(x[k - 1] + share * (x[k] - x[k - 1]))


def _chosen(eligible: Tensor | None, like: Tensor) -> Tensor:
    if eligible is None:
        return torch.ones_like(like, dtype=torch.bool)
    return flags("eligible", eligible)


def _wrong(source: Tensor, predicted: Tensor) -> Tensor:
    return (predicted != source) & (predicted >= 0)


def _curve(eps: Sequence[float], accuracy: Sequence[float], clean: float) -> tuple[Tensor, Tensor]:
    """The curve with its anchor at radius 0, in float64."""
    radii, shares = several("eps", eps, real, 0.1), several("accuracy", accuracy, real, 0.5)
    x = torch.tensor([0.0, *radii], dtype=torch.float64)
    y = torch.tensor([real("clean", clean), *shares], dtype=torch.float64)
    if len(x) != len(y) or len(x) < 2:
        raise GenrobustError(
            f"there are {len(x) - 1} radii and {len(y) - 1} accuracies; give as many of each, and "
            "at least one"
        )
    if not bool((x.diff() > 0).all()) or not bool(x.isfinite().all()):
        raise GenrobustError(
            f"the radii are {list(eps)}; they must be finite, above 0 and increasing"
        )
    if not bool(((y >= 0) & (y <= 1)).all()):
        raise GenrobustError(
            f"robust accuracies are shares from 0 to 1, not {list(accuracy)} with {clean} at 0"
        )
    if float(y.max()) > y[0] + ROUNDING:
        raise GenrobustError(
            f"a robust accuracy of {list(accuracy)} is above the clean one, {clean}, although it "
            "counts only sources that are right without an attack; give shares of all sources"
        )
    return x, y

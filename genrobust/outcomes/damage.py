"""What the pictures became, in a record's numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.outcomes.outcome import Damaged
from genrobust.records.record import Damage, DamageAt, Picture
from genrobust.records.statistics import estimates
from genrobust.rules.base import RULES
from genrobust.rules.line import LINE
from genrobust.suites.suite import Suite


def reconstructed(damaged: Damaged) -> Tensor:
    """Whether the clean reconstruction shows its source, (B,) bool."""
    return damaged.clean.double() < LINE * damaged.constant.double()


def damage_of(damaged: Damaged | None, suite: Suite) -> Damage | None:
    """The means over all sources; None without a search for damage, or of what is no picture."""
    if damaged is None or damaged.attacked is None or not RULES.get(suite.rule).shows_source:
        return None
    t = {name: tensor.double() for name, tensor in damaged.tensors().items()}
    distances = [t["clean"][None], reconstructed(damaged).double()[None]]
    means = estimates(torch.cat([*distances, t["attacked"], t["noise"]]).numpy(), suite)
    clean, inside, *at = means

    def picture(kind: str, e: int) -> Picture:
        return Picture(
            distance=at[e + (len(suite.eps) if kind == "noise" else 0)],
            shift=_mean(t[f"{kind}_shift"][e]),
            similarity=_mean(t[f"{kind}_similarity"][e]),
        )

    return Damage(
        clean=Picture(distance=clean, shift=0.0, similarity=_mean(t["clean_similarity"])),
        constant=float(t["constant"].mean()),
        reconstructed=inside,
        per_eps=tuple(
            DamageAt(
                eps=eps,
                attacked=picture("attacked", e),
                noise=picture("noise", e),
                to_target=_mean(t["to_target"][e]),
            )
            for e, eps in enumerate(suite.eps)
        ),
    )


def _mean(values: Tensor) -> float | None:
    """Over those that are numbers; None if none is."""
    known = values[values.isfinite()]
    return float(known.mean()) if len(known) else None

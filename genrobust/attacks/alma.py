"""ALMA's universal attacks: one change against codes, reconstructions, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genrobust.attacks.universal import UniversalAttack
from genrobust.objectives.universal import DamageName


@dataclass(frozen=True)
class Alma(UniversalAttack):
    """One change for all images that moves codes and reconstructions; see UniversalAttack.

    The published eps on colour images is 0.04 to 0.09. A sample's damage is its own, where the
    published code multiplies what is averaged over a minibatch.

    Args:
        damage: ``"lma"``, ``"oa"``, ``"la-l2"``, ``"la-wass"``, ``"la-skl"`` or ``"la-cos"``; see
            :class:`~genrobust.objectives.universal.UniversalDamage`.

    Reference:
        "Gradient signal restoration in ill-conditioned layers", arXiv 2505.03646: the latent,
        output and product attacks.
    """

    name = "alma"

    damage: Literal["la-l2", "la-wass", "la-skl", "la-cos", "oa", "lma"] = "lma"

    def damage_of(self) -> DamageName:
        return self.damage

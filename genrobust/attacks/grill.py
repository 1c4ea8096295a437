"""GRILL's universal attack: one change against all layers, weighed by their conditioning."""

from __future__ import annotations

from dataclasses import dataclass

from genrobust.attacks.universal import UniversalAttack
from genrobust.objectives.universal import DamageName


@dataclass(frozen=True)
class Grill(UniversalAttack):
    """One change for all images that moves every layer and the output; see UniversalAttack.

    The damage is [sum over layers l of w_l * MSE(output of l)] * MSE(reconstruction), with w_l
    in proportion to K - kappa_l: kappa_l is the condition number of the layer's weight as a
    matrix (1 for layers without one), K their sum. Layers are the innermost modules that encoder
    and decoder call. A sample's damage is its own.

    Reference:
        "Gradient signal restoration in ill-conditioned layers", arXiv 2505.03646, as released.
    """

    name = "grill"

    def damage_of(self) -> DamageName:
        return "grill"

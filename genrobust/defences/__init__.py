"""Defences put round a trained model, with what they certify; any of them is benched as a model.

Those that draw random numbers say so by ``draws``: attacks that go through what is drawn follow the
mean over as many draws (Athalye et al. 2018, expectation over transformation).
"""

from __future__ import annotations

from genrobust.defences.center import CenterBound, center_bound, center_smoothed
from genrobust.defences.civet import certified_error
from genrobust.defences.lipschitz import LipschitzConstants, lipschitz_constants, lipschitz_margin
from genrobust.defences.sampling import hmc_defended
from genrobust.defences.smoothing import CertifiedRadius, certified_radius, smoothed

__all__ = [
    "CenterBound",
    "CertifiedRadius",
    "LipschitzConstants",
    "center_bound",
    "center_smoothed",
    "certified_error",
    "certified_radius",
    "hmc_defended",
    "lipschitz_constants",
    "lipschitz_margin",
    "smoothed",
]

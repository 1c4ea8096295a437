"""The conformance suite: what authors of plugins run on their attacks and models.

It needs pytest and nothing else that genrobust does not bring.
"""

from genrobust.testing.attacks import AttackConformance
from genrobust.testing.models import ModelConformance

__all__ = ["AttackConformance", "ModelConformance"]

"""Models: how a user's is wrapped, which are shipped, how a name becomes one."""

from genrobust.models.checks.check import ModelCheck, check_model
from genrobust.models.families import MODELS
from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import wrap
from genrobust.models.zoo import load_model

__all__ = ["MODELS", "GenerativeModel", "ModelCheck", "check_model", "load_model", "wrap"]

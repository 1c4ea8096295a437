"""genrobust: measure how robust generative encoder-decoder models are to adversarial examples.

Everything here is imported when first used, so that ``import genrobust`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from genrobust._version import __version__

if TYPE_CHECKING:
    from genrobust.attacks import ATTACKS, Attack, AttackResult, attack
    from genrobust.benchmarking import bench, minimum_norm
    from genrobust.data import load_images
    from genrobust.errors import GenrobustError
    from genrobust.judges import load_judge
    from genrobust.models import MODELS, GenerativeModel, load_model, wrap
    from genrobust.posterior import Categorical, Codebook, Gaussian, Grid, Point, Posterior
    from genrobust.records.curve_record import MinimumNormRecord
    from genrobust.records.record import Record
    from genrobust.threat import ThreatModel

_WHERE = {
    "ATTACKS": "genrobust.attacks",
    "Attack": "genrobust.attacks",
    "AttackResult": "genrobust.attacks",
    "attack": "genrobust.attacks",
    "MinimumNormRecord": "genrobust.records.curve_record",
    "Record": "genrobust.records.record",
    "bench": "genrobust.benchmarking",
    "minimum_norm": "genrobust.benchmarking",
    "load_images": "genrobust.data",
    "GenrobustError": "genrobust.errors",
    "load_judge": "genrobust.judges",
    "MODELS": "genrobust.models",
    "GenerativeModel": "genrobust.models",
    "load_model": "genrobust.models",
    "wrap": "genrobust.models",
    "Categorical": "genrobust.posterior",
    "Codebook": "genrobust.posterior",
    "Gaussian": "genrobust.posterior",
    "Grid": "genrobust.posterior",
    "Point": "genrobust.posterior",
    "Posterior": "genrobust.posterior",
    "ThreatModel": "genrobust.threat",
}

__all__ = [
    "ATTACKS",
    "MODELS",
    "Attack",
    "AttackResult",
    "Categorical",
    "Codebook",
    "Gaussian",
    "GenerativeModel",
    "GenrobustError",
    "Grid",
    "MinimumNormRecord",
    "Point",
    "Posterior",
    "Record",
    "ThreatModel",
    "__version__",
    "attack",
    "bench",
    "load_images",
    "load_judge",
    "load_model",
    "minimum_norm",
    "wrap",
]


#: Rooms that the documentation names, which are there too once ``genrobust`` is imported.
_ROOMS = (
    *("attacks", "callbacks", "data", "defences", "judges", "metrics", "models", "norms"),
    *("objectives", "optimizers", "posterior", "reproduce", "rules", "seeding", "suites"),
    "testing",
)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'genrobust' has no attribute '{name}'")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__

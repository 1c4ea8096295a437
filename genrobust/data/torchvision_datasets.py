"""The one door to torchvision, open also where its compiled operators do not load.

torchvision from PyPI is built against a CUDA torch. Beside a CPU-only torch its binary cannot be
loaded, and ``import torchvision`` stops at registering the fake kernel of ``nms``. Declaring the
operators' schemas first lets datasets, transforms and models work; the operators themselves stay
unavailable, and genrobust uses none of them.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch


@cache
def torchvision_datasets() -> ModuleType:
    """``torchvision.datasets``."""
    try:
        import torchvision.datasets as datasets
    except RuntimeError as problem:
        if "torchvision::nms" not in str(problem):
            raise
        _forget_half_imported()
        _declare_operators()
        import torchvision.datasets as datasets
    module: ModuleType = datasets
    return module


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEEP.append(library)  # a Library undoes its definitions when it is collected


def _forget_half_imported() -> None:
    import sys

    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]


_KEEP: list[torch.library.Library] = []

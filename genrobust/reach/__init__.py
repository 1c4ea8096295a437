"""What functions reach: the code they may run, the values it uses, and the tensors among them.

No code of a user is executed: functions are read as bytecode, and what their closures, defaults,
globals and ``self`` hold is followed, through modules and objects, as far as it goes. Of a module
that counts which code names, also in a string where code looks names up. The code of Python, of
installed packages and of genrobust counts by its name and version, but for what others put into it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from genrobust.reach.contents import Uncounted
from genrobust.reach.walk import Walk

__all__ = ["Reach", "Uncounted", "reach"]


@dataclass(frozen=True, eq=False)
class Reach:
    """What was found.

    Args:
        code: sha256 of the code and of all values but tensors.
        tensors: the tensors and numeric arrays, by where they were found first.
    """

    code: str
    tensors: dict[str, Tensor]


def reach(roots: Mapping[str, object], own: Collection[str] = ()) -> Reach:
    """Follow what these functions, classes or objects reach.

    Args:
        roots: by name.
        own: installed packages whose code is read all the same.

    Example:
        >>> import torch
        >>> found = reach({"layer": torch.nn.LeakyReLU(0.1), "scale": torch.ones(2)})
        >>> list(found.tensors)
        ['scale']
        >>> found.code == reach({"layer": torch.nn.LeakyReLU(0.2), "scale": torch.ones(2)}).code
        False
    """
    walk = Walk(frozenset(own))
    for name, value in roots.items():
        walk.visit(name, value)
    walk.visit_hooks_of_all_modules()
    walk.visit_what_was_named()
    return Reach(walk.digest.hexdigest(), walk.tensors)

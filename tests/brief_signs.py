"""Signs of masked gradients from few of them, for tests that look at something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from genrobust.attacks import differences
from genrobust.runner import damage, directional, followed, signs, unreached

#: They take most of a short run's time, and say as much of models that hide nothing.
FEW = (
    (signs, "STEPS", 3),
    (signs, "UNBOUNDED_STEPS", 2),
    (signs, "BESIDE", 1),
    (signs, "LOOKS", 1),
    (signs, "USUAL", signs.USUAL.model_copy(update={"settings": {"steps": 2}})),
    (damage, "STEPS", 2),
    (followed, "PARTS", 4),
    (differences, "DIRECTIONS", 2),
    (differences, "LATENTS", 2),
    (directional, "GROUPS", 2),
    (directional, "EACH", 1),
    (directional, "PARTS", 2),
    (directional, "HALVINGS", 1),
    (unreached, "EACH", 1),
)


@contextmanager
def brief_signs(*, but: tuple[str, ...] = ()) -> Iterator[None]:
    """Runs in the block take few gradients and differences for flags and damage."""
    with pytest.MonkeyPatch.context() as patched:
        for module, name, less in FEW:
            if name not in but:
                patched.setattr(module, name, less)
        yield

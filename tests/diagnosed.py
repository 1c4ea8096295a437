"""Signs of a diagnosis alone, and those of a sound run, as if attacks led to nothing odd; flags."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.outcomes.outcome import Signs
from genrobust.records.record import Flag
from genrobust.runner.signs import Diagnosis


def is_beyond(flag: Flag | None) -> bool:
    """Whether it would be raised."""
    return flag is not None and flag.value > flag.limit


def before_attacks(found: Diagnosis) -> Signs:
    ones = torch.ones_like(found.guidance.gradient_norm)
    return Signs(
        guidance=found.guidance,
        short=found.short,
        along_attacked=ones,
        response_attacked=ones,
        followed=ones,
    )


def sound(count: int, radii: int) -> dict[str, Tensor]:
    """The columns of signs of a run that bears none, but that of a longer attack."""
    fooled = torch.zeros(radii, count, dtype=torch.bool)
    columns = {name: torch.ones(count) for name in Signs.table() if not name.startswith("longer.")}
    still = ("smoothed_gain", *(f"directional.{name}" for name in ("jump", "lead", "unreached")))
    signs = {
        **columns,
        **dict.fromkeys(still, torch.zeros(count)),
        **dict.fromkeys(("surrogate_label", "deployed_label"), torch.arange(count) % 10),
        **dict.fromkeys(("probe.success", "probe.again", "probe.stopped"), fooled),
        "probe.unbounded": torch.ones(count, dtype=torch.bool),
    }
    return {name: tensor.clone() for name, tensor in signs.items()}

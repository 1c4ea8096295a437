"""Sources of which a test cares for the ids alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from genrobust.rules import Sources


def sources_of(ids: Sequence[int]) -> Sources:
    """Black images of class 0, whose targets are of class 1."""
    black, zeros = torch.zeros(len(ids), 1, 1, 1), torch.zeros(len(ids), dtype=torch.int64)
    return Sources(tuple(ids), black, zeros, zeros + 1, black, black)

"""Comparison with a sentence for when it fails."""

from __future__ import annotations

import torch
from torch import Tensor


def assert_close(found: Tensor, expected: Tensor, tolerance: float, message: str) -> None:
    """Fail with the message, and how far off, where entries differ by more than the tolerance."""
    farthest = float((found - expected).abs().max()) if found.numel() else 0.0
    assert torch.isfinite(found).all(), f"{message} (it is NaN or infinite)"
    assert farthest <= tolerance, f"{message} (off by {farthest:.2g})"

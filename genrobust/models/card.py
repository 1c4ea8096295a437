"""The card beside every weights file: what it is, what it was trained on, how good it is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Card(BaseModel):
    """Provenance and quality of trained weights.

    ``metrics`` are measured on the whole test split, on the weights as stored (half precision).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    dataset: str
    train_sha256: str
    test_sha256: str
    architecture: dict[str, Any]
    recipe: dict[str, Any]
    seed: int
    steps: int
    metrics: dict[str, float]
    parameters: int
    weights_sha256: str
    genrobust_version: str
    torch_version: str

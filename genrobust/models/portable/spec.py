"""What a bundle says of its model: settings or a graph, how large it may be, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)
from torch import nn

from genrobust.errors import GenrobustError, a_few, in_a_line
from genrobust.models.networks import ConvVAE, NetworkSpec
from genrobust.models.portable.graph import Graph, RunLimits
from genrobust.models.tensors import TensorLimits, refuse_pickle
from genrobust.posterior import PARTS, Part

#: What a bundle's files are called.
WEIGHTS, GRAPH = "weights.safetensors", "graph.json"


@dataclass(frozen=True)
class Architecture:
    """A network that genrobust builds itself: its class, and what its settings may be."""

    network: type[nn.Module]
    settings: type[BaseModel]


#: Whose weights need no graph. The class takes its settings, and keeps them as ``spec``.
ARCHITECTURES: dict[str, Architecture] = {"ConvVAE": Architecture(ConvVAE, NetworkSpec)}


@dataclass(frozen=True)
class PortableLimits:
    """How large a bundled model may be, and how much it may compute for one batch."""

    tensors: TensorLimits = field(default_factory=TensorLimits)
    run: RunLimits = field(default_factory=RunLimits)
    spec_bytes: int = 1 << 16
    graph_bytes: int = 8 << 20


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Side = Annotated[StrictInt, Field(ge=1, le=1 << 16)]


class WeightsSpec(_Data):
    """A registered architecture, whose weights are in ``weights.safetensors``."""

    format: Literal["safetensors"] = "safetensors"
    name: Annotated[StrictStr, Field(min_length=1, max_length=120)]
    architecture: StrictStr
    settings: dict[str, Any]
    value_range: tuple[float, float]
    clamp: StrictBool


class ExportedSpec(_Data):
    """A graph in ``graph.json``, whose weights are in ``weights.safetensors``."""

    format: Literal["exported"] = "exported"
    name: Annotated[StrictStr, Field(min_length=1, max_length=120)]
    input_shape: tuple[Side, Side, Side]
    clamp: StrictBool


def _known_part(name: str) -> str:
    if name not in PARTS.names():
        raise ValueError(f"no part is called '{name[:80]}' here")
    return name


PartName = Annotated[StrictStr, AfterValidator(_known_part)]


class Program(_Data):
    """``graph.json``: images to the tensors of the posterior's parts, and codes to images.

    ``encode`` gives the fields of each part in order, such as a mean and a log-variance for each
    Gaussian one. ``buffers`` are the weights that were not learned.
    """

    version: Literal[1]
    parts: Annotated[tuple[PartName, ...], Field(min_length=1, max_length=256)]
    encode: Graph
    decode: Graph
    buffers: tuple[StrictStr, ...]


_SPEC: TypeAdapter[WeightsSpec | ExportedSpec] = TypeAdapter(
    Annotated[WeightsSpec | ExportedSpec, Field(discriminator="format")]
)


def read_spec(spec: Mapping[str, Any], limits: PortableLimits) -> WeightsSpec | ExportedSpec:
    try:
        text = json.dumps(dict(spec))
        if len(text) > limits.spec_bytes:
            raise ValueError(f"it has {len(text)} bytes, {limits.spec_bytes} are allowed")
        return _SPEC.validate_json(text)
    except (ValueError, TypeError, RecursionError) as problem:
        reason = in_a_line(problem)
        raise GenrobustError(
            f"the model's spec is not one that genrobust wrote ({reason}); export the model again "
            "with genrobust"
        ) from problem


def read_program(content: bytes, limits: PortableLimits) -> Program:
    refuse_pickle(content, f"the file '{GRAPH}'")
    if len(content) > limits.graph_bytes:
        raise GenrobustError(
            f"'{GRAPH}' has {len(content)} bytes and {limits.graph_bytes} are allowed; submit the "
            "model as an external model"
        )
    try:
        return Program.model_validate_json(content)
    except ValidationError as problem:
        raise GenrobustError(
            f"'{GRAPH}' is not a graph that genrobust wrote ({in_a_line(problem)}); export the "
            "model again with genrobust"
        ) from problem


def fields_of(kind: type[Part]) -> list[str]:
    return [f.name for f in fields(kind)]  # type: ignore[arg-type]


def json_of(program: Program) -> bytes:
    return program.model_dump_json(exclude_defaults=True).encode()


def listed(names: Iterable[str]) -> str:
    return a_few(sorted(ascii(name[:80]) for name in names)) or "nothing"

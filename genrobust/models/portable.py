"""Models as data: what a bundle holds of one, and how it is run again without trust.

A model of a registered architecture is its network's settings and its weights. Of any other,
``torch.export`` gives encode and decode as a graph of allowed operations; :mod:`.graph` says why
that is not kept in torch's own file. Nothing of a bundle is executed, unpickled or imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import torch
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
from safetensors.torch import save
from torch import Tensor, nn

from genrobust.errors import GenrobustError, in_a_line, unknown_name
from genrobust.models.check import check_model, probe_images
from genrobust.models.graph import Graph, RunLimits, Runner
from genrobust.models.model import GenerativeModel
from genrobust.models.networks import ConvVAE, NetworkSpec
from genrobust.models.tensors import TensorLimits, read_safetensors, refuse_pickle
from genrobust.models.tracing import SIZES, trace
from genrobust.models.weights import load_state_dict
from genrobust.models.wrapping import adapt
from genrobust.posterior import PARTS, Part, Posterior

#: What a bundle's files are called.
WEIGHTS, GRAPH = "weights.safetensors", "graph.json"

#: How far results as data may lie from the model's own: rounding in deep networks, no more.
TOLERANCE = 1e-5


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


def export_model(model: GenerativeModel) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A model as data.

    Args:
        model: any wrapped model whose deployment is to decode the posterior's mode.

    Returns:
        The spec, which is JSON, and the files that belong to it by name. What
        :func:`load_portable` makes of them has been compared with ``model`` on batches of several
        sizes. Of a registered architecture it has the fingerprint of ``model``.

    Raises:
        GenrobustError: the model cannot be given as data.

    Example:
        >>> from genrobust.models import load_model
        >>> spec, files = export_model(load_model("jointvae"))
        >>> spec["architecture"], spec["settings"]["categorical"], sorted(files)
        ('ConvVAE', [10], ['weights.safetensors'])
        >>> load_portable(spec, files).fingerprint() == load_model("jointvae").fingerprint()
        True
    """
    if model.deploy is not None or model.draws != 1 or not model.differentiable:
        raise GenrobustError(
            f"the model '{model.name}' has a deployed path of its own, draws random numbers or "
            "has no gradient, and cannot be exported as data; submit it as an external model"
        )
    if isinstance(model.module, ProgramModule):
        spec, files = _program_as_data(model, model.module.program, model.module.tensors())
    else:
        spec, files = _weights_as_data(model) or _trace(model)
    _check_same(model, load_portable(spec, files))
    return spec, files


def load_portable(
    spec: Mapping[str, Any], files: Mapping[str, bytes], limits: PortableLimits | None = None
) -> GenerativeModel:
    """The model that :func:`export_model` described, from files that need no trust.

    Args:
        spec: what ``export_model`` gave, or what a submission says it did.
        files: the bundle's files by name, as :func:`genrobust.evidence.archive.read_archive`
            gives them.
        limits: how large the model may be; the same limits hold whenever it is run.

    Returns:
        The model, checked as :func:`genrobust.wrap` checks one. Its fingerprint covers graph,
        weights, shape and clamp.

    Raises:
        GenrobustError: the spec or a file is damaged, too large, inconsistent or a pickle; an
            operation is not allowed; a check of the model failed.
    """
    limits = limits or PortableLimits()
    described = _read_spec(spec, limits)
    expected = {WEIGHTS} if isinstance(described, WeightsSpec) else {WEIGHTS, GRAPH}
    if files.keys() != expected:
        raise GenrobustError(
            f"a model as '{described.format}' consists of {' and '.join(sorted(expected))}, and "
            f"the bundle has {_listed(files)}; export the model again with genrobust"
        )
    weights = read_safetensors(files[WEIGHTS], limits.tensors, f"the file '{WEIGHTS}'")
    if isinstance(described, WeightsSpec):
        model = _load_weights(described, weights)
    else:
        model = _load_program(described, _read_program(files[GRAPH], limits), weights, limits)
    check_model(model)
    return model


class ProgramModule(nn.Module):
    """The weights of a program, and its two functions.

    Args:
        program: encode and decode.
        weights: the tensors that they use, by name.
        limits: how much a run may compute.
    """

    def __init__(self, program: Program, weights: Mapping[str, Tensor], limits: RunLimits) -> None:
        super().__init__()
        self.program = program
        for name, tensor in weights.items():
            # No attribute of a module begins with a slash, so that no name can hide one.
            if name in program.buffers or not tensor.is_floating_point():
                self.register_buffer(_attribute(name), tensor)
            else:
                self.register_parameter(_attribute(name), nn.Parameter(tensor))
        shapes = {name: torch.empty_like(t, device="meta") for name, t in weights.items()}
        self._encode = Runner(program.encode, shapes, limits)
        self._decode = Runner(program.decode, shapes, limits)

    def encode(self, x: Tensor) -> Posterior:
        """Images (B, C, H, W) in [0, 1] to their posterior."""
        tensors = iter(self._encode(x, self.tensors()))
        kinds = [PARTS.get(part) for part in self.program.parts]
        return Posterior(tuple(kind(*(next(tensors) for _ in _fields(kind))) for kind in kinds))

    def decode(self, code: Tensor) -> Tensor:
        """Codes to images in [0, 1]."""
        return self._decode(code, self.tensors())[0]

    def tensors(self) -> dict[str, Tensor]:
        """The weights by their names in the file."""
        named = (*self._parameters.items(), *self._buffers.items())
        return {key[1:].replace("/", "."): tensor for key, tensor in named if tensor is not None}


def _attribute(name: str) -> str:
    return "/" + name.replace(".", "/")


def _weights_as_data(model: GenerativeModel) -> tuple[dict[str, Any], dict[str, bytes]] | None:
    """Settings and weights, where these alone make the same model again."""
    known = {entry.network: name for name, entry in ARCHITECTURES.items()}
    network: Any = model.module
    if type(network) not in known or "value_range" not in model.spec:
        return None
    described = WeightsSpec(
        name=_name_of(model),
        architecture=known[type(network)],
        settings=network.spec.model_dump(mode="json"),
        value_range=model.spec["value_range"],
        clamp=model.clamp,
    )
    state = {name: _in_half_if_exact(tensor) for name, tensor in network.state_dict().items()}
    spec, files = described.model_dump(mode="json"), {WEIGHTS: save(state)}
    # The fingerprint also tells where encode or decode are not the network's own.
    same = load_portable(spec, files).fingerprint() == model.fingerprint()
    return (spec, files) if same else None


def _trace(model: GenerativeModel) -> tuple[dict[str, Any], dict[str, bytes]]:
    x = probe_images(model.input_shape, max(SIZES)).to(model.device)
    with torch.no_grad():
        posterior = model.encode(x)
        codes = posterior.mode()
    for part in posterior.parts:
        known = part.name in PARTS.names() and PARTS.get(part.name) is type(part)
        if not (known and all(isinstance(value, Tensor) for value in _values(part))):
            raise GenrobustError(
                f"the posterior of '{model.name}' has a {type(part).__name__}, which cannot be "
                f"exported as data; register it as the part '{part.name}' with fields that are "
                "tensors, or submit the model as an external model"
            )
    encode = trace(lambda x: _held(model.encoder(x)), model.module, x, "encode")
    decode = trace(lambda code: [model.decoder(code)], model.module, codes, "decode")
    program = Program(
        version=1,
        parts=tuple(part.name for part in posterior.parts),
        encode=encode.graph,
        decode=decode.graph,
        buffers=tuple(sorted(encode.buffers | decode.buffers)),
    )
    return _program_as_data(model, program, {**encode.weights, **decode.weights})


def _program_as_data(
    model: GenerativeModel, program: Program, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    described = ExportedSpec(name=_name_of(model), input_shape=model.input_shape, clamp=model.clamp)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in weights.items()}
    files = {WEIGHTS: save(tensors), GRAPH: _json_of(program)}
    return described.model_dump(mode="json"), files


def _load_weights(described: WeightsSpec, weights: dict[str, Tensor]) -> GenerativeModel:
    if described.architecture not in ARCHITECTURES:
        raise unknown_name("architecture", described.architecture, ARCHITECTURES)
    architecture = ARCHITECTURES[described.architecture]
    try:
        settings = architecture.settings.model_validate(described.settings)
        with torch.device("meta"):  # settings may ask for more than there is memory
            network = architecture.network(settings)
    except Exception as problem:  # settings that pass as such can still contradict each other
        reason = in_a_line(problem)
        raise GenrobustError(
            f"the bundle's settings are none of a {described.architecture} ({reason}); export the "
            "model again with genrobust"
        ) from problem
    wanted = sum(tensor.numel() for tensor in network.state_dict().values())
    given = sum(tensor.numel() for tensor in weights.values())
    if wanted > given:
        raise GenrobustError(
            f"the bundle's settings make a {described.architecture} of {wanted} numbers, and "
            f"'{WEIGHTS}' has {given}; export the model again with genrobust"
        )
    network.to_empty(device="cpu")
    load_state_dict(network, weights, WEIGHTS)
    return adapt(
        network, value_range=described.value_range, clamp=described.clamp, name=described.name
    )


def _load_program(
    described: ExportedSpec, program: Program, weights: dict[str, Tensor], limits: PortableLimits
) -> GenerativeModel:
    expected = sum(len(_fields(PARTS.get(part))) for part in program.parts)
    if len(program.encode.outputs) != expected or len(program.decode.outputs) != 1:
        raise GenrobustError(
            f"'{GRAPH}' gives {len(program.encode.outputs)} tensors from encode and "
            f"{len(program.decode.outputs)} from decode, and its parts need {expected} and 1; "
            "export the model again with genrobust"
        )
    module = ProgramModule(program, weights, limits.run).eval().requires_grad_(False)
    unused = weights.keys() - program.encode.weights - program.decode.weights
    if unused:
        raise GenrobustError(
            f"'{WEIGHTS}' holds {_listed(unused)}, which '{GRAPH}' does not use; export the model "
            "again with genrobust"
        )
    return GenerativeModel(
        described.name,
        module,
        described.input_shape,
        module.encode,
        module.decode,
        clamp=described.clamp,
        spec={"format": "exported", "program": hashlib.sha256(_json_of(program)).hexdigest()},
    )


def _read_spec(spec: Mapping[str, Any], limits: PortableLimits) -> WeightsSpec | ExportedSpec:
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


def _read_program(content: bytes, limits: PortableLimits) -> Program:
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


def _check_same(model: GenerativeModel, loaded: GenerativeModel) -> None:
    """Compare outputs and gradients on batches of one, two and more images."""
    loaded.module.to(model.device)
    for size in (1, 2, max(SIZES) + 1):
        x = probe_images(model.input_shape, size).to(model.device)
        for ours, theirs in zip(_answers(loaded, x), _answers(model, x), strict=True):
            scale = max(1.0, float(theirs.abs().max()))
            apart = float((ours - theirs).abs().max()) / scale
            if not apart <= TOLERANCE:
                raise GenrobustError(
                    f"as data, the model '{model.name}' gives other results or gradients (they "
                    f"differ by up to {apart:.2g} of the largest); submit it as an external model"
                )


def _answers(model: GenerativeModel, x: Tensor) -> list[Tensor]:
    """What attacks and scores see of a model: parameters, images and the gradient of all."""
    x = x.clone().requires_grad_()
    posterior = model.encode(x)
    outputs = [*posterior.tensors(), model.decode(posterior.relaxed())]
    total = torch.stack([(t * _slope(t)).sum() for t in outputs]).sum()
    (gradient,) = torch.autograd.grad(total, x)
    return [t.detach() for t in (*outputs, posterior.vector(), model.reconstruct(x), gradient)]


def _slope(tensor: Tensor) -> Tensor:
    """Different weights for different outputs, so that no two gradients cancel."""
    count = tensor.numel()
    return torch.linspace(0.5, 1.5, count, device=tensor.device).view(tensor.shape).to(tensor)


def _held(posterior: Posterior) -> list[Tensor]:
    return [value for part in posterior.parts for value in _values(part)]


def _values(part: Part) -> list[Any]:
    return [getattr(part, name) for name in _fields(type(part))]


def _fields(kind: type[Part]) -> list[str]:
    return [f.name for f in fields(kind)]  # type: ignore[arg-type]


def _in_half_if_exact(tensor: Tensor) -> Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    kept = half if torch.equal(half.to(tensor), tensor) else tensor
    return kept.detach().cpu().contiguous().clone()


def _json_of(program: Program) -> bytes:
    return program.model_dump_json(exclude_defaults=True).encode()


def _name_of(model: GenerativeModel) -> str:
    return model.name[:120] or "model"


def _listed(names: Iterable[str]) -> str:
    shown = sorted(ascii(name[:80]) for name in names)
    return ", ".join(shown[:5]) + (" and more" if len(shown) > 5 else "") if shown else "nothing"

"""From a bundle's files to the model that they describe: nothing of them is executed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genrobust.errors import GenrobustError, in_a_line, unknown_name
from genrobust.models.checks.check import check_model
from genrobust.models.model import GenerativeModel
from genrobust.models.portable.graph import RunLimits, Runner
from genrobust.models.portable.spec import (
    ARCHITECTURES,
    GRAPH,
    WEIGHTS,
    ExportedSpec,
    PortableLimits,
    Program,
    WeightsSpec,
    fields_of,
    json_of,
    listed,
    read_program,
    read_spec,
)
from genrobust.models.tensors import read_safetensors
from genrobust.models.weights import load_state_dict
from genrobust.models.wrapping import adapt
from genrobust.posterior import PARTS, Posterior


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
    described = read_spec(spec, limits)
    expected = {WEIGHTS} if isinstance(described, WeightsSpec) else {WEIGHTS, GRAPH}
    if files.keys() != expected:
        raise GenrobustError(
            f"a model as '{described.format}' consists of {' and '.join(sorted(expected))}, and "
            f"the bundle has {listed(files)}; export the model again with genrobust"
        )
    weights = read_safetensors(files[WEIGHTS], limits.tensors, f"the file '{WEIGHTS}'")
    if isinstance(described, WeightsSpec):
        model = _load_weights(described, weights)
    else:
        model = _load_program(described, read_program(files[GRAPH], limits), weights, limits)
    return check_model(model).model


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
        return Posterior(tuple(kind(*(next(tensors) for _ in fields_of(kind))) for kind in kinds))

    def decode(self, code: Tensor) -> Tensor:
        """Codes to images in [0, 1]."""
        return self._decode(code, self.tensors())[0]

    def tensors(self) -> dict[str, Tensor]:
        """The weights by their names in the file."""
        named = (*self._parameters.items(), *self._buffers.items())
        return {key[1:].replace("/", "."): tensor for key, tensor in named if tensor is not None}


def _attribute(name: str) -> str:
    return "/" + name.replace(".", "/")


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
    expected = sum(len(fields_of(PARTS.get(part))) for part in program.parts)
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
            f"'{WEIGHTS}' holds {listed(unused)}, which '{GRAPH}' does not use; export the model "
            "again with genrobust"
        )
    return GenerativeModel(
        described.name,
        module,
        described.input_shape,
        module.encode,
        module.decode,
        clamp=described.clamp,
        spec={"format": "exported", "program": hashlib.sha256(json_of(program)).hexdigest()},
    )

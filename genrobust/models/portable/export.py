"""From a model to the files of a bundle, compared with the model before they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.models.inputs import probe_images
from genrobust.models.model import GenerativeModel
from genrobust.models.portable.load import ProgramModule, load_portable
from genrobust.models.portable.spec import (
    ARCHITECTURES,
    GRAPH,
    WEIGHTS,
    ExportedSpec,
    Program,
    WeightsSpec,
    fields_of,
    json_of,
)
from genrobust.models.portable.tracing import SIZES, trace
from genrobust.posterior import PARTS, Part, Posterior

#: How far results as data may lie from the model's own: rounding in deep networks, no more.
TOLERANCE = 1e-5


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
    files = {WEIGHTS: save(tensors), GRAPH: json_of(program)}
    return described.model_dump(mode="json"), files


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
    return [getattr(part, name) for name in fields_of(type(part))]


def _in_half_if_exact(tensor: Tensor) -> Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    kept = half if torch.equal(half.to(tensor), tensor) else tensor
    return kept.detach().cpu().contiguous().clone()


def _name_of(model: GenerativeModel) -> str:
    return model.name[:120] or "model"

"""Weights files: read safely and strictly, written in half precision with a card."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from genrobust import files
from genrobust.errors import GenrobustError
from genrobust.models.card import Card


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a ``.pt`` file with a state dict.

    A ``.pt`` file is unpickled with ``weights_only=True``: nothing in it is executed.

    Raises:
        GenrobustError: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise GenrobustError(f"there is no weights file '{path}'; check the path")
    try:
        if path.suffix == ".safetensors":
            return files.read_tensors(path)[0]
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # a damaged pickle can raise anything
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise GenrobustError(
            f"the weights file '{path}' cannot be read ({reason}); give a .safetensors file, or a "
            ".pt file written by torch.save(module.state_dict(), path)"
        ) from problem
    for key in ("state_dict", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise GenrobustError(
            f"the weights file '{path}' holds no state dict but a {type(content).__name__}; "
            "write it with torch.save(module.state_dict(), path)"
        )
    return content


def load_state_dict(module: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Load strictly: every key must fit.

    Raises:
        GenrobustError: keys are missing, left over, or of another shape.
    """
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    unknown = sorted(state.keys() - own.keys())
    shapes = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    found = [
        *([f"it lacks {_some(missing)}"] if missing else []),
        *([f"it has {_some(unknown)} that the model lacks"] if unknown else []),
        *(
            f"'{k}' is {tuple(state[k].shape)} where the model has {tuple(own[k].shape)}"
            for k in shapes[:2]
        ),
    ]
    if found:
        raise GenrobustError(
            f"the weights in '{source}' do not fit {type(module).__name__}: {'; '.join(found)}; "
            "give the weights of this architecture, or the architecture of these weights"
        )
    module.load_state_dict(state)


def save_weights(folder: Path, module: nn.Module, card: Card) -> None:
    """Write ``NAME.safetensors`` (half precision) and ``NAME.json``, the card."""
    files.write_tensors(folder / f"{card.name}.safetensors", half_precision(module), {})
    files.write_text(folder / f"{card.name}.json", card.model_dump_json(indent=1) + "\n")


def half_precision(module: nn.Module) -> dict[str, Tensor]:
    """The state dict with floating tensors in half precision."""
    return {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in module.state_dict().items()
    }


def round_to_half(module: nn.Module) -> None:
    """Round the weights to half precision in place, so that metrics are those of the file."""
    module.load_state_dict(
        {k: v.to(module.state_dict()[k]) for k, v in half_precision(module).items()}
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"

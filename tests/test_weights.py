"""Weights files: loaded strictly, of many layouts, and with a clear error for each that is none."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from genrobust.errors import GenrobustError
from genrobust.models import load_model
from genrobust.models.networks import ConvVAE, NetworkSpec
from genrobust.models.weights import load_state_dict, read_state_dict


@pytest.fixture
def network() -> ConvVAE:
    from genrobust.models.networks import initialised

    return initialised(NetworkSpec(), seed=4)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("nested", [False, True])
def test_weights_are_loaded_into_a_zoo_model(
    suffix: str, nested: bool, network: ConvVAE, tmp_path: Path
) -> None:
    path = tmp_path / f"trained.{suffix}"
    state = network.state_dict()
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if nested else state, path)
    model = load_model("vae", weights=path)
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(model.reconstruct(x), network(x))
    assert model.name == "trained"


def test_weights_of_another_architecture_are_refused(network: ConvVAE, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(network.state_dict(), path)
    with pytest.raises(GenrobustError, match=r"do not fit ConvVAE: '\S+' is .* the model has"):
        load_model("jointvae", weights=path)


def test_missing_and_left_over_keys_are_named(network: ConvVAE) -> None:
    state = network.state_dict()
    state["decoder.0.scale"] = state.pop("decoder.0.bias")
    with pytest.raises(
        GenrobustError, match=r"lacks 'decoder.0.bias'; it has 'decoder.0.scale' that the model"
    ):
        load_state_dict(network, state, "w.pt")
    with pytest.raises(GenrobustError, match="and 17 more"):
        load_state_dict(network, {}, "w.pt")


NO_NUMBERS: dict[str, Callable[[Tensor], Tensor]] = {
    "int8 numbers": lambda w: (100 * w).to(torch.int8),
    "complex64 numbers": lambda w: w.to(torch.complex64),
    "a sparse tensor": lambda w: w.to_sparse(),
    "no numbers, as it lies on the device 'meta',": lambda w: w.to("meta"),
}


@pytest.mark.parametrize("held", NO_NUMBERS)
def test_what_is_no_real_numbers_is_not_taken_for_weights(
    held: str, network: ConvVAE, tmp_path: Path
) -> None:
    """Of int8 torch takes the whole numbers, without the scale by which they are weights."""
    state, other = network.state_dict(), {}
    for name, weight in state.items():
        other[name] = NO_NUMBERS[held](weight)
    torch.save(other, tmp_path / "w.pt")
    with pytest.raises(GenrobustError, match=f"' holds {held} where the model has plain real"):
        load_model("vae", weights=tmp_path / "w.pt")
    load_state_dict(network, {k: w.double() for k, w in state.items()}, "w.pt")


@pytest.mark.filterwarnings("ignore:of the weights file")
@pytest.mark.parametrize("several", [False, True])
def test_a_lazy_layer_takes_its_shape_from_the_weights(several: bool, tmp_path: Path) -> None:
    layer, path = nn.Linear(3, 2), tmp_path / "w.pt"
    state = layer.state_dict()
    torch.save({"model": state, "other": {"x": torch.ones(1)}} if several else state, path)
    lazy = nn.LazyLinear(2)
    load_state_dict(lazy, read_state_dict(path, lazy), path)
    torch.testing.assert_close(lazy(torch.ones(1, 3)), layer(torch.ones(1, 3)))


class _Stepped(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"step": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def test_a_state_with_more_than_tensors_is_not_asked_for_again(tmp_path: Path) -> None:
    module = _Stepped(2, 2)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    with pytest.raises(GenrobustError, match=r"'_extra_state' beside tensors, a dict, .* load it"):
        read_state_dict(tmp_path / "w.pt", module)


def test_a_missing_weights_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(GenrobustError, match=r"there is no weights file .*none\.pt"):
        load_model("vae", weights=tmp_path / "none.pt")


def test_a_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(GenrobustError, match="is a folder; give the file of weights"):
        load_model("vae", weights=tmp_path)


class Halver(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


@pytest.mark.filterwarnings("ignore:.*deprecated", "error:'torch.load' received")
@pytest.mark.parametrize("kind", ["jit", "export"])
def test_a_whole_model_in_place_of_weights_is_told_with_a_line_that_loads_it(
    kind: str, tmp_path: Path
) -> None:
    path, x = tmp_path / "whole.pt2", torch.rand(2, 1, 4, 4)
    if kind == "jit":
        torch.jit.script(Halver()).save(str(path))
    else:
        torch.export.save(torch.export.export(Halver(), (x,)), path)
    for give in (read_state_dict, lambda path: load_model(str(path))):
        with pytest.raises(GenrobustError, match="holds a whole model") as caught:
            give(path)
        found = re.search(r"returns (torch\..*), and no weights", str(caught.value))
        assert found is not None
        torch.testing.assert_close(eval(found[1])(x), x / 2)


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "code was run"))


@pytest.mark.filterwarnings("ignore:Detected pickle")
@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(write: Any, tmp_path: Path) -> None:
    path, trace = tmp_path / "trap.pt", tmp_path / "trace"
    write({"w": torch.ones(2), "x": _Trap(trace)}, path)
    with pytest.raises(GenrobustError, match=r"trap\.pt' cannot be read"):
        read_state_dict(path)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_weights_file_is_a_clear_error(
    suffix: str, share: float, network: ConvVAE, tmp_path: Path
) -> None:
    path = tmp_path / f"cut.{suffix}"
    save = save_file if suffix == "safetensors" else torch.save
    save(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(GenrobustError, match=r"cannot be read"):
        read_state_dict(path)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@given(content=st.binary(max_size=200))
def test_any_junk_is_a_clear_error(
    suffix: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"junk.{suffix}"
    path.write_bytes(content)
    with pytest.raises(GenrobustError, match="junk"):
        read_state_dict(path)


@pytest.mark.filterwarnings("ignore:Detected pickle")
@given(position=st.integers(0, 400), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_pickle_is_read_or_refused_and_raises_nothing_else(
    position: int, byte: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = byte
    path.write_bytes(content[: position + 1] if cut else content)
    try:
        state = read_state_dict(path)
    except GenrobustError:
        return
    assert all(isinstance(tensor, Tensor) for tensor in state.values())


@pytest.mark.parametrize("content", [[torch.ones(2)], {"step": 3}, torch.ones(2)])
def test_a_file_without_a_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(GenrobustError, match="holds no state dict but a"):
        read_state_dict(tmp_path / "w.pt")

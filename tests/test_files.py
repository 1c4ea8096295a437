"""Files: the old content or the new, never a half; hashes that notice every change."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrobust import files
from genrobust.errors import GenrobustError


@pytest.mark.parametrize("call", ["replace", "fsync", "fdopen"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    files.write_text(path, "old")

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(GenrobustError, match=r"record\.json.*No space left"):
            files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_an_interrupted_write_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            files.write_text(tmp_path / "record.json", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_write_replaces_the_content_and_makes_the_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "text"
    files.write_text(path, "long old content")
    files.write_text(path, "héllo")
    assert path.read_bytes() == "héllo".encode()
    assert [p.name for p in path.parent.iterdir()] == ["text"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    files.write_text(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(GenrobustError, match="cannot write"):
        files.write_text(tmp_path / "taken" / "record.json", "")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_read_only_folder_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(GenrobustError, match="Permission denied"):
            files.write_text(tmp_path / "record.json", "")
    finally:
        tmp_path.chmod(0o700)


def test_tensors_come_back_as_written_even_from_a_view(tmp_path: Path) -> None:
    written = {
        "view": torch.arange(12.0).view(3, 4).T,
        "half": torch.ones(2, dtype=torch.half),
        "count": torch.tensor(7),
        "nothing": torch.zeros(0, 3),
        "learned": torch.ones(2, requires_grad=True),
    }
    files.write_tensors(tmp_path / "t.safetensors", written, {"step": "4"})
    tensors, metadata = files.read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"step": "4"}
    assert tensors.keys() == written.keys()
    for name, tensor in written.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_tensor_file_is_a_value_error(share: float, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    files.write_tensors(path, {"w": torch.arange(1000.0)}, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        files.read_tensors(path)


def test_a_missing_tensor_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        files.read_tensors(tmp_path / "none.safetensors")


def test_the_hash_does_not_depend_on_order_or_memory_layout() -> None:
    a, b = torch.arange(6.0).view(2, 3), torch.ones(2)
    strided = a.T.contiguous().T
    assert files.sha256_of_tensors({"a": a, "b": b}) == files.sha256_of_tensors(
        {"b": b, "a": strided}
    )


@pytest.mark.parametrize(
    "other",
    [
        {"v": torch.zeros(2, 3)},
        {"w": torch.zeros(3, 2)},
        {"w": torch.zeros(2, 3, dtype=torch.int32)},
        {"w": -torch.zeros(2, 3)},
        {"w": torch.zeros(2, 3), "b": torch.zeros(0)},
        {},
    ],
    ids=["name", "shape", "dtype", "value", "more", "less"],
)
def test_the_hash_depends_on_names_shapes_types_and_bytes(other: dict[str, torch.Tensor]) -> None:
    assert files.sha256_of_tensors(other) != files.sha256_of_tensors({"w": torch.zeros(2, 3)})


@given(st.integers(0, 63), st.integers(0, 31))
def test_the_hash_notices_any_single_bit(position: int, bit: int) -> None:
    weights = torch.linspace(-1, 1, 64)
    flipped = weights.clone()
    flipped.view(torch.int32)[position] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert files.sha256_of_tensors({"w": weights}) != files.sha256_of_tensors({"w": flipped})


def test_a_single_number_of_a_larger_tensor_has_the_hash_of_that_number() -> None:
    """Its stride is that of the rows it comes from, whatever says that it is contiguous."""
    part = torch.arange(18.0).view(2, 9)[:1, 3]
    assert part.stride() == (9,)
    alone = {"x": torch.tensor([3.0])}
    assert files.sha256_of_tensors({"x": part}) == files.sha256_of_tensors(alone)


def test_a_tensor_of_a_kind_of_its_own_is_told_by_the_tensors_that_it_holds() -> None:
    """As quantised weights of torchao's, a jagged tensor holds numbers and where each row ends."""

    def told(*rows: list[float]) -> str:
        jagged = [torch.tensor(row) for row in rows]
        held = torch.nested.nested_tensor(jagged, layout=torch.jagged)
        return files.sha256_of_tensors({"weight": held})

    assert told([1.0, 2.0], [3.0]) == told([1.0, 2.0], [3.0])
    assert len({told([1.0, 2.0], [3.0]), told([1.0], [2.0, 3.0]), told([1.0, 2.0], [4.0])}) == 3

"""A run that is killed inside a shard goes on inside it, and ends as if it had not been killed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from principal import principal
from torch import Tensor

import genrobust
from genrobust import files
from genrobust.attacks.classifier import Classifier
from genrobust.attacks.fmn import FMN
from genrobust.attacks.noise import Noise
from genrobust.runner import checkpoint as checkpoints
from genrobust.runner.checkpoint import Checkpoint
from genrobust.runner.plan import plan
from genrobust.runner.shard import Measured
from genrobust.runner.store import Store
from genrobust.suites import AttackEntry, Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")


class PulledPlugError(BaseException):
    """What no code of ours catches."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write after every attack."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)


def suite(descends: bool = False) -> Suite:
    """One shard of a digit, at three radii by an ensemble of three attacks."""
    entries = (
        AttackEntry(attack="noise", goal="untargeted"),
        AttackEntry(
            attack="classifier", goal="untargeted", settings={"steps": 4}, descends=descends
        ),
        AttackEntry(attack="classifier", goal="targeted", settings={"steps": 4}),
    )
    update = {"attacks": entries, "eps": (0.04, 0.08, 1.0), "resamples": 20}
    return load_suite("digits-v1").limited(1).model_copy(update=update)


def bench(out: Path) -> None:
    genrobust.bench(principal(), suite(), out=out, workers=1)


def bench_descending(out: Path) -> None:
    genrobust.bench(principal(), suite(descends=True), out=out, workers=1)


def curve(out: Path) -> None:
    genrobust.minimum_norm(principal(), suite(), out=out, workers=1)


def without_times(path: Path) -> dict[str, Any]:
    return {name: part for name, part in json.loads(path.read_text()).items() if name != "times"}


def shard(folder: Path) -> dict[str, Tensor]:
    (path,) = folder.glob("shards/*.safetensors")
    return files.read_tensors(path)[0]


class Plug:
    """Counts what is attacked, and is pulled before a given attack."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran, self.pull_at = 0, -1
        for kind in (Noise, Classifier, FMN):
            monkeypatch.setattr(kind, "search", self.counted(kind.search))

    def counted(self, search: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            if self.ran == self.pull_at:
                raise PulledPlugError
            self.ran += 1
            return search(*given)

        return run


@pytest.mark.parametrize(
    ("command", "name"),
    [
        pytest.param(bench, "record.json", marks=pytest.mark.slow),
        (bench_descending, "record.json"),
        pytest.param(curve, "curve.json", marks=pytest.mark.slow),
    ],
)
def test_a_killed_shard_goes_on_where_it_was(
    command: Callable[[Path], None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug = Plug(monkeypatch)
    command(tmp_path / "whole")
    in_all = plug.ran
    # The short attacks for the flags come first, and are made again.
    short = 2 * len(suite().eps)
    for stop in range(short + 1, in_all, in_all // 2):
        folder = tmp_path / f"stopped-{stop}"
        plug.ran, plug.pull_at = 0, stop
        with pytest.raises(PulledPlugError):
            command(folder)
        assert not list(folder.glob("shards/*.safetensors"))
        plug.ran, plug.pull_at = 0, -1
        command(folder)
        assert plug.ran < in_all - max(0, stop - short - 2), "what was done is not done again"
        assert without_times(folder / name) == without_times(tmp_path / "whole" / name)
        before, after = shard(tmp_path / "whole"), shard(folder)
        for key in before:
            same = torch.isclose(before[key], after[key], rtol=0, atol=0, equal_nan=True)
            assert same.all(), key
        assert not list(folder.rglob("*.partial")), "a finished shard leaves nothing behind"


def test_a_state_that_is_damaged_or_of_other_work_is_not_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "a.partial"
    kept = Checkpoint(path, "this work", every=0.0)
    assert kept.read() is None
    kept.offer(lambda: {"found": torch.arange(3)})
    again = Checkpoint(path, "this work").read()
    assert again is not None
    assert again["found"].tolist() == [0, 1, 2]
    assert Checkpoint(path, "other work").read() is None
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"\x07", b"", b"nothing"):
        path.write_bytes(damaged)
        assert Checkpoint(path, "this work").read() is None


def test_states_are_written_now_and_then_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    kept = Checkpoint(tmp_path / "a.partial", every=5.0)
    now[0] += 4.9
    kept.offer(lambda: {"found": torch.zeros(1)})
    assert not (tmp_path / "a.partial").exists()
    now[0] += 0.1
    kept.offer(lambda: {"found": torch.zeros(1)})
    assert (tmp_path / "a.partial").exists()
    later = Checkpoint(tmp_path / "a.partial")
    later.read()
    now[0] += 2.0
    assert later.seconds == pytest.approx(7.0), "with those of the process that was killed"


@pytest.mark.parametrize("seconds", [0, 2**32])
def test_shards_are_put_together_whatever_the_clock_says(tmp_path: Path, seconds: int) -> None:
    store, (spec,) = Store(tmp_path, "of a model"), plan(suite(), "0" * 64, 0, "cpu")
    store.write(spec, Measured({"x": torch.arange(3)}, 1.5))
    os.utime(store.path(spec), (seconds, seconds))
    store.gather([spec])
    assert not store.path(spec).exists()
    found = store.read(spec)
    assert found is not None
    assert found.tensors["x"].tolist() == [0, 1, 2]

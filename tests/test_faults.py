"""What goes wrong in mid-run changes no result: it ends with the same record or resumes to it."""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import genrobust
from genrobust import files
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.runner.executors import EXECUTORS
from genrobust.runner.executors.slurm import TRIES
from genrobust.suites import AttackEntry, Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture(scope="module")
def cheap(small_suite: Suite) -> Suite:
    """Two shards of two sources."""
    attack = AttackEntry(attack="classifier", goal="untargeted", settings={"steps": 3})
    update = {"name": "cheap", "chunk_size": 2, "eps": (0.1,), "attacks": (attack,)}
    return small_suite.limited(4).model_copy(update={**update, "resamples": 20})


def told(folder: Path) -> dict[str, Any]:
    """The record without its times, and the hashes of what its shards hold."""
    record = json.loads((folder / "record.json").read_text())
    del record["times"]
    paths = sorted((folder / "shards").iterdir())
    return {**record, "hashes": {p.name: files.read_tensors(p)[1]["sha256"] for p in paths}}


@pytest.mark.slow
def test_a_disk_that_is_full_in_mid_run(
    cheap: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def fills_up(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 2:  # the plan, a shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fills_up)
        patch.setattr("genrobust.runner.checkpoint.EVERY", 1e9)
        with pytest.raises(GenrobustError, match=r"No space left on device.*has space left"):
            genrobust.bench("vae", cheap, workers=1, out=tmp_path / "run")
    assert len(list(tmp_path.glob("run/shards/*.safetensors"))) == 1
    assert not (tmp_path / "run/record.json").exists()
    genrobust.bench("vae", cheap, workers=1, out=tmp_path / "run")
    genrobust.bench("vae", cheap, workers=1, out=tmp_path / "alone")
    assert told(tmp_path / "run") == told(tmp_path / "alone")


def short_of_memory(most: int) -> genrobust.GenerativeModel:
    """The zoo's vae where more images at once than that do not fit."""
    vae = genrobust.load_model("vae")
    encode = vae.encoder

    def encodes(x: torch.Tensor) -> Any:
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return encode(x)

    return genrobust.wrap(
        vae.module, encode=encodes, decode=vae.decoder, input_shape=(1, 32, 32), name="short"
    )


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_where_memory_runs_out_fewer_images_go_through_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    monkeypatch.setattr("genrobust.runner.prepare.CHECKED", 1)
    update = {"chunk_size": 12, "eps": (0.1,), "resamples": 20}
    suite = load_suite("digits").limited(12).with_attacks(["noise"]).model_copy(update=update)
    how: dict[str, Any] = {"executor": executor, "workers": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error", GenrobustWarning)
        free = genrobust.bench(short_of_memory(100), suite, **how)
    with pytest.warns(GenrobustWarning, match="memory ran out, and only 6 images at once"):
        short = genrobust.bench(short_of_memory(8), suite, **how, out=tmp_path)
    assert short.scores.per_eps[0].robust_accuracy == free.scores.per_eps[0].robust_accuracy
    assert (short.forwards, short.backwards) == (free.forwards, free.backwards)
    with pytest.raises(GenrobustError, match="lower --batch-size"):
        genrobust.bench(short_of_memory(0), suite, **how)


@pytest.mark.slow
def test_a_first_batch_that_does_not_fit_is_halved_before_the_run() -> None:
    update = {"chunk_size": 12, "eps": (0.1,), "resamples": 20}
    suite = load_suite("digits").limited(12).with_attacks(["noise"]).model_copy(update=update)
    with pytest.warns(GenrobustWarning, match="only 6 images at once go through the model"):
        short = genrobust.bench(short_of_memory(8), suite, executor="serial")
    free = genrobust.bench(short_of_memory(100), suite, executor="serial")
    assert short.scores.per_eps[0].robust_accuracy == free.scores.per_eps[0].robust_accuracy
    assert (short.forwards, short.backwards) == (free.forwards, free.backwards)


# Slurm


def test_slurm_is_asked_for_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(GenrobustError, match=r"pip install 'genrobust\[slurm\]'"):
        list(EXECUTORS.get("slurm")().run([], 1))


class Ends:
    """submitit, whose jobs end without an answer."""

    def __init__(self, folder: Path) -> None:
        self.paths, self.stderr = self, folder / "said.err"

    def update_parameters(self, **given: object) -> None:
        pass

    def submit(self, *task: object) -> Ends:
        return self

    def done(self) -> bool:
        return True

    def exception(self) -> Exception:
        return RuntimeError("killed")


def test_a_job_that_always_ends_is_one_sentence(
    cheap: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=Ends))
    with pytest.raises(GenrobustError, match=rf"ended {TRIES} times within one .*slurm/said\.err'"):
        genrobust.bench("vae", cheap, executor="slurm", workers=1, out=tmp_path)

"""Runs that one can watch, foresee and stop; and that stay small however many samples they have."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import zipfile
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
from told import cli
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust import files
from genrobust.attacks.noise import Noise
from genrobust.cli import progress as progresses
from genrobust.cli.app import app
from genrobust.cli.progress import progress
from genrobust.data.base import Images
from genrobust.errors import GenrobustWarning
from genrobust.runner import execute as loop
from genrobust.runner import pulse as pulses
from genrobust.runner import run as runs
from genrobust.runner.checkpoint import Checkpoint
from genrobust.runner.execute import results_of, silent
from genrobust.runner.options import Options
from genrobust.runner.outlook import Outlook
from genrobust.runner.prepare import prepare
from genrobust.runner.pulse import Pulse
from genrobust.runner.run import execute
from genrobust.runner.status import Planned
from genrobust.runner.store import Store
from genrobust.suites import AttackEntry, Suite, load_suite

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("brief")]


@pytest.fixture(scope="module")
def quick(small_suite: Suite) -> Suite:
    """Two shards of one source."""
    entries = (
        AttackEntry(attack="noise", goal="untargeted"),
        AttackEntry(attack="classifier", goal="untargeted", settings={"steps": 20}),
    )
    update = {"name": "quick", "chunk_size": 1, "eps": (0.05, 0.1), "attacks": entries}
    judge = load_suite("digits-v1").attacker_judge  # not the whole committee
    update |= {"attacker_judge": judge, "resamples": 20}
    return small_suite.limited(2).model_copy(update=update)


# Progress within a shard


def test_a_shard_tells_how_far_it_is_before_it_is_done(
    quick: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulses, "EVERY", 0.02)
    monkeypatch.setattr("genrobust.runner.execute.LOOK", 0.01)
    told: list[tuple[float, int, str]] = []
    prepared = prepare("vae", quick.limited(1), Options(workers=1))
    execute(prepared, tmp_path, lambda done, total, note="": told.append((done, total, note)))
    within = [(done, note) for done, _, note in told if 0 < done < 1]
    assert within, told
    assert any("classifier untargeted (steps=20) at" in note for _, note in within)
    of_attacks = [note for _, note in within if " at 0." in note]
    assert all(re.search(r"on \d of 1 sources", note) for note in of_attacks)
    assert (told[0][:2], told[-1][:2]) == ((0, 1), (1, 1))
    assert not list(tmp_path.rglob(f"*{pulses.SUFFIX}"))


def test_the_share_grows_with_the_images_and_is_not_whole_before_the_end() -> None:
    pulse = Pulse(None)
    pulse.tick(50)
    assert pulse.share == 0  # nothing is known of what is ahead
    pulse.begin("first", 100, 200)
    shares = []
    for _ in range(4):
        pulse.tick(50)
        shares.append(pulse.share)
    assert shares == sorted(shares)
    assert shares[1] == pytest.approx(150 / 351)
    pulse.begin("last", 0, 0)
    assert pulse.share == 0.99


def test_what_was_said_by_a_stopped_run_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / f"a{pulses.SUFFIX}").write_text('{"share": 0.5, "note": "x"}')
    (tmp_path / "shards" / f"b{pulses.SUFFIX}").write_text('{"share": 0.')
    assert pulses.under_way(tmp_path)().keys() == {"a"}
    assert not pulses.under_way(tmp_path, since=time.time() + 10)()


def test_a_pulse_tells_at_once_where_its_process_has_ended(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from genrobust.runner import pulse
pulse.EVERY = 0
pulse.Pulse(Path({str(tmp_path / "a.pulse")!r})).tick(1)
input()
"""
    begun = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    while (beat := pulses.Beat.read(tmp_path / "a.pulse")) is None:
        time.sleep(0.1)
    assert not beat.has_ended
    begun.kill()
    begun.communicate()
    assert beat.has_ended == (sys.platform == "linux")
    assert not replace(beat, place="of another machine").has_ended


def test_lines_have_a_time_left_as_soon_as_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("vae") as advance:
        advance(0, 2)
        time.sleep(0.01)
        advance(0.5, 2, "noise at 0.1")
        advance(0.6, 2, "not said, as it comes soon after")
        advance(2, 2)
        advance(2, 2)  # the loop says so once a shard is done, and once all are
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "vae: 0/2"
    assert re.fullmatch(r"vae: 0/2 \(25%\), about \d+ s left, noise at 0\.1", said[1])
    assert said[2:] == ["vae: 2/2"]


def test_the_time_left_of_a_run_that_goes_on_is_not_of_workers_that_get_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progresses.time, "monotonic", lambda: now[0])
    with progress("vae") as advance:
        for at, done in ((0, 2), (60, 2), (62, 2.5)):  # half a shard in two seconds
            now[0] = at
            advance(done, 8)
    assert capsys.readouterr().err.splitlines()[-1] == "vae: 2/8 (31%), about 22 s left"


def test_live_work_goes_through_the_same_loop() -> None:
    told: list[tuple[float, int]] = []
    found = results_of(
        [3, 1, 2], lambda n, _: n * n, 2, lambda done, total, note="": told.append((done, total))
    )
    assert found == [9, 1, 4]
    assert (told[0], told[-1]) == ((0, 3), (3, 3))
    with pytest.raises(ZeroDivisionError):
        results_of([0], lambda n, _: 1 // n, 1, silent)


def test_live_work_tells_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOOK", 0.01)
    seen = Event()
    told: list[tuple[float, str]] = []

    def work(item: int, checkpoint: Checkpoint) -> int:
        checkpoint.pulse.begin("looks", 39, 0)
        checkpoint.pulse.tick(20)
        assert seen.wait(20)
        return item

    def listen(done: float, total: int, note: str = "") -> None:
        told.append((round(done, 2), note))
        if done == 0.5:
            seen.set()

    assert results_of([7], work, 1, listen) == [7]
    assert told[0] == (0, "")
    assert (0.5, "looks") in told
    assert told[-1] == (1, "")


# What is known from the folder alone


def test_status_tells_what_is_done_and_the_scores_so_far(quick: Suite, tmp_path: Path) -> None:
    file = tmp_path / "quick.json"
    file.write_text(quick.model_dump_json())
    run = ("bench", "--model", "vae", "--suite", file, "--workers", 1, "--out", tmp_path / "out")
    folder = Path(cli(*run, "--shard", "2/2").splitlines()[-1])
    (first, *_), _ = plan(folder), None
    beat = folder / "shards" / f"{first}{pulses.SUFFIX}"
    beat.write_text('{"share": 0.25, "note": "noise at 0.05 on 1 of 1 sources"}')
    said = cli("status", folder)
    assert "1 of 2 shards done, 1 under way" in said
    assert "25% of a shard: noise at 0.05 on 1 of 1 sources" in said
    assert "so far, of 1 source, in %" in said
    assert re.search(r"clean: \d+\.0 \[", said)
    assert "eps 0.1: " in said
    assert "goes on with: genrobust bench --model vae" in said
    record = genrobust.bench("vae", quick, workers=1, out=folder)
    said = cli("status", tmp_path)
    assert "2 of 2 shards done, finished" in said
    for name, estimate in (
        ("clean", record.scores.clean_accuracy),
        ("eps 0.05", record.scores.per_eps[0].robust_accuracy),
        ("eps 0.1", record.scores.per_eps[1].robust_accuracy),
    ):
        assert f"{name}: {100 * estimate.value:.1f} [" in said
    done = CliRunner().invoke(app, ["status", str(tmp_path / "none")])
    assert done.exit_code == 2


def plan(folder: Path) -> list[str]:
    """The keys of the shards that are not there."""
    from genrobust.runner.status import Planned

    shards = Planned.read(folder).shards
    return [s.key for s in shards if not (folder / "shards" / f"{s.key}.safetensors").exists()]


# What is known before


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(quick: Suite, tmp_path: Path) -> None:
    file = tmp_path / "quick.json"
    file.write_text(quick.model_dump_json())
    for command in ("bench", "curve"):
        words = ("--model", "vae", "--suite", file, "--workers", 1, "--out", tmp_path / "out")
        said = cli(command, *words, "--dry-run")
        assert "2 shards of 1 source, 2 to compute, 1 at a time (threads); about " in said
        assert re.search(r"time: at most about \d+ .* for [\d,]+ images", said)
        assert "memory: this process took" in said
        part = cli(command, *words, "--dry-run", "--shard", "2/2")
        assert "part 2/2: 1 shard of 1 source, 1 to compute" in part
        assert 2 * images_in(part) == images_in(said)
    assert [path.name for path in tmp_path.iterdir()] == ["quick.json"]


def images_in(said: str) -> int:
    found = re.search(r"for ([\d,]+) images", said)
    assert found is not None
    return int(found[1].replace(",", ""))


def test_the_foreseen_disk_is_what_is_taken(quick: Suite, tmp_path: Path) -> None:
    prepared = prepare("vae", quick.model_copy(update={"chunk_size": 2}), Options(workers=1))
    outlook = Outlook.of(prepared, runs.tasks_of(prepared, tmp_path))
    execute(prepared, tmp_path)
    taken = sum(path.stat().st_size for path in (tmp_path / "shards").iterdir())
    assert outlook.disk == pytest.approx(taken, rel=0.2)  # which has names and the plan too


# However many samples


class Stub(nn.Module):
    """Four numbers of an image."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1024) / 1024)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1) @ self.weight.T, torch.zeros(len(x), 4)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(100 * z @ self.weight).view(-1, *self.input_shape)


def pictures(count: int) -> Images:
    draw = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (count, 1, 32, 32), dtype=torch.uint8, generator=draw)
    return Images(raw, None, (32, 32))


def bench_stub(count: int, out: Path) -> genrobust.Record:
    how = {"sources": count, "eps": [0.05], "attacks": ["noise"], "workers": 1}
    return genrobust.bench(Stub(), data=pictures(count), **how, out=out)


def test_shards_of_a_long_run_share_files_and_are_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "TOGETHER", 100)
    record = bench_stub(230, tmp_path)
    archives = sorted((tmp_path / "shards").iterdir())
    assert [path.suffix for path in archives] == [".zip"] * 3
    monkeypatch.setattr(Noise, "search", None)  # nothing is attacked again
    assert bench_stub(230, tmp_path) == record
    assert "5 of 5 shards done, finished" in cli("status", tmp_path)


def test_two_commands_put_the_same_shards_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = bench_stub(100, tmp_path)
    specs, store = Planned.read(tmp_path).shards, Store(tmp_path)
    place = files.temporary_folder

    def after_the_other(parent: Path) -> AbstractContextManager[Path]:
        monkeypatch.setattr(files, "temporary_folder", place)
        Store(tmp_path).gather(specs)
        return place(parent)

    monkeypatch.setattr(files, "temporary_folder", after_the_other)
    store.gather(specs)
    assert [path.suffix for path in (tmp_path / "shards").iterdir()] == [".zip"]
    assert bench_stub(100, tmp_path) == record


def test_a_damaged_shard_among_them_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "TOGETHER", 100)
    record = bench_stub(150, tmp_path)
    archive = max((tmp_path / "shards").iterdir(), key=lambda path: path.stat().st_size)
    with zipfile.ZipFile(archive) as found:
        inside = found.infolist()[0].header_offset + 2000
    content = bytearray(archive.read_bytes())
    content[inside] ^= 1
    archive.write_bytes(content)
    with pytest.warns(GenrobustWarning, match="is damaged .* counts as missing until"):
        again = bench_stub(150, tmp_path)
    assert again.scores == record.scores
    assert bench_stub(150, tmp_path) == again  # and it stays so


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries keep memory otherwise")
def test_memory_grows_by_little_more_than_the_samples_themselves(tmp_path: Path) -> None:
    """As the system sees it, in a process of its own; a sample is 1 kB, its shard's tensors 27."""

    def peak(count: int) -> int:
        out = tmp_path / str(count)
        code = (
            "import resource, sys; from pathlib import Path; import test_long_runs as t\n"
            f"t.bench_stub({count}, Path({str(out)!r}))\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert done.returncode == 0, done.stderr
        assert len(list((out / "shards").iterdir())) == count // 1000
        return 1024 * int(done.stdout)

    assert (peak(8_000) - peak(2_000)) / 6_000 < 9_000

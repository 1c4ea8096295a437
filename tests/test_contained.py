"""What loads an archive runs in a child that has limits, and that nothing outlives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genrobust.cli.contained import INSIDE, ResourceLimits, contained, is_foreign, limits_of

DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
PLENTY = ResourceLimits(seconds=60, gib=16)


@pytest.mark.parametrize(
    ("words", "foreign"),
    [
        ("verify x", True),
        ("submit x", True),
        ("bench --model entries/a/evidence.zip", True),
        ("curve --model=entries/a/evidence.zip", True),
        ("check hf://owner/vae@main", True),
        ("publish genrobust-runs/digits-v2/vae --card x.md", True),
        ("leaderboard build", True),
        ("leaderboard serve", False),
        ("bench --model vae", False),
        ("bench --model ./vae --out runs", False),
        (f"show {'x' * 5000}", False),
        ("show suites", False),
        ("", False),
    ],
)
def test_commands_that_load_archives_are_contained(words: str, foreign: bool) -> None:
    assert is_foreign(words.split()) is foreign


def test_a_folder_with_a_graph_is_contained_and_a_run_of_one(tmp_path: Path) -> None:
    """As ``collect`` types again what the run was started with."""
    model, run = tmp_path / "model", tmp_path / "run"
    model.mkdir()
    assert not is_foreign(["bench", f"--model={model}"])
    (model / "graph.json").touch()
    assert is_foreign(["bench", f"--model={model}"])
    assert is_foreign(["check", str(model)])
    run.mkdir()
    for command, foreign in (
        (f"genrobust bench --model '{model}' --shard 1/2", True),
        ("genrobust bench --model a.zip", True),
        ("genrobust bench --model vae", False),
        ("genrobust bench --model 'vae", False),
    ):
        (run / "plan.json").write_text(json.dumps({"command": command}))
        assert is_foreign(["collect", str(run)]) is foreign
    assert not is_foreign(["collect", str(tmp_path / "nowhere")])


def test_processes_and_threads_are_bounded_where_the_user_is_not_root() -> None:
    code = (
        "import os, resource, threading, time\n"
        "from genrobust.cli.contained import ResourceLimits, _bound, _running\n"
        "if os.getuid() == 0:\n"
        "    os.setgroups([]), os.setgid(64321), os.setuid(64321)\n"
        "_bound(ResourceLimits(60, 16, tasks=20), _running())\n"
        "started = 0\n"
        "try:\n"
        "    for _ in range(60):\n"
        "        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()\n"
        "        started += 1\n"
        "except RuntimeError:\n"
        "    pass\n"
        "print(started, flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "PermissionError" in done.stderr:
        pytest.skip("root of a container that may not become another user")
    assert 10 <= int(done.stdout) <= 25, done.stderr


def test_a_child_ends_as_it_likes() -> None:
    assert contained([sys.executable, "-c", "raise SystemExit(7)"], PLENTY) == 7


def test_a_child_is_told_that_it_is_one() -> None:
    code = f"import os; raise SystemExit(int(os.environ[{INSIDE!r}]))"
    assert contained([sys.executable, "-c", code], PLENTY) == 1


def test_time_ends_what_hangs(capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert contained([sys.executable, "-c", DEAF], ResourceLimits(seconds=0.5, gib=16)) == 2
    assert time.monotonic() - began < 10
    assert "did not end within 0.5 seconds" in capfd.readouterr().err


@pytest.mark.slow
def test_memory_is_refused_beyond_the_limit() -> None:
    code = "x = bytearray(1 << 30)"
    limits = ResourceLimits(seconds=60, gib=0.25)
    assert contained([sys.executable, "-c", code], limits) == 1  # a MemoryError's
    assert contained([sys.executable, "-c", code], PLENTY) == 0


def test_a_child_that_is_killed_is_said_to_be(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert contained([sys.executable, "-c", code], PLENTY) == 2
    assert "stopped by signal 9" in capfd.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_child_that_is_deaf_does_not_outlive_its_parent(how: signal.Signals) -> None:
    """An operation of a library hears no Ctrl-C until it is done."""
    parent = subprocess.Popen(
        [sys.executable, "-c", (
            "import sys\n"
            "from genrobust.cli import contained\n"
            "contained.GRACE = 0.2\n"
            f"code = 'import os; print(os.getpid(), flush=True); ' + {DEAF!r}\n"
            "limits = contained.ResourceLimits(60, 16)\n"
            "sys.exit(contained.contained([sys.executable, '-c', code], limits))\n"
        )],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.2)
    parent.send_signal(how)
    assert parent.wait(10) == (130 if how == signal.SIGINT else -signal.SIGKILL)
    for _ in range(100):
        if not _lives(child):
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


def test_limits_are_an_hour_an_entry_and_can_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "entry.json").touch()
    assert limits_of(["verify", str(tmp_path)]) == ResourceLimits(7200, 16)
    assert limits_of(["bench", "--model", "x.zip"]) == ResourceLimits(86400, 16)
    assert limits_of(["leaderboard", "build", f"--entries={tmp_path}"]) == ResourceLimits(7200, 16)
    monkeypatch.setenv("GENROBUST_SECONDS", "9")
    monkeypatch.setenv("GENROBUST_GIB", "0.5")
    assert limits_of(["verify", str(tmp_path)]) == ResourceLimits(9, 0.5)
    monkeypatch.setenv("GENROBUST_GIB", "much")
    with pytest.raises(SystemExit):
        limits_of(["verify"])
    assert "GENROBUST_GIB is 'much'" in capsys.readouterr().err


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # Where nobody waits for it, a dead one stays in the table.
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False

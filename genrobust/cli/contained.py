"""Commands that load what others wrote run in a child, which has limits and can always be ended.

A graph in an archive, in a folder or on the hub is data, of allowed operations within limits that
are counted before anything is computed. Should one get past them, it is stopped here: an operation
of a library is deaf to Ctrl-C and to limits of its own process, but not to another process that
kills it.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from genrobust.cli.errors import INTERRUPTED, MISTAKE

#: Commands that load archives whatever their options say.
ALWAYS = (("verify",), ("submit",), ("publish",), ("leaderboard", "build"))
#: Set in the child: by it a command knows that it is contained already.
INSIDE = "GENROBUST_CONTAINED"
#: After Ctrl-C a child may end by itself, which keeps what it has done, for so many seconds.
GRACE = 5.0
#: Wall time in seconds: to look at an entry, and to measure a model, which may be typed again and
#: then goes on.
HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True)
class ResourceLimits:
    """What a child may take.

    Args:
        seconds: of wall time.
        gib: of memory of its own, in GiB.
        tasks: processes and threads, beyond those that its user has already. The system counts
            them by user, and bounds all but root's.
    """

    seconds: float
    gib: float
    tasks: int = 1024


def is_foreign(words: Sequence[str]) -> bool:
    """Whether a command's words have it load an archive or a graph that others may have written.

    Example:
        >>> is_foreign(["bench", "--model", "vae"]), is_foreign(["bench", "--model=a/evidence.zip"])
        (False, True)
    """
    named = (word.rpartition("=")[2] for word in words)
    return _is_always(words) or _is_collecting(words) or any(map(_is_graph, named))


def limits_of(words: Sequence[str]) -> ResourceLimits:
    """An hour for each entry, a day for others; GENROBUST_SECONDS and GENROBUST_GIB say otherwise.

    An honest archive may take that long as well.
    """
    seconds = DAY
    if _is_always(words):
        named = [Path(word.rpartition("=")[2]) for word in words[1:]]
        places = [place for place in named if place.is_dir()]
        seconds = HOUR * max(1, sum(1 for place in places for _ in place.rglob("entry.json")))
    return ResourceLimits(_given("GENROBUST_SECONDS") or seconds, _given("GENROBUST_GIB") or 16.0)


def contained(command: Sequence[str], limits: ResourceLimits) -> int:
    """Run a program in a child with limits, and give its exit code.

    The child dies with its parent, by time, and soon after Ctrl-C, whatever it is in the middle of.

    Args:
        command: the program and its words.
        limits: what it may take.
    """
    child = subprocess.Popen(
        command,
        env={**os.environ, INSIDE: "1"},
        preexec_fn=partial(_bound, limits, _running()),
    )
    try:
        code = child.wait(limits.seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        print(
            f"Error: it did not end within {limits.seconds:g} seconds, and was stopped; if that is "
            "too few for an honest model, set GENROBUST_SECONDS",
            file=sys.stderr,
        )
        code = MISTAKE
    except KeyboardInterrupt:  # which the terminal has sent to the child as well
        code = _ended(child)
    finally:
        child.kill()
        child.wait()
    if code in (-signal.SIGKILL, -signal.SIGSEGV):
        print(
            f"Error: it was stopped by signal {-code}, as where memory ran out; it may take "
            f"{limits.gib:g} GiB, or what GENROBUST_GIB says",
            file=sys.stderr,
        )
        return MISTAKE
    return code if code >= 0 else 128 - code


def _is_always(words: Sequence[str]) -> bool:
    return any(tuple(words[: len(command)]) == command for command in ALWAYS)


def _is_collecting(words: Sequence[str]) -> bool:
    """Whether a run is put together whose own words are foreign: they are run again."""
    if words[:1] != ["collect"]:
        return False
    for folder in map(Path, words[1:]):
        try:
            plan = json.loads((folder / "plan.json").read_bytes())["command"]
            return is_foreign(shlex.split(plan)[1:])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # no folder of a run, which the command itself says
    return False


def _is_graph(word: str) -> bool:
    return word.endswith(".zip") or word.startswith("hf://") or _holds_graph(Path(word))


def _holds_graph(folder: Path) -> bool:
    try:
        return (folder / "graph.json").exists()
    except (OSError, ValueError):  # too long a name, or a character that none has
        return False


def _given(name: str) -> float | None:
    said = os.environ.get(name)
    if not said:
        return None
    try:
        number = float(said)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        print(f"Error: {name} is {said!a}; it takes a number above 0", file=sys.stderr)
        sys.exit(MISTAKE)
    return number


def _ended(child: subprocess.Popen[bytes]) -> int:
    child.send_signal(signal.SIGINT)
    try:
        return child.wait(GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        return INTERRUPTED


def _running() -> int:
    """How many processes and threads of this user there are; 0 where the system does not say."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.getuid():
                found += sum(1 for _ in (process / "task").iterdir())
        except OSError:  # it has ended meanwhile
            continue
    return found


def _bound(limits: ResourceLimits, running: int) -> None:
    """In the child, before it is the program: what it may take, and with whom it dies."""
    import resource  # which not every system has

    most = {
        resource.RLIMIT_DATA: int(limits.gib * 2**30),
        resource.RLIMIT_CORE: 0,
        **({resource.RLIMIT_NPROC: running + limits.tasks} if running else {}),
    }
    for kind, value in most.items():
        ceiling = resource.getrlimit(kind)[1]  # which only root may raise
        value = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        resource.setrlimit(kind, (value, value))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

"""Commands that load what others wrote run in a child, which has limits and can always be ended.

A graph in an archive is data, of allowed operations within limits that are counted before anything
is computed. Should one get past them, it is stopped here: an operation of a library is deaf to
Ctrl-C and to limits of its own process, but not to another process that kills it.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genrobust.cli.errors import INTERRUPTED, MISTAKE

#: Commands that load archives whatever their options say.
ALWAYS = ("verify", "submit")
#: Set in the child: by it a command knows that it is contained already.
INSIDE = "GENROBUST_CONTAINED"
#: After Ctrl-C a child may end by itself, which keeps what it has done, for so many seconds.
GRACE = 5.0


@dataclass(frozen=True)
class Limits:
    """What a child may take.

    Args:
        seconds: of wall time; None for as long as it likes.
        gib: of memory of its own, in GiB.
    """

    seconds: float | None
    gib: float


def is_foreign(words: Sequence[str]) -> bool:
    """Whether a command's words have it load an archive.

    Example:
        >>> is_foreign(["bench", "--model", "vae"]), is_foreign(["bench", "--model=a/evidence.zip"])
        (False, True)
    """
    return bool(words) and (words[0] in ALWAYS or any(word.endswith(".zip") for word in words))


def limits_of(words: Sequence[str]) -> Limits:
    """An hour for each entry; GENROBUST_SECONDS and GENROBUST_GIB say otherwise."""
    seconds = None
    if words[0] in ALWAYS:
        places = (Path(word) for word in words[1:] if Path(word).is_dir())
        seconds = 3600.0 * max(1, sum(1 for place in places for _ in place.rglob("entry.json")))
    gib = _given("GENROBUST_GIB")
    return Limits(_given("GENROBUST_SECONDS") or seconds, 16.0 if gib is None else gib)


def contained(command: Sequence[str], limits: Limits) -> int:
    """Run a program in a child with limits, and give its exit code.

    The child dies with its parent, by time, and soon after Ctrl-C, whatever it is in the middle of.

    Args:
        command: the program and its words.
        limits: what it may take.
    """
    child = subprocess.Popen(
        command,
        env={**os.environ, INSIDE: "1"},
        preexec_fn=lambda: _bound(limits),
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


def _bound(limits: Limits) -> None:
    """In the child, before it is the program: what it may take, and with whom it dies."""
    import resource  # which not every system has

    most = int(limits.gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

"""Processes of this machine, each with a model of its own.

They are started as commands, not forked, and nothing but JSON is sent to them: so no lock, thread
or device is copied halfway, the user's script is not run again in them, and nothing need be
picklable.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from queue import SimpleQueue
from typing import Any, TextIO, cast

from genrobust.runner.execute import Work
from genrobust.runner.executors.base import Executor
from genrobust.runner.executors.pool import run_all
from genrobust.runner.executors.worker import failed, finished

#: How often a shard is tried whose worker is killed.
TRIES = 3


class Processes(Executor):
    """Processes of this machine: Python's lock is no limit, and any model has one to itself.

    A worker that is killed is replaced, and its shard goes on from its checkpoint.
    """

    def run(self, tasks: Sequence[Work[Any]], workers: int) -> Generator[str, None, None]:
        crew = [_Worker() for _ in range(min(workers, len(tasks)))]
        idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in crew:
            idle.put(worker)

        def work(task: Work[Any], cancelled: Callable[[], bool]) -> str | None:
            worker = idle.get()
            try:
                return worker.ask(task.text())
            finally:
                idle.put(worker)

        said: set[str] = set()
        try:
            with closing(run_all(tasks, work, max(1, len(crew)))) as answers:
                for _, answer in answers:
                    yield finished(answer, said)
        finally:
            for worker in crew:
                worker.stop()


class _Worker:
    """A process that is there when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._process: subprocess.Popen[str] | None = None

    def ask(self, task: str) -> str | None:
        """The answer, at the latest of the process that is tried last; None if it is stopped."""
        ends = ""
        for _ in range(TRIES):
            process = self._running()
            if process is None:
                return None
            try:
                print(task, file=process.stdin, flush=True)
                answer = cast(TextIO, process.stdout).readline()
            except (OSError, ValueError):  # it has ended; it was stopped
                answer = ""
            if answer:
                return answer
            ends = _end(process, patience=5)
        if self._stopped:
            return None
        return failed(
            f"a worker process ended {TRIES} times within one shard (the last time {ends}); give "
            "fewer --workers if memory is short, or see with --executor serial what ends it"
        )

    def stop(self) -> None:
        """Kill the process, and let none follow it."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _end(self._process)

    def _running(self) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._stopped:
                return None
            if self._process is None or self._process.poll() is not None:
                self._process = _start()
            return self._process


def _start() -> subprocess.Popen[str]:
    """A worker that finds what this process finds, and leaves Ctrl-C to it."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        f"sys.path[:] = {sys.path!r}; from {__package__}.worker import main; main(True)"
    )
    return subprocess.Popen(
        # Without assertions code is other code, and a model that it is of is another model.
        [sys.executable, *["-O"] * sys.flags.optimize, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _end(process: subprocess.Popen[str], patience: float = 0) -> str:
    """Kill a process that does not end by itself in so many seconds; how it ended, in words."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    process.kill()
    code = process.wait()
    with suppress(OSError):  # what it did not read
        cast(TextIO, process.stdin).close()
    return f"with exit code {code}" if code >= 0 else f"by signal {-code}"

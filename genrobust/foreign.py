"""Code of other people in this process: what it raises is named, what it changes is put back."""

from __future__ import annotations

import dis
import os
import shlex
import signal
import sys
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from genrobust.errors import GenrobustError, did_you_mean, is_out_of_memory, telling
from genrobust.projects import Project
from genrobust.seeding import generators_kept

_OURS = (Path(torch.__file__).parent, Path(__file__).parent)
_PYTHONS = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))
_INSTALLED = tuple(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))


@cache
def is_foreign(filename: str) -> bool:
    """Whether code in a file is neither torch's, nor this library's, nor Python's own.

    >>> is_foreign(torch.__file__), is_foreign(dis.__file__), is_foreign("model.py")
    (False, False, True)
    """
    path = Path(filename)
    if filename.startswith("<frozen") or any(path.is_relative_to(place) for place in _OURS):
        return False
    installed = any(path.is_relative_to(place) for place in _INSTALLED)
    return installed or not any(path.is_relative_to(place) for place in _PYTHONS)


def explain(problem: BaseException) -> str:
    """What went wrong and where: the last line of foreign code that ran, else of torch's.

    Example:
        >>> try:
        ...     1 / 0
        ... except ZeroDivisionError as problem:
        ...     explain(problem)
        'ZeroDivisionError: division by zero; <doctest genrobust.foreign.explain[0]>, line 2'
    """
    kind = f"{type(problem).__name__}: "
    reason = telling(str(problem)).removeprefix(kind)
    ours = ("<frozen", str(_OURS[1]))
    trace = traceback.extract_tb(problem.__traceback__)
    frames = [frame for frame in trace if not frame.filename.startswith(ours)]
    foreign = [frame for frame in frames if is_foreign(frame.filename)]
    words = f"{kind}{reason}".removesuffix(": ")
    for frame in (foreign or frames)[-1:]:
        words += f"; {Path(frame.filename).name}, line {frame.lineno}"
    return words


def is_fault(problem: BaseException) -> bool:
    """Whether foreign code is to blame for what came out of it: not for a user's Ctrl-C.

    It is for a KeyboardInterrupt that one of its statements raises, and for leaving the process.
    """
    if isinstance(problem, KeyboardInterrupt):
        return _raised_by_a_statement(problem.__traceback__)
    return isinstance(problem, (Exception, SystemExit)) and not isinstance(problem, GenrobustError)


#: What torch says where a batch's type is not that of the weights.
OF_TYPES = ("should be the same", "must have the same dtype")


class Call:
    """One call of a model's code, as a context: its faults become one sentence.

    Whether gradients are recorded is afterwards what it was before.

    Args:
        name: the model's.
        what: ``encode``, ``decode``, ``deploy``, or ``gradient``.
        batch: what it is called on.

    Raises:
        GenrobustError: the code raised anything, or tried to end the process.
    """

    __slots__ = ("batch", "grad", "name", "what")

    def __init__(self, name: str, what: str, batch: torch.Tensor) -> None:
        self.name, self.what, self.batch = name, what, batch

    def __enter__(self) -> None:
        self.grad = torch.is_grad_enabled()

    def __exit__(
        self, kind: object, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if torch.is_grad_enabled() != self.grad:
            torch.set_grad_enabled(self.grad)
        if problem is None or not is_fault(problem):
            return
        advice = (
            f"check input_shape, or pass {self.what}=, a function that takes such a batch, or, if "
            "it takes fewer at once, max_batch= or --batch-size"
        )
        if self.what == "gradient":
            advice = (
                "mend its backward pass, or wrap it with differentiable=False, or with encode= and "
                "decode= that can be differentiated and the rest as deploy="
            )
        elif "does not require grad" in str(problem) and not self.grad:
            advice = (
                "it takes a gradient of its own, and pictures are scored under torch.no_grad: put "
                "'with torch.enable_grad():' round its steps, without detach on the path from the "
                f"image, or pass {self.what}=torch.enable_grad()(f), of the function f that it is"
            )
        if "more than 1 value per channel" in str(problem):
            advice = (
                "it normalises by the batch's own statistics, so that an image's result depends on "
                "those beside it: let train() leave its norms in eval mode, and let them keep "
                "statistics (track_running_stats=True)"
            )
        given = getattr(self.batch, "dtype", None)  # a code may be what other code gave: anything
        if given != torch.float32 and any(said in str(problem) for said in OF_TYPES):
            advice = "give it numbers of its weights' type, such as x.float(), pixels in [0, 1]"
        if "main thread" in str(problem):  # signals, and what is built upon them
            advice = "give --executor processes, or serial for a live object: they call it there"
        if is_out_of_memory(problem):
            advice = "give --workers 1, or lower --batch-size"
        raise GenrobustError(
            f"the model's {self.what} failed on {_told(self.batch)} ({explain(problem)}; model "
            f"'{self.name}'); {advice}"
        ) from problem


@contextmanager
def as_script(place: str) -> Iterator[None]:
    """Run a file's code as Python runs a script without arguments, and clean up behind it.

    What it sets of the process and of torch is put back: ``sys.argv``, ``sys.path``, the working
    directory, standard streams, signal handlers, filters of warnings, torch's defaults, threads,
    modes and random generators.

    Args:
        place: what the code is called: ``sys.argv[0]``.

    Raises:
        GenrobustError: it tried to end the process.
    """
    streams = sys.stdin, sys.stdout, sys.stderr
    argv, sys.argv = sys.argv, [place]
    values = [(put, get()) for get, put in _SETTINGS]
    cpu = torch.device("cpu")
    try:
        sys.stdin, sys.stdout, sys.stderr = (_Unclosed(stream) for stream in streams)
        with warnings.catch_warnings(), generators_kept(cpu):
            yield
    except (SystemExit, KeyboardInterrupt) as problem:
        if not is_fault(problem):
            raise
        raise GenrobustError(
            f"'{place}' ends the process when it is imported or called ({explain(problem)}); let "
            "it return instead, and keep what a script does under if __name__ == '__main__':"
        ) from problem
    finally:
        sys.argv = argv
        sys.stdin, sys.stdout, sys.stderr = streams
        for put, value in values:
            put(value)


def build(reference: str) -> Any:
    """What the function of a user returns, called without arguments :func:`as_script`.

    Args:
        reference: ``"path/to/file.py:function"`` or ``"package.module:function"``.

    Raises:
        GenrobustError: there is no such file or function; its code failed.
    """
    place, _, function = reference.rpartition(":")
    if not (place.endswith(".py") or "/" in place):
        return _call(lambda: _imported(place, function), place, function)
    if not Path(place).is_file():
        raise GenrobustError(f"there is no file '{place}'; check the path before ':'")
    project = Project(Path(place))
    with project.at_home():
        return _call(project.load, place, function)


def _imported(place: str, function: str) -> ModuleType:
    try:
        return import_module(place)
    except ModuleNotFoundError as problem:
        top = place.partition(".")[0]
        if problem.name is None or problem.name not in (place, top):
            raise
        file = f"{top.rstrip(':')}.py:{function if function.isidentifier() else 'build'}"
        raise GenrobustError(
            f"'{place}' cannot be imported: there is no such module; a file's function is "
            f"FILE.py:FUNCTION, such as {shlex.quote(file)}, and what is in a notebook is saved as "
            "a file first"
        ) from problem


def _call(load: Callable[[], ModuleType], place: str, function: str) -> Any:
    try:
        module = load()
        make = getattr(module, function, None)
    except GenrobustError:
        raise
    except Exception as problem:
        raise _failed(f"'{place}' cannot be imported", problem) from problem
    if isinstance(make, nn.Module):
        raise GenrobustError(
            f"'{place}:{function}' is a {type(make).__name__}, not a function; put one there that "
            f"gives it, such as def build(): return {function}"
        )
    if not callable(make):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise GenrobustError(
            f"'{place}' has no function '{function}';{did_you_mean(function, known)} it has "
            f"{', '.join(known) or 'none'}"
        )
    try:
        return make()
    except GenrobustError:
        raise
    except Exception as problem:
        raise _failed(f"'{place}:{function}' failed", problem) from problem


def _failed(what: str, problem: Exception) -> GenrobustError:
    advice = "mend that: it is to run without arguments, in this environment"
    if isinstance(problem, TypeError) and _is_of_the_call(problem):
        advice = "let it take no arguments, or give each a default"
    return GenrobustError(f"{what} ({explain(problem)}); {advice}")


def _is_of_the_call(problem: Exception) -> bool:
    """Whether the call that is caught failed by itself, before it came to other code."""
    return problem.__traceback__ is not None and problem.__traceback__.tb_next is None


def _told(batch: object) -> str:
    """What a model's code was called on: a code is what other code gave, and may be none."""
    if isinstance(batch, torch.Tensor):
        return f"a batch of shape {tuple(batch.shape)}"
    return f"a {type(batch).__name__}"


class _Unclosed:
    """A standard stream that foreign code cannot close."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        self._stream.flush()


def _raised_by_a_statement(trace: TracebackType | None) -> bool:
    """A signal strikes between instructions; its exception comes from none that raises."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    if not is_foreign(frame.f_code.co_filename):
        return False
    return dis.opname[frame.f_code.co_code[trace.tb_lasti]].startswith("RAISE")


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _set_handlers(handlers: dict[int, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # no other may set any, foreign code neither
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _folder() -> str | None:
    with suppress(OSError):
        return str(Path.cwd())
    return None


def _set_folder(folder: str | None) -> None:
    if folder is not None:
        with suppress(OSError):
            os.chdir(folder)


def default_device() -> torch.device:
    """Where torch puts new tensors."""
    try:
        return torch.get_default_device()
    except AttributeError:  # torch 2.4, once it was set to None, which is the CPU
        return torch.device("cpu")


def _set_default_device(device: torch.device) -> None:
    if default_device() != device:
        torch.set_default_device(None if device.type == "cpu" else device)


def _set_path(path: list[str]) -> None:
    sys.path[:] = path


#: Settings of the process that foreign code may change: how to read each, and how to set it.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (_folder, _set_folder),
    (sys.path.copy, _set_path),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (_handlers, _set_handlers),
    (np.geterr, lambda errors: np.seterr(**errors)),
    (torch.get_default_dtype, torch.set_default_dtype),
    (default_device, _set_default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
)

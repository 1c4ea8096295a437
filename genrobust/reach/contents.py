"""What objects hold outside their attributes, as objects of Python's own types do.

No code of users is executed, and what is one thing in this process and another in the next is left
out: moments, random numbers, counters, addresses, caches, the environment.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import decimal
import gc
import io
import itertools
import math
import mmap
import random
import re
import sys
import uuid
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar
from dataclasses import dataclass
from threading import local
from types import (
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    TracebackType,
)
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.hooks import RemovableHandle

from genrobust.projects import is_library
from genrobust.reach.scripts import SCRIPTED, held_by_script

Value = TypeVar("Value")

#: Modules of Python whose objects are tools of the process: they say nothing of a model.
_TOOLS = {"asyncio", "concurrent", "ctypes", "dbm", "importlib", "logging", "multiprocessing"} | {
    "os", "pdb", "posix", "queue", "select", "selectors", "shelve", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "thread", "threading", "traceback", "unittest", "zipfile", "tarfile",
    "gzip", "bz2", "lzma", "frozen_importlib", "frozen_importlib_external",
}  # fmt: skip

#: Packages whose objects are loggers and progress bars, and no more to a model than Python's.
_LOGGERS = {"loguru", "structlog", "rich", "tqdm", "wandb", "mlflow", "tensorboard"}

#: Types of Python whose objects say nothing either, or something else in every process.
_TRANSIENT: tuple[type, ...] = (
    *(BaseException, FrameType, TracebackType, argparse.ArgumentParser, mmap.mmap, Context),
    *(io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper),
    *(random.Random, itertools.count, datetime.date, uuid.UUID, decimal.Context),
    # Caches; and what a module has of its trainer.
    *(weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet),
    *(weakref.ProxyType, weakref.CallableProxyType),
)


@dataclass(frozen=True)
class Uncounted(Generic[Value]):
    """A value within a model that no result hangs on, such as how many images go through at once.

    >>> from genrobust.reach import reach
    >>> reach({"most": Uncounted(1)}).code == reach({"most": Uncounted(2)}).code
    True
    """

    value: Value


#: What torch.compile notes of its last call.
_OF_LAST_CALL = ("torch._dynamo.convert_frame", "ConvertFrameBox")

#: What ctypes keeps numbers in.
_IN_CTYPES: tuple[type, ...] = (
    *(ctypes._SimpleCData, ctypes.Array, ctypes.Structure, ctypes.Union),
)

#: How a buffer says that it is of numbers, with names or without, and of no addresses.
_OF_NUMBERS = re.compile(r"(T\{)?([@=<>!]?\d*[?cbBhHiIlLqQnNefd](:\w+:)?)+\}?")

#: Whoever follows objects looks into these itself.
_ALL_SEEN = (dict, list, tuple, set, frozenset, str, bytes, int, float, complex, MappingProxyType)

#: Up to how many numbers are asked for of an object that another package keeps them in.
MOST_GIVEN = 10**8

#: How such an object gives them: on its own, or as Pillow's pictures do, to numpy.
_AS_ARRAY: dict[str, Callable[[Any], object]] = {
    "__array__": lambda value: value.__array__(),
    "__array_interface__": np.asarray,
}

#: What such an object may name them by: rows, columns and the like.
_NAMES = (
    *("index", "columns", "column_names", "dtype", "dtypes", "name", "names", "attrs", "mode"),
)

#: Where numba's objects keep what they were made of: functions, classes, stencils.
_OF_NUMBA = (
    *("__wrapped__", "targetoptions", "locals", "jit_methods", "jit_props", "jit_static_methods"),
    *("kernel_ir", "func_id", "func", "options"),
)

#: How objects say what they are made from.
_PICKLING = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs_ex__", "__getnewargs__")


def is_opaque(kind: type) -> bool:
    """Whether objects of a class say nothing of a model: loggers, locks, files and the like."""
    # Handles are numbered, and the numbers count up in a process.
    if kind is RemovableHandle or kind is Uncounted:
        return True
    if issubclass(kind, _IN_CTYPES):
        return False
    if (kind.__module__, kind.__qualname__) == _OF_LAST_CALL:
        return True
    if _top(kind) in _LOGGERS:
        return True
    if kind is local or not _is_standard(kind):
        return False
    return _top(kind) in _TOOLS or issubclass(kind, _TRANSIENT)


def contents(value: Any, kind: type) -> Iterable[object]:
    """What an object of that type holds outside its attributes, in an order of its own.

    >>> from decimal import Decimal
    >>> [*contents(slice(2, 30), slice)][1], [*contents(Decimal("0.1"), Decimal)][1]
    ((2, 30, None), ('0.1',))
    """
    if kind is local:
        return [vars(value)]  # of this thread
    if issubclass(kind, SCRIPTED):
        return held_by_script(value, kind)
    if issubclass(kind, weakref.ref):
        return [weakref.ref.__call__(value)]
    if issubclass(kind, ContextVar):
        return _of_context(value)
    if issubclass(kind, GeneratorType):
        frame = value.gi_frame
        return [value.gi_code, dict(frame.f_locals) if frame else None, value.gi_yieldfrom]
    if issubclass(kind, defaultdict):
        return [value.default_factory]
    if issubclass(kind, deque):
        return [value.maxlen]
    if issubclass(kind, torch.UntypedStorage):
        return [torch.empty(0, dtype=torch.uint8).set_(value)]
    if issubclass(kind, _IN_CTYPES):
        return [_buffer(value, kind)]
    if issubclass(kind, _ALL_SEEN) or any(map(is_opaque, kind.__mro__)):
        return []
    numbers = _buffer(value, kind)
    return _made_from(value, kind) if numbers is None else [numbers]


def given_numbers(value: Any, kind: type) -> list[object]:
    """What an object of a library's gives as an array, and what it is named by; of others nothing.

    >>> given_numbers([1.0], list)
    []
    """
    way = next((way for base in kind.__mro__ for way in _AS_ARRAY if way in vars(base)), None)
    if way is None or hasattr(kind, "__dask_graph__"):  # which computes, or has attributes
        return []
    try:
        # A picture of Pillow's says its size alone.
        shape = getattr(value, "shape" if hasattr(kind, "shape") else "size", None)
        size = math.prod(shape) if isinstance(shape, tuple) else len(value)
        array = _AS_ARRAY[way](value) if size <= MOST_GIVEN else None
        names = [getattr(value, name, None) for name in _NAMES]
    except Exception:  # it is not to be had here: on another device, in a file that is closed
        return []
    if not isinstance(array, np.ndarray):
        return []
    return [array, *(None if callable(name) else name for name in names)]


def compiled_from(value: Any, kind: type) -> list[object]:
    """What numba made such an object of: functions and how to compile them; of others nothing.

    What it has compiled so far differs with what was called, and says nothing more.

    >>> compiled_from(len, type(len))
    []
    """
    held = dictionary(value, kind) if _top(kind) == "numba" else {}
    return [held[name] for name in _OF_NUMBA if name in held]


def dictionary(value: object, kind: type) -> dict[str, object]:
    """The dictionary in which Python keeps an object's attributes, whatever code the class has for
    those that are not there, or in place of it."""
    for base in kind.__mro__:
        member = vars(base).get("__dict__")
        if isinstance(member, (GetSetDescriptorType, MemberDescriptorType)):
            found: dict[str, object] = member.__get__(value)
            return found
    return {}


def _of_context(variable: ContextVar[object]) -> list[object]:
    try:
        return [variable.get()]
    except LookupError:  # neither set nor with a default
        return []


def _buffer(value: Any, kind: type) -> bytes | None:
    """The bytes of what is a row of numbers, and no addresses."""
    if isinstance(getattr(kind, "__buffer__", None), FunctionType):
        return None
    try:
        view = memoryview(value)
    except (TypeError, ValueError, BufferError):
        return None
    return view.format.encode() + view.tobytes() if _OF_NUMBERS.fullmatch(view.format) else None


def _made_from(value: Any, kind: type) -> Iterable[object]:
    """What Python's own types give to pickle; of those that cannot be pickled, what they refer to.

    Types that leave it to ``object`` have nothing but attributes.
    """
    ways = [next((b for b in kind.__mro__ if way in vars(b)), object) for way in _PICKLING]
    if all(map(_is_standard, ways)) and any(base is not object for base in ways):
        reduced: Any = kind.__reduce_ex__  # not the object's own, which a proxy would pass on
        try:
            found = reduced(value, 4)
        except Exception:  # the next best, without a word: many types refuse
            pass
        else:
            if isinstance(found, str):
                return [found]
            return [*found[:3], *(list(items) for items in found[3:5] if items is not None)]
    if _is_standard(kind) and not kind.__dictoffset__:
        return [part for part in gc.get_referents(value) if part is not kind]
    return []


def _is_standard(kind: type) -> bool:
    """Whether a class is of Python itself."""
    module = sys.modules.get(kind.__module__)
    standard = kind.__module__.partition(".")[0] in sys.stdlib_module_names
    return standard and is_library(getattr(module, "__file__", None))


def _top(kind: type) -> str:
    """The module of a class, also of one whose name in C begins with a line."""
    return kind.__module__.partition(".")[0].lstrip("_")

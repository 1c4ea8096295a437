"""Whose code is: that of Python, of installed packages and of genrobust counts by its name."""

from __future__ import annotations

import builtins
import functools
import sys
import types
from collections.abc import Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

from genrobust.projects import is_library
from genrobust.reach.contents import dictionary
from genrobust.reach.values import PLAIN

#: A class or a module of a library, into which others may put something.
Owner = type | ModuleType

#: What any layer may use, so that all code that others put there counts.
EVERYWHERE: tuple[Owner, ...] = (torch, torch.nn.functional, Tensor)

_METHODS = (
    *(FunctionType, staticmethod, classmethod, property),
    *(functools.cached_property, functools.partialmethod, functools._lru_cache_wrapper),
)

#: What kinds of code are made of.
_INSIDE: dict[type, tuple[str, ...]] = {
    **dict.fromkeys((FunctionType, functools._lru_cache_wrapper), ("__wrapped__",)),
    **dict.fromkeys((staticmethod, classmethod, MethodType), ("__func__",)),
    **dict.fromkeys((functools.cached_property, functools.partialmethod), ("func",)),
    property: ("fget", "fset"),
}

_WITHOUT_FILE = {*sys.builtin_module_names, *sys.stdlib_module_names} - {"__main__"}

#: Code in their classes and modules that is theirs, so that it is looked at once in a process.
_THEIRS: set[object] = set()


class Libraries:
    """Tells libraries' code from others'.

    Args:
        own: installed packages whose code is others' all the same.
    """

    def __init__(self, own: frozenset[str]) -> None:
        self.own = own
        self._files: dict[str | None, bool] = {}  # and whether they are libraries'
        self._kinds: dict[int, bool] = {}

    def has_module(self, module: ModuleType) -> bool:
        """Whether a module is a library's."""
        name = str(dictionary(module, type(module)).get("__name__"))
        ours = name == "__main__" or name.partition(".")[0] in self.own
        return not ours and self._has_file(file_of(module))

    def has_code(self, function: FunctionType) -> bool:
        """The same of a function."""
        if str(function.__globals__.get("__name__")).partition(".")[0] in self.own:
            return False
        file: str | None = function.__code__.co_filename
        if str(file).startswith("<") and not str(file).startswith("<frozen "):
            # Made from a string: by a dataclass, or in a notebook, which has no file.
            file = function.__globals__.get("__file__")
            if file is None:
                return False
        return self._has_file(file)

    def has_class(self, kind: type) -> bool:
        """The same of a class."""
        if id(kind) not in self._kinds:
            self._kinds[id(kind)] = self._finds_class(kind)
        return self._kinds[id(kind)]

    def is_anothers(self, value: Any) -> bool:
        """Whether it is code, or an object of a class, that is no library's."""
        kind = type(value)
        if kind is FunctionType and not self.has_code(value):
            return True
        inner = [getattr(value, name, None) for name in _INSIDE.get(kind, ())]
        if inner:
            return any(self.is_anothers(part) for part in inner if part is not None)
        if issubclass(kind, ModuleType):
            return not self.has_module(value)
        if kind is functools.partial:  # what it binds is nobody's
            return True
        owner = value if issubclass(kind, type) else kind
        # A class of a module that is not there may be a library's all the same.
        return str(owner.__module__) in sys.modules and not self.has_class(owner)

    def code_put_into(self, space: Mapping[str, object]) -> list[str]:
        """Names under which a library's class or module holds others' code."""
        found = []
        for name, value in list(space.items()):
            if type(value) in _METHODS and (self.own or value not in _THEIRS):
                if self.is_anothers(value):
                    found.append(name)
                elif not self.own:
                    _THEIRS.add(value)
        return found

    def is_put(self, owner: Owner, name: str, value: object) -> bool:
        """Whether it may not be the library's: plain values never say whose they are."""
        if value is None:  # nothing, or a library's that is not made yet
            return False
        if type(value) in PLAIN:
            where = owner.__module__ if isinstance(owner, type) else name_of(owner)
            # Of plain values all that is in `builtins` was put there, but for what shells keep.
            standard = str(where).partition(".")[0] in sys.stdlib_module_names - {"builtins"}
            return not standard and not name.startswith("_" if owner is builtins else "__")
        return self.is_anothers(value)

    def _has_file(self, file: str | None) -> bool:
        if file not in self._files:
            self._files[file] = is_library(file)
        return self._files[file]

    def _finds_class(self, kind: type) -> bool:
        name: object = kind.__module__
        if not isinstance(name, str):  # it is told of each object: of a type that is made in C
            return True
        top = name.partition(".")[0]
        if top in self.own or top == "__main__":
            return False
        module = sys.modules.get(name)
        made = module is types and kind.__qualname__ not in vars(types)  # by `make_dataclass`, say
        if module is None or made:
            return False
        file = file_of(module)
        # A class made in a shell lives in a module without a file, and so do built-in ones.
        return self._has_file(file) if file is not None else top in _WITHOUT_FILE


def library(module: object) -> tuple[str, str]:
    """A library's module, and which release it is of."""
    top = sys.modules.get(str(module).partition(".")[0])
    return str(module), str(getattr(top, "__version__", ""))


def is_code(value: object) -> bool:
    """Whether a class's attribute is a method of some kind, or a descriptor like one."""
    return isinstance(value, _METHODS)


def space_of(owner: Owner) -> Mapping[str, Any]:
    return vars(owner) if isinstance(owner, type) else dictionary(owner, type(owner))


def name_of(owner: Owner) -> str:
    if isinstance(owner, type):
        return owner.__qualname__
    return str(dictionary(owner, type(owner)).get("__name__"))


def file_of(module: object) -> str | None:
    """Where a module comes from; of a folder without ``__init__.py`` the folder."""
    space: Any = dictionary(module, type(module))
    return space.get("__file__") or next(iter(space.get("__path__", ())), None)

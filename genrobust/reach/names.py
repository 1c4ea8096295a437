"""What code names: of modules and classes that counts which some code may use."""

from __future__ import annotations

import dis
import re
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

from genrobust.projects import plain_name
from genrobust.reach.contents import dictionary
from genrobust.reach.imports import imported_by
from genrobust.reach.libraries import Libraries, is_code
from genrobust.reach.values import is_number

#: How long a string may be that names something, with its dots.
LONGEST_NAME = 200

#: Attributes of a class that are no part of what it does.
NO_CODE = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__slots__"} | {
    "__qualname__", "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl",
    "__parameters__", "__orig_bases__", "__dataclass_fields__", "__dataclass_params__",
}  # fmt: skip

#: What only makes an object, which is there already.
_MAKING = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__class_getitem__"}

#: What gives no number. How an object is written is more: a table may be looked up by it.
_NO_NUMBER = {"__del__", "__sizeof__", "__reduce__", "__reduce_ex__"}

#: Code with these in it may reach attributes that it does not name,
_DYNAMIC = {"getattr", "methodcaller", "attrgetter", "eval", "exec", "vars", "__dict__"} | {
    "getmembers", "getmembers_static", "getattr_static", "__getattribute__",
}  # fmt: skip

#: those of modules,
_LOOKING_UP = _DYNAMIC - {"eval", "exec"} | {"resolve_name", "locate"}

#: and globals of its own.
_OWN_GLOBALS = {"globals", "eval", "exec"}

#: What says something of a class to those who read it, under one of these names.
_READ_AS = {
    "__doc__": {"__doc__", "getdoc"},
    "__annotations__": {"__annotations__", "get_annotations", "get_type_hints"},
    "__dataclass_fields__": {"__dataclass_fields__", "fields"},
}

_LOADING = {"LOAD_GLOBAL", "LOAD_NAME"}

#: What import writes into a module: where it lies, and what this process calls it.
_OF_IMPORT = {"__name__", "__file__", "__path__", "__spec__", "__loader__", "__package__"} | {
    "__cached__", "__builtins__",
}  # fmt: skip


class Names:
    """The names in all code that was read, and the strings where names are looked up."""

    def __init__(self, libraries: Libraries) -> None:
        self.used: set[str] = set()
        self.said: set[str] = set()  # in strings
        self.looked_up: set[str] = set()  # modules in which names are looked up
        self._libraries = libraries

    def hear(self, constant: object) -> None:
        """Remember a string: where names are looked up it may be one."""
        if isinstance(constant, str) and len(constant) <= LONGEST_NAME:
            self.said.update(re.split("[.:]", constant))
            self.said.update(part.strip(".") for part in constant.split(":"))
        elif isinstance(constant, (tuple, frozenset)):
            for part in constant:
                self.hear(part)

    def of_module(self, where: str, space: dict[str, object]) -> list[str]:
        """What some code names, or may look up: what strings name, and all plain values."""
        wanted = self.used & space.keys()
        if self.looked_up or self.used & _LOOKING_UP:
            wanted |= self.said & space.keys()
        if where in self.looked_up:
            public = (name for name in map(str, list(space)) if not name.startswith("_"))
            wanted |= {name for name in public if is_number(space.get(name))}
        wanted |= {"__getattr__"} & space.keys()
        return sorted(wanted - _OF_IMPORT)

    def may_read(self, name: str) -> bool:
        """Whether some code may read what is said of functions or classes under a name."""
        return name in self.said or not _READ_AS[name].isdisjoint(self.used)

    def wants(self, kind: type, name: str, called: bool) -> bool:
        """Whether some code may use what a class has under a name; ``called``: makes objects."""
        if name in _READ_AS:
            return self.may_read(name)
        if name in NO_CODE or name in _NO_NUMBER or not is_code(vars(kind)[name]):
            return False
        if name in _MAKING:
            return called or name in self.used
        special = name.startswith("__") and name.endswith("__")
        if special or name in self.used or self.used & _DYNAMIC:
            return True
        return any(
            name in vars(base) for base in kind.__mro__[1:] if self._libraries.has_class(base)
        )

    def note_lookups(self, function: FunctionType) -> None:
        """Note in which modules a function looks for names that are values."""
        names = _names_of(function.__code__)
        if names & _LOOKING_UP:
            used = [*(value for _, value in globals_of(function)), *imported_by(function)]
            spaces = [dictionary(v, type(v)) for v in used if issubclass(type(v), ModuleType)]
            self.looked_up.update(plain_name(str(space.get("__name__"))) for space in spaces)
        if looks_into_own(function):
            self.looked_up.add(plain_name(str(function.__globals__.get("__name__"))))


def looks_into_own(function: FunctionType) -> bool:
    """Whether a function looks names up in its own module."""
    # `eval` is what torch calls a method, too.
    return not _OWN_GLOBALS.isdisjoint(_arguments_of(function.__code__, _LOADING))


def globals_of(function: FunctionType) -> Iterator[tuple[str, object]]:
    """The globals that a function names, and those that functions inside it name."""
    for name in dict.fromkeys(_arguments_of(function.__code__, _LOADING)):
        if name in function.__globals__ and name not in _OF_IMPORT:
            yield name, function.__globals__[name]


def _arguments_of(code: CodeType, operations: set[str]) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in operations:
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _arguments_of(constant, operations)


def _names_of(code: CodeType) -> set[str]:
    """All names in a function's code, and in that of functions inside it."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(_names_of, inner))


def is_name(text: str) -> bool:
    """Whether a string may be a module's name."""
    return text != "__main__" and all(part.isidentifier() for part in text.split("."))

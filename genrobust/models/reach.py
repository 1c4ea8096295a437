"""What functions reach: the code they may run, the values it uses, and the tensors among them.

Nothing is executed: functions are read as bytecode, and what their closures, defaults, globals and
``self`` hold is followed, through modules and objects, as deep as it goes. Of a module that counts
which code names, also in a string where code looks names up. The code of Python, of installed
packages and of genrobust counts by its name and version.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import re
import sys
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrobust import files
from genrobust.models.contents import contents, is_opaque
from genrobust.projects import is_library, plain_name

#: How many values are looked at; what a model does is tried besides.
MOST = 200_000

#: How deep they lie.
DEEPEST = 120

#: How many entries of a container of objects are looked at, from each end.
ENDS = 5_000

#: How many values of each object in a set, to tell it from the others.
GLANCE = 1_000


@dataclass(frozen=True, eq=False)
class Reach:
    """What was found.

    Args:
        code: sha256 of the code and of all values but tensors.
        tensors: the tensors and numeric arrays, by where they were found first.
    """

    code: str
    tensors: dict[str, Tensor]


def reach(roots: Mapping[str, object], own: Collection[str] = ()) -> Reach:
    """Follow what these functions, classes or objects reach.

    Args:
        roots: by name.
        own: installed packages whose code is read all the same.

    Example:
        >>> found = reach({"layer": torch.nn.LeakyReLU(0.1), "scale": torch.ones(2)})
        >>> list(found.tensors)
        ['scale']
        >>> found.code == reach({"layer": torch.nn.LeakyReLU(0.2), "scale": torch.ones(2)}).code
        False
    """
    walk = _Walk(frozenset(own))
    for name, value in roots.items():
        walk.visit(name, value)
    walk.visit_what_was_named()
    return Reach(walk.digest.hexdigest(), walk.tensors)


#: How long a string may be that names something, with its dots.
LONGEST_NAME = 200

#: Values that are what they look like.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range)
#: Of these one object may stand for two of one value in one process, and not in all.
_UNSHARED = (tuple, frozenset, re.Pattern)

_BY_REPR = (PurePath, Fraction, torch.dtype, torch.device, torch.layout, torch.memory_format)

_METHODS = (
    *(FunctionType, staticmethod, classmethod, property),
    *(functools.cached_property, functools.partialmethod, functools._lru_cache_wrapper),
)

_WITHOUT_FILE = {*sys.builtin_module_names, *sys.stdlib_module_names} - {"__main__"}

#: Attributes of a class that are no part of what it does.
_NO_CODE = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__slots__"} | {
    "__qualname__", "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl",
    "__parameters__", "__orig_bases__", "__match_args__", "__dataclass_fields__",
    "__dataclass_params__",
}  # fmt: skip

#: What only makes an object, which is there already.
_MAKING = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__class_getitem__"}
_SHOWING = {"__repr__", "__str__", "__del__", "__sizeof__", "__reduce__", "__reduce_ex__"}

#: Code with these in it may reach attributes that it does not name,
_DYNAMIC = {"getattr", "methodcaller", "attrgetter", "eval", "exec", "vars", "__dict__"}

#: those of modules,
_LOOKING_UP = {"getattr", "methodcaller", "attrgetter", "vars", "__dict__"}

#: and globals of its own.
_OWN_GLOBALS = {"globals", "eval", "exec"}

_LOADING = {"LOAD_GLOBAL", "LOAD_NAME"}

#: What import writes into a module: where it lies, and what this process calls it.
_OF_IMPORT = {"__name__", "__file__", "__path__", "__spec__", "__loader__", "__package__"} | {
    "__cached__", "__builtins__", "__doc__",
}  # fmt: skip


class _Walk:
    """One pass over all that is reached, in an order that is the same in every process."""

    def __init__(self, own: frozenset[str], most: int = MOST, aside: bool = False) -> None:
        self.own = own
        self.aside = aside
        self.digest = hashlib.sha256()
        self.tensors: dict[str, Tensor] = {}
        self.names: set[str] = set()
        self.said: set[str] = set()  # in strings
        self.seen: dict[int, int] = {}
        self.kept: list[object] = []  # so that no number in `seen` is given out again
        self.classes: dict[type, bool] = {}  # and whether it may be called
        self.modules: dict[str, dict[str, object]] = {}  # what they define
        self.looked_up: set[str] = set()  # modules in which names are looked up
        self.left = most
        self.depth = 0

    def emit(self, *words: object) -> None:
        self.digest.update(repr(words).encode("utf-8", "backslashreplace"))

    def visit(self, path: str, value: object) -> None:
        """Follow one value."""
        kind = type(value)
        if self.left == 0 or self.depth == DEEPEST:
            return
        self.left -= 1
        if kind in _PLAIN:
            self.emit(kind.__name__, _plain(value))
            self._hear(value)
            return
        if kind not in _UNSHARED:
            if id(value) in self.seen:
                self.emit("again", self.seen[id(value)])
                return
            self.seen[id(value)] = len(self.seen)
            self.kept.append(value)
        self.depth += 1
        try:
            self._follow(path, value, kind)
        finally:
            self.depth -= 1

    def visit_what_was_named(self) -> None:
        """Methods of classes and attributes of modules whose names some code uses, to the last."""
        done: set[tuple[int, str]] = set()
        before = -1
        while before != len(done):
            before = len(done)
            for kind, called in list(self.classes.items()):
                for name, value in list(vars(kind).items()):
                    if (id(kind), name) not in done and self._is_wanted(kind, name, called):
                        done.add((id(kind), name))
                        self.emit("method", kind.__qualname__, name)
                        self.visit(f"{kind.__qualname__}.{name}", value)
            for where, space in list(self.modules.items()):
                for name in self._wanted_of(where, space):
                    if (id(space), name) not in done:
                        done.add((id(space), name))
                        self.emit("global", where, name)
                        self.visit(f"{where}.{name}", space[name])

    def _wanted_of(self, where: str, space: dict[str, object]) -> list[str]:
        """What some code names, or may look up: what strings name, and all plain values."""
        wanted = self.names & space.keys()
        if self.looked_up or self.names & _LOOKING_UP:
            wanted |= self.said & space.keys()
        if where in self.looked_up:
            public = (name for name in map(str, list(space)) if not name.startswith("_"))
            wanted |= {name for name in public if _is_number(space.get(name))}
        return sorted(wanted - _OF_IMPORT)

    def _is_wanted(self, kind: type, name: str, called: bool) -> bool:
        if name in _NO_CODE or name in _SHOWING or not _is_code(vars(kind)[name]):
            return False
        if name in _MAKING:
            return called or name in self.names
        special = name.startswith("__") and name.endswith("__")
        if special or name in self.names or self.names & _DYNAMIC:
            return True
        return any(name in vars(base) for base in kind.__mro__[1:] if self._is_library(base))

    def _follow(self, path: str, value: Any, kind: type) -> None:
        if issubclass(kind, Tensor):
            self.emit("tensor")
            if not value.is_meta:  # a shape without numbers
                self._keep(path, _dense(value))
        elif issubclass(kind, np.ndarray):
            self._follow_array(path, value)
        elif issubclass(kind, np.generic):
            self.emit(kind.__name__, value.tobytes())
        elif issubclass(kind, enum.Enum):
            self.emit("enum", kind.__qualname__, value.name)
            self.visit(path, value.value)
        elif issubclass(kind, _BY_REPR):
            self.emit(kind.__name__, str(value))
        elif kind is re.Pattern:
            self.emit("pattern", value.pattern, value.flags)
        elif kind is CodeType:
            self._follow_code(value)
        elif kind is FunctionType:
            self._follow_function(path, value)
        elif kind is MethodType:
            self.emit("method")
            self.visit(path, value.__func__)
            self.visit(path, value.__self__)
        elif issubclass(kind, functools.partial):
            self.emit("partial")
            for part in (value.func, value.args, value.keywords):
                self.visit(path, part)
        elif issubclass(kind, (staticmethod, classmethod)) or kind is functools._lru_cache_wrapper:
            self.emit(kind.__name__)
            self.visit(path, value.__wrapped__)
        elif kind is property:
            self.emit("property")
            for part in (value.fget, value.fset):
                self.visit(path, part)
        elif kind is functools.cached_property:
            self.emit("property")
            self.visit(path, value.func)
        elif kind is BuiltinFunctionType:
            self.emit("built-in", value.__qualname__)
            if not isinstance(value.__self__, ModuleType):
                self.visit(path, value.__self__)
        elif issubclass(kind, type):
            self._follow_class(path, value, called=True)
        elif issubclass(kind, ModuleType):
            self._follow_module(value)
        elif kind is CellType:
            self.visit(path, value.cell_contents if _is_filled(value) else None)
        else:
            self._follow_object(path, value, kind)

    def _keep(self, path: str, tensor: Tensor) -> None:
        name, again = path, 2
        while name in self.tensors:
            name, again = f"{path}#{again}", again + 1
        self.tensors[name] = tensor

    def _follow_array(self, path: str, array: np.ndarray[Any, Any]) -> None:
        self.emit("array")
        if array.dtype.kind in "biufcSU":
            content = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
            self._keep(f"{path}:{array.dtype}{array.shape}", content)
        else:
            self.visit(path, array.tolist())

    def _follow_function(self, path: str, function: FunctionType) -> None:
        code = function.__code__
        if self._is_library_code(function):
            self.emit("function", *_library(function.__globals__.get("__name__")), code.co_name)
            prefix = path  # how a library calls its variables is not the model's
        else:
            prefix = ""
            self.emit("function", code.co_name)
            self._follow_code(code)
            self._follow_looking_up(function)
            for name, used in _globals_of(function):
                self.emit("global", name)
                self.visit(f"{path}.{name}", used)
            for module in _imported_by(function):
                if issubclass(type(module), ModuleType):
                    self._follow_module(module)
                else:  # some put an object in place of their module
                    self.visit(path, module)
        for default in (function.__defaults__, function.__kwdefaults__):
            self.visit(path, default)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name == "__class__" and _is_filled(cell):  # what super() stands for makes nothing
                self._follow_class(path, cell.cell_contents, called=False)
            else:
                self.visit(prefix or f"{path}.{name}", cell)
        for name, attribute in vars(function).items():
            self.emit(name)
            self.visit(path, attribute)

    def _follow_looking_up(self, function: FunctionType) -> None:
        """Note in which modules a function looks for names that are values."""
        names = _names_of(function.__code__)
        if names & _LOOKING_UP:
            used = [*(value for _, value in _globals_of(function)), *_imported_by(function)]
            spaces = [_dictionary(v, type(v)) for v in used if issubclass(type(v), ModuleType)]
            self.looked_up.update(plain_name(str(space.get("__name__"))) for space in spaces)
        # `eval` is what torch calls a method, too.
        if _OWN_GLOBALS.intersection(_arguments_of(function.__code__, _LOADING)):
            where = plain_name(str(function.__globals__.get("__name__")))
            self.modules.setdefault(where, function.__globals__)
            self.looked_up.add(where)

    def _hear(self, constant: object) -> None:
        """Remember a string: where names are looked up it may be one."""
        if isinstance(constant, str) and len(constant) <= LONGEST_NAME:
            self.said.update(constant.split("."))
        elif isinstance(constant, (tuple, frozenset)):
            for part in constant:
                self._hear(part)

    def _follow_code(self, code: CodeType) -> None:
        self.names.update(code.co_names)
        self.emit("code", code.co_code, code.co_names, code.co_argcount, code.co_kwonlyargcount)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._follow_code(constant)
            else:
                self.emit(_constant(constant))
                self._hear(constant)

    def _follow_class(self, path: str, kind: type, called: bool) -> None:
        for base in kind.__mro__:
            if self._is_library(base):
                self.emit("class", *_library(base.__module__), base.__qualname__)
                continue
            new = base not in self.classes
            self.classes[base] = called or self.classes.get(base, False)
            self.emit("class", base.__qualname__)
            for name, value in vars(base).items() if new else ():
                if name not in _NO_CODE and not _is_code(value):
                    self.emit(name)
                    self.visit(f"{path}.{name}", value)

    def _follow_module(self, module: ModuleType) -> None:
        space = _dictionary(module, type(module))
        name = str(space.get("__name__"))
        if (
            is_library(_file_of(module))
            and name != "__main__"
            and name.partition(".")[0] not in self.own
        ):
            self.emit("module", *_library(name))
            return
        self.emit("module", plain_name(name))
        self.modules.setdefault(plain_name(name), space)

    def _follow_object(self, path: str, value: Any, kind: type) -> None:
        self._follow_class(path, kind, called=False)
        if issubclass(kind, torch.jit.ScriptModule):
            self.emit(str(getattr(value, "code", "")))
        if issubclass(kind, (dict, MappingProxyType)):
            self._follow_items(path, value)
        elif issubclass(kind, (list, tuple, deque)):
            self._follow_sequence(path, value)
        elif issubclass(kind, (set, frozenset)):
            self._follow_set(path, value)
        elif issubclass(kind, (str, bytes, int, float, complex)):
            plain: Any = next(base for base in _PLAIN if issubclass(kind, base))
            self.emit(plain.__repr__(value))
        elif is_opaque(kind):
            return
        for part in contents(value, kind):
            self.visit(path, part)
        for name, attribute in _attributes(value, kind):
            self.emit(name)
            if name.endswith("_hooks") and isinstance(attribute, dict):
                attribute = list(attribute.values())  # the keys count up in a process
            self.visit(f"{path}.{name}", attribute)

    def _follow_items(self, path: str, value: Mapping[Any, Any]) -> None:
        items = _items(value)
        self.emit(len(items))
        for key, held in _ends(items):
            self.visit(path, key)
            self.visit(f"{path}.{key}" if isinstance(key, str) else path, held)

    def _follow_sequence(self, path: str, value: Collection[Any]) -> None:
        held = _held(value)
        self.emit(len(held))
        if len(held) > 2 * ENDS and all(type(item) in _PLAIN for item in held):
            self.emit([_plain(item) for item in held])
            return
        for item in _ends(held):
            self.visit(path, item)

    def _follow_set(self, path: str, value: Collection[Any]) -> None:
        """What is in a set, in an order that hangs on no hash."""
        held = _held(value)
        self.emit(len(held))
        if self.aside or all(map(_is_constant, held)):
            self.emit(
                sorted(_constant(v) if _is_constant(v) else type(v).__qualname__ for v in held)
            )
            for item in held:
                self._hear(item)
            return
        for item in _ends(sorted(held, key=self._place_of)):
            self.visit(path, item)

    def _place_of(self, item: object) -> str:
        """What an item of a set is sorted by: when it was seen first, or all that it is."""
        if _is_constant(item):
            return _constant(item)
        if id(item) in self.seen:
            return f"{self.seen[id(item)]:09}"
        walk = _Walk(self.own, most=min(GLANCE, self.left), aside=True)
        before = walk.left
        walk.visit("", item)
        self.left -= before - walk.left
        return walk.digest.hexdigest() + files.sha256_of_tensors(walk.tensors)

    def _is_library_code(self, function: FunctionType) -> bool:
        if str(function.__globals__.get("__name__")).partition(".")[0] in self.own:
            return False
        file: str | None = function.__code__.co_filename
        if str(file).startswith("<") and not str(file).startswith("<frozen "):
            # Made from a string: by a dataclass, or in a notebook, which has no file.
            file = function.__globals__.get("__file__")
            if file is None:
                return False
        return is_library(file)

    def _is_library(self, kind: type) -> bool:
        top = kind.__module__.partition(".")[0]
        if top in self.own or top == "__main__":
            return False
        module = sys.modules.get(kind.__module__)
        if module is None:
            return False
        file = _file_of(module)
        # A class made in a shell lives in a module without a file, and so do built-in ones.
        return is_library(file) if file is not None else top in _WITHOUT_FILE


def _file_of(module: object) -> str | None:
    """Where a module comes from; of a folder without ``__init__.py`` the folder."""
    space: Any = _dictionary(module, type(module))
    return space.get("__file__") or next(iter(space.get("__path__", ())), None)


def _is_code(value: object) -> bool:
    """Whether a class's attribute is a method of some kind, or a descriptor like one."""
    return isinstance(value, _METHODS)


def _dense(tensor: Tensor) -> Tensor:
    """The numbers of a tensor, whatever it keeps them in."""
    if tensor.is_quantized:
        return tensor.int_repr()
    if tensor.layout != torch.strided:
        return tensor.to_dense()
    return tensor.resolve_conj().resolve_neg()


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty one raises
    except ValueError:
        return False
    return True


def _attributes(value: object, kind: type) -> Iterator[tuple[str, object]]:
    """Of an object: what its dictionary and its slots hold; nothing is computed."""
    yield from list(_dictionary(value, kind).items())
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            member = vars(base).get(name)
            if isinstance(member, MemberDescriptorType):
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # not set
                    continue


def _dictionary(value: object, kind: type) -> dict[str, object]:
    """The dictionary in which Python keeps an object's attributes, whatever code the class has for
    those that are not there, or in place of it."""
    for base in kind.__mro__:
        member = vars(base).get("__dict__")
        if isinstance(member, (GetSetDescriptorType, MemberDescriptorType)):
            found: dict[str, object] = member.__get__(value)
            return found
    return {}


def _held(value: Collection[Any]) -> list[Any]:
    """What a container of Python's holds, also where its class has code for going through it."""
    kinds: tuple[Any, ...] = (list, tuple, deque, set, frozenset)
    plain = next(kind for kind in kinds if issubclass(type(value), kind))
    return [*plain.__iter__(value)]


def _items(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """The same of a dictionary, in pairs."""
    kinds: tuple[Any, ...] = (OrderedDict, dict, MappingProxyType)
    plain = next(kind for kind in kinds if issubclass(type(value), kind))
    return [*plain.items(value)]


def _ends(items: list[Any]) -> Iterable[Any]:
    return items if len(items) <= 2 * ENDS else [*items[:ENDS], *items[-ENDS:]]


def _globals_of(function: FunctionType) -> Iterator[tuple[str, object]]:
    """The globals that a function names, and those that functions inside it name."""
    for name in dict.fromkeys(_arguments_of(function.__code__, _LOADING)):
        if name in function.__globals__ and name not in _OF_IMPORT:
            yield name, function.__globals__[name]


def _imported_by(function: FunctionType) -> Iterator[Any]:
    """The modules that statements in a function import, as far as they were run."""
    package = str(function.__globals__.get("__package__") or "")
    parents = [".".join(package.split(".")[:end]) for end in range(package.count(".") + 1, 0, -1)]
    for name in dict.fromkeys(_arguments_of(function.__code__, {"IMPORT_NAME"})):
        for place in (*(f"{parent}.{name}".rstrip(".") for parent in parents), name):
            if place in sys.modules:
                yield sys.modules[place]
                break


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


def _is_number(value: object) -> bool:
    """Whether it is a plain value, or plain values in a tensor or an array."""
    return type(value) in _PLAIN or issubclass(type(value), (Tensor, np.ndarray, np.generic))


def _plain(value: object) -> object:
    """The value, or what stands for it in every process.

    Python gives no decimal digits of huge numbers, and a file's ``__name__`` counts up.
    """
    if type(value) is int:
        return hex(value)
    return plain_name(value) if type(value) is str else value


def _constant(value: object) -> str:
    """A constant of code as text that is one in every process."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, value))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))},)"
    return f"{type(value).__name__} {_plain(value)!r}"


def _is_constant(value: object) -> bool:
    if type(value) is tuple or type(value) is frozenset:
        return all(map(_is_constant, value))
    return type(value) in _PLAIN


def _library(module: object) -> tuple[str, str]:
    """A library's module, and which release it is of."""
    top = sys.modules.get(str(module).partition(".")[0])
    return str(module), str(getattr(top, "__version__", ""))

"""What functions reach: the code they may run, the values it uses, and the tensors among them.

Nothing is executed: functions are read as bytecode, and what their closures, defaults, globals and
``self`` hold is followed, through modules and objects, as deep and as far as it goes. Of a module
that counts which code names, also in a string where code looks names up. The code of Python, of
installed packages and of genrobust counts by its name and version, but for what others put into it.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import math
import re
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
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
from genrobust.models.contents import contents, dictionary, is_opaque
from genrobust.models.imports import (
    Folders,
    folders_of,
    imported_as,
    imported_by,
    imports_by_name,
    package_of,
    sources_in,
    sources_of,
)
from genrobust.projects import is_library, plain_name

#: From how many on plain values in a row are told in one breath.
MANY = 10_000

#: How many values of each object in a set are looked at, to tell it from the others,
GLANCE = 1_000

#: and how many of all of them: where that is not enough, their order is another in each process.
GLANCES = 200_000

#: How long the name of a tensor's place may be before it is shortened.
LONGEST_PLACE = 4_000


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
    walk.visit_hooks_of_all_modules()
    walk.visit_what_was_named()
    return Reach(walk.digest.hexdigest(), walk.tensors)


#: How long a string may be that names something, with its dots.
LONGEST_NAME = 200

#: Values that are what they look like.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range)
_ALL_PLAIN = frozenset(_PLAIN)
#: Of these one object may stand for two of one value in one process, and not in all,
#: unless they hold something else than values.
_UNSHARED = (tuple, frozenset, re.Pattern)

_BY_REPR = (PurePath, Fraction, torch.dtype, torch.device, torch.layout, torch.memory_format)

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

#: What Python keeps in the members of an enum.
_OF_ENUM = {"_value_", "_name_", "_sort_order_", "__objclass__"}

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


#: Values that are to be followed, each with its place.
Steps = Iterator[tuple[str, object]]


#: A class or a module of a library, into which others may put something.
Owner = type | ModuleType

#: What any layer may use, so that all code that others put there counts.
_EVERYWHERE: tuple[Owner, ...] = (torch, torch.nn.functional, Tensor)


#: Code in their classes and modules that is theirs, so that it is looked at once in a process.
_THEIRS: set[object] = set()


class _Walk:
    """One pass over all that is reached, in an order that is the same in every process."""

    def __init__(self, own: frozenset[str], most: float = math.inf, aside: bool = False) -> None:
        self.own = own
        self.aside = aside
        self.digest = hashlib.sha256()
        self.tensors: dict[str, Tensor] = {}
        self.names: set[str] = set()
        self.said: set[str] = set()  # in strings
        self.seen: dict[int, int] = {}
        self.unshared: dict[int, int] = {}
        self.kept: list[object] = []  # so that no number in `seen` is given out again
        self.classes: dict[int, tuple[type, bool]] = {}  # and whether it may be called
        self.modules: dict[str, dict[str, object]] = {}  # what they define
        self.libraries: dict[int, Owner] = {id(owner): owner for owner in _EVERYWHERE}
        self.put: dict[int, list[str]] = {}  # code that is not theirs
        self.packages: dict[str, None] = {}  # in which imports are looked for
        self.looked_for: set[tuple[str, str]] = set()
        self.sources: set[Path] = set()
        self.files: dict[str | None, bool] = {}  # and whether they are libraries'
        self.theirs: dict[int, bool] = {}
        self.looked_up: set[str] = set()  # modules in which names are looked up
        self.left = most
        self.glances = GLANCES

    def emit(self, *words: object) -> None:
        self.digest.update(repr(words).encode("utf-8", "backslashreplace"))

    def visit(self, path: str, value: object) -> None:
        """Follow one value, and what hangs on it: at each step the whole of it before the next."""
        under_way: list[Steps] = [iter([(path, value)])]
        while under_way:
            step = next(under_way[-1], None)
            if step is None:
                under_way.pop()
            elif ahead := self._enter(*step):
                under_way.append(ahead)

    def _tell(self, values: list[object]) -> None:
        """The same as of plain values one by one."""
        told = "".join([repr((type(value).__name__, _plain(value))) for value in values])
        self.digest.update(told.encode("utf-8", "backslashreplace"))
        for value in values:
            self._hear(value)

    def _enter(self, path: str, value: object) -> Steps | None:
        """Tell one value; what hangs on it comes next, unless it was seen before."""
        kind = type(value)
        if self.left == 0:
            return None
        self.left -= 1
        if kind in _PLAIN:
            self.emit(kind.__name__, _plain(value))
            self._hear(value)
            return None
        seen = self.unshared if kind in _UNSHARED else self.seen
        if id(value) in seen and not _may_be_shared(value, kind):
            self.emit("again", seen[id(value)])
            return None
        seen.setdefault(id(value), len(seen))
        self.kept.append(value)
        return self._follow(_place(path), value, kind)

    def visit_hooks_of_all_modules(self) -> None:
        """What torch calls after or before any module, unless it is a library's."""
        for name, hooks in sorted(vars(torch.nn.modules.module).items()):
            if name.startswith("_global_") and isinstance(hooks, dict):
                for hook in list(hooks.values()):
                    if self._is_anothers(hook):
                        self.emit("hook", name)
                        self.visit(name, hook)

    def visit_what_was_named(self) -> None:
        """Methods of classes and attributes of modules whose names some code uses, to the last."""
        done: set[tuple[int, str]] = set()
        before = -1
        while before != len(done):
            before = len(done)
            self._follow_said_modules()
            for kind, called in list(self.classes.values()):
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
            for owner in list(self.libraries.values()):
                for name in self._put_into(owner):
                    if (id(owner), name) not in done:
                        done.add((id(owner), name))
                        self.emit("put", _name_of(owner), name)
                        self.visit(f"{_name_of(owner)}.{name}", _space_of(owner)[name])

    def _wanted_of(self, where: str, space: dict[str, object]) -> list[str]:
        """What some code names, or may look up: what strings name, and all plain values."""
        wanted = self.names & space.keys()
        if self.looked_up or self.names & _LOOKING_UP:
            wanted |= self.said & space.keys()
        if where in self.looked_up:
            public = (name for name in map(str, list(space)) if not name.startswith("_"))
            wanted |= {name for name in public if _is_number(space.get(name))}
        wanted |= {"__getattr__"} & space.keys()
        return sorted(wanted - _OF_IMPORT)

    def _put_into(self, owner: Owner) -> list[str]:
        """Names under which others put something into a library's class or module.

        Of code all counts in classes, and in what any layer may use; elsewhere, and of values, what
        some code names.
        """
        space = _space_of(owner)
        if id(owner) not in self.put:
            whole = isinstance(owner, type) or any(owner is place for place in _EVERYWHERE)
            self.put[id(owner)] = self._code_put_into(space) if whole else []
        named = (n for n in self.names & space.keys() if self._is_put(owner, n, space[n]))
        return sorted({*self.put[id(owner)], *named})

    def _code_put_into(self, space: Mapping[str, object]) -> list[str]:
        found = []
        for name, value in list(space.items()):
            if type(value) in _METHODS and (self.own or value not in _THEIRS):
                if self._is_anothers(value):
                    found.append(name)
                elif not self.own:
                    _THEIRS.add(value)
        return found

    def _is_put(self, owner: Owner, name: str, value: object) -> bool:
        """Whether it may not be the library's: plain values never say whose they are."""
        if value is None:  # nothing, or a library's that is not made yet
            return False
        if type(value) in _PLAIN:
            where = owner.__module__ if isinstance(owner, type) else _name_of(owner)
            standard = str(where).partition(".")[0] in sys.stdlib_module_names
            return not standard and not name.startswith("__")
        return self._is_anothers(value)

    def _is_wanted(self, kind: type, name: str, called: bool) -> bool:
        if name in _READ_AS:
            return not (_READ_AS[name].isdisjoint(self.names) and name not in self.said)
        if name in _NO_CODE or name in _SHOWING or not _is_code(vars(kind)[name]):
            return False
        if name in _MAKING:
            return called or name in self.names
        special = name.startswith("__") and name.endswith("__")
        if special or name in self.names or self.names & _DYNAMIC:
            return True
        return any(name in vars(base) for base in kind.__mro__[1:] if self._is_library(base))

    def _follow(self, path: str, value: Any, kind: type) -> Steps:
        if issubclass(kind, Tensor):
            self.emit("tensor")
            tensor = value if self._is_library(kind) else _without_class(value)
            if not tensor.is_meta:  # a shape without numbers
                self._keep(path, _dense(tensor))
            if tensor.is_quantized:
                self.emit(_scale(tensor))
            yield from self._follow_put_on(path, value, kind)
        elif issubclass(kind, np.ndarray):
            yield from self._follow_array(path, value)
            if kind is not np.memmap:  # which knows where its file lies
                yield from self._follow_put_on(path, value, kind)
        elif issubclass(kind, np.generic):
            self.emit(kind.__name__, value.tobytes())
        elif issubclass(kind, enum.Enum):
            self.emit("enum", kind.__qualname__, value._name_)
            yield path, value._value_
            if not self._is_library(kind):
                yield from self._follow_put_on(path, value, kind)
        elif any(base is named for base in kind.__mro__ for named in _BY_REPR):
            self.emit(kind.__name__, str(value))
        elif kind is re.Pattern:
            self.emit("pattern", value.pattern, value.flags)
        elif kind is CodeType:
            self._follow_code(value)
        elif kind is FunctionType:
            yield from self._follow_function(path, value)
        elif kind is MethodType:
            self.emit("method")
            yield path, value.__func__
            yield path, value.__self__
        elif issubclass(kind, functools.partial):
            self.emit("partial")
            for part in (value.func, value.args, value.keywords):
                yield path, part
        elif issubclass(kind, (staticmethod, classmethod)) or kind is functools._lru_cache_wrapper:
            self.emit(kind.__name__)
            yield path, value.__wrapped__
        elif kind is property:
            self.emit("property")
            for part in (value.fget, value.fset):
                yield path, part
        elif kind is functools.cached_property:
            self.emit("property")
            yield path, value.func
        elif kind is BuiltinFunctionType:
            self.emit("built-in", value.__qualname__)
            if not isinstance(value.__self__, ModuleType):
                yield path, value.__self__
        elif issubclass(kind, type):
            yield from self._follow_class(path, value, called=True)
        elif issubclass(kind, ModuleType):
            self._follow_module(value)
        elif kind is CellType:
            yield path, value.cell_contents if _is_filled(value) else None
        else:
            yield from self._follow_object(path, value, kind)

    def _keep(self, path: str, tensor: Tensor) -> None:
        name, again = path, 2
        while name in self.tensors:
            name, again = f"{path}#{again}", again + 1
        self.tensors[name] = tensor

    def _follow_array(self, path: str, array: np.ndarray[Any, Any]) -> Steps:
        self.emit("array")
        if array.dtype.kind in "biufcSU":
            content = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
            self._keep(f"{path}:{array.dtype}{array.shape}", content)
        else:
            if array.dtype.names:
                self.emit(str(array.dtype))
            yield path, array.tolist()

    def _follow_put_on(self, path: str, value: object, kind: type) -> Steps:
        """What a class of one's own, and attributes, add to a value of a library's kind."""
        if not self._is_library(kind):
            yield from self._follow_class(path, kind, called=False)
        for name, attribute in _attributes(value, kind):
            if name not in _OF_ENUM:
                self.emit(name)
                yield f"{path}.{name}", attribute

    def _follow_function(self, path: str, function: FunctionType) -> Steps:
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
                yield f"{path}.{name}", used
            for module in imported_by(function):
                if issubclass(type(module), ModuleType):
                    self._follow_module(module)
                else:  # some put an object in place of their module
                    yield path, module
            self.packages[package_of(function)] = None
            folders = folders_of(package_of(function))
            self._follow_sources(sources_in(code, package_of(function), folders))
        for default in (function.__defaults__, function.__kwdefaults__):
            yield path, default
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name == "__class__" and _is_filled(cell):  # what super() stands for makes nothing
                yield from self._follow_class(path, cell.cell_contents, called=False)
            else:
                yield prefix or f"{path}.{name}", cell
        for name, attribute in vars(function).items():
            self.emit(name)
            yield path, _lasting(name, attribute, function)

    def _follow_sources(self, paths: Iterable[Path]) -> None:
        """Modules that are imported where nobody has come yet: they count by their code."""
        for path in paths:
            if path in self.sources:
                continue
            self.sources.add(path)
            self.emit("module", path.stem)
            try:
                code = compile(path.read_bytes(), path.name, "exec", dont_inherit=True)
            except (OSError, SyntaxError, ValueError):  # nobody can import it
                continue
            self._follow_code(code)
            self._follow_sources(sources_in(code, "", [[str(path.parent)], *self._folders()]))

    def _folders(self) -> list[Folders]:
        return [folders for package in self.packages for folders in folders_of(package)]

    def _follow_said_modules(self) -> None:
        """Modules that a string names, where code imports by name."""
        if not imports_by_name(self.names):
            return
        for package in list(self.packages):
            for name in sorted(self.said):
                if (package, name) in self.looked_for or not _is_name(name):
                    continue
                self.looked_for.add((package, name))
                found = [m for m in imported_as(name, package) if issubclass(type(m), ModuleType)]
                for module in found:
                    if not self._is_library_module(module):
                        self._follow_module(module)
                if not found:
                    self._follow_sources(sources_of(name, folders_of(package)))

    def _follow_looking_up(self, function: FunctionType) -> None:
        """Note in which modules a function looks for names that are values."""
        names = _names_of(function.__code__)
        if names & _LOOKING_UP:
            used = [*(value for _, value in _globals_of(function)), *imported_by(function)]
            spaces = [dictionary(v, type(v)) for v in used if issubclass(type(v), ModuleType)]
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
            self.said.add(constant.strip("."))
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

    def _follow_class(self, path: str, kind: type, called: bool) -> Steps:
        for base in kind.__mro__:
            if self._is_library(base):
                self.emit("class", *_library(base.__module__), base.__qualname__)
                self.libraries[id(base)] = base
                continue
            new = id(base) not in self.classes
            self.classes[id(base)] = base, called or self.classes.get(id(base), (base, False))[1]
            self.emit("class", base.__qualname__)
            for name, value in vars(base).items() if new else ():
                if name not in _NO_CODE and not _is_code(value):
                    self.emit(name)
                    yield f"{path}.{name}", value
        if type(kind) is not type and not self._is_library(type(kind)):
            yield from self._follow_class(path, type(kind), called=False)

    def _follow_module(self, module: ModuleType) -> None:
        space = dictionary(module, type(module))
        name = str(space.get("__name__"))
        if self._is_library_module(module):
            self.emit("module", *_library(name))
            self.libraries[id(module)] = module
            return
        self.emit("module", plain_name(name))
        self.modules.setdefault(plain_name(name), space)

    def _follow_object(self, path: str, value: Any, kind: type) -> Steps:
        yield from self._follow_class(path, kind, called=False)
        if issubclass(kind, (dict, MappingProxyType)):
            yield from self._follow_items(path, value)
        elif issubclass(kind, (list, tuple, deque)):
            yield from self._follow_sequence(path, value)
        elif issubclass(kind, (set, frozenset)):
            yield from self._follow_set(path, value)
        elif issubclass(kind, (str, bytes, int, float, complex)):
            plain: Any = next(base for base in _PLAIN if issubclass(kind, base))
            self.emit(plain.__repr__(value))
        elif is_opaque(kind):
            return
        for part in contents(value, kind):
            yield path, part
        for name, attribute in _attributes(value, kind):
            self.emit(name)
            yield f"{path}.{name}", _lasting(name, attribute, value)

    def _follow_items(self, path: str, value: Mapping[Any, Any]) -> Steps:
        items = _items(value)
        self.emit(len(items))
        if len(items) > MANY and all(map(_is_constant, items)):
            self.emit([_constant(item) for item in items])
            return
        for key, held in items:
            yield path, key
            yield f"{path}.{key}" if isinstance(key, str) else path, held

    def _follow_sequence(self, path: str, value: Collection[Any]) -> Steps:
        held = _held(value)
        self.emit(len(held))
        is_plain = _ALL_PLAIN.issuperset(map(type, held))
        if is_plain and len(held) <= MANY:
            self._tell(held)
        elif is_plain:
            self.emit([_plain(item) for item in held])
        elif len(held) > MANY and all(map(_is_constant, held)):
            self.emit([_constant(item) for item in held])
        else:
            for item in held:
                yield path, item

    def _follow_set(self, path: str, value: Collection[Any]) -> Steps:
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
        for item in sorted(held, key=self._place_of):
            yield path, item

    def _place_of(self, item: object) -> str:
        """What an item of a set is sorted by: when it was seen first, or all that it is."""
        if _is_constant(item):
            return _constant(item)
        if id(item) in self.seen:
            return f"{self.seen[id(item)]:09}"
        most = min(GLANCE, self.glances)
        walk = _Walk(self.own, most, aside=True)
        walk.visit("", item)
        self.glances -= most - int(walk.left)
        return walk.digest.hexdigest() + files.sha256_of_tensors(walk.tensors)

    def _is_library_module(self, module: ModuleType) -> bool:
        name = str(dictionary(module, type(module)).get("__name__"))
        ours = name == "__main__" or name.partition(".")[0] in self.own
        return not ours and self._is_library_file(_file_of(module))

    def _is_library_code(self, function: FunctionType) -> bool:
        if str(function.__globals__.get("__name__")).partition(".")[0] in self.own:
            return False
        file: str | None = function.__code__.co_filename
        if str(file).startswith("<") and not str(file).startswith("<frozen "):
            # Made from a string: by a dataclass, or in a notebook, which has no file.
            file = function.__globals__.get("__file__")
            if file is None:
                return False
        return self._is_library_file(file)

    def _is_library_file(self, file: str | None) -> bool:
        if file not in self.files:
            self.files[file] = is_library(file)
        return self.files[file]

    def _is_library(self, kind: type) -> bool:
        if id(kind) not in self.theirs:
            self.theirs[id(kind)] = self._is_of_library(kind)
        return self.theirs[id(kind)]

    def _is_of_library(self, kind: type) -> bool:
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
        file = _file_of(module)
        # A class made in a shell lives in a module without a file, and so do built-in ones.
        return self._is_library_file(file) if file is not None else top in _WITHOUT_FILE

    def _is_anothers(self, value: Any) -> bool:
        """Whether it is code, or an object of a class, that is no library's."""
        kind = type(value)
        if kind is FunctionType and not self._is_library_code(value):
            return True
        inner = [getattr(value, name, None) for name in _INSIDE.get(kind, ())]
        if inner:
            return any(self._is_anothers(part) for part in inner if part is not None)
        if issubclass(kind, ModuleType):
            return not self._is_library_module(value)
        if kind is functools.partial:  # what it binds is nobody's
            return True
        owner = value if issubclass(kind, type) else kind
        # A class of a module that is not there may be a library's all the same.
        return str(owner.__module__) in sys.modules and not self._is_library(owner)


def _space_of(owner: Owner) -> Mapping[str, Any]:
    return vars(owner) if isinstance(owner, type) else dictionary(owner, type(owner))


def _name_of(owner: Owner) -> str:
    if isinstance(owner, type):
        return owner.__qualname__
    return str(dictionary(owner, type(owner)).get("__name__"))


def _file_of(module: object) -> str | None:
    """Where a module comes from; of a folder without ``__init__.py`` the folder."""
    space: Any = dictionary(module, type(module))
    return space.get("__file__") or next(iter(space.get("__path__", ())), None)


def _is_code(value: object) -> bool:
    """Whether a class's attribute is a method of some kind, or a descriptor like one."""
    return isinstance(value, _METHODS)


def _without_class(tensor: Tensor) -> Tensor:
    """The tensor itself, without what its class does where it is looked at."""
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


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
    yield from list(dictionary(value, kind).items())
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            member = vars(base).get(name)
            if isinstance(member, MemberDescriptorType):
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # not set
                    continue


def _lasting(name: str, attribute: Any, owner: object) -> object:
    """What an attribute is in every process: hooks are numbered, and the numbers count up."""
    if name == "_torchdynamo_wrapper_id":  # where it lies in memory
        return None
    table, hooks, rest = name.partition("_hooks")
    if not (hooks and isinstance(attribute, dict)) or (rest and not attribute):
        return attribute
    if not rest:
        return list(attribute.values())
    numbers: Any = dictionary(owner, type(owner)).get(table + hooks, ())
    places = {number: place for place, number in enumerate(numbers)}
    return {places[number]: value for number, value in attribute.items() if number in places}


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


def _globals_of(function: FunctionType) -> Iterator[tuple[str, object]]:
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


def _is_name(text: str) -> bool:
    return text != "__main__" and all(part.isidentifier() for part in text.split("."))


def _scale(tensor: Tensor) -> list[object]:
    """What the whole numbers of a quantised tensor stand for."""
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [tensor.q_scale(), tensor.q_zero_point()]
    scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return [scales.tolist(), zeros.tolist(), tensor.q_per_channel_axis()]


def _constant(value: object) -> str:
    """A constant of code as text that is one in every process."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, value))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))},)"
    return f"{type(value).__name__} {_plain(value)!r}"


def _is_constant(value: object) -> bool:
    parts = [value]
    while parts:
        part = parts.pop()
        if type(part) is tuple or type(part) is frozenset:
            parts.extend(part)
        elif type(part) not in _PLAIN:
            return False
    return True


def _may_be_shared(value: object, kind: type) -> bool:
    """Whether Python may have made one object of two of one value, in this process alone."""
    return kind is re.Pattern or (kind in _UNSHARED and _is_constant(value))


def _place(path: str) -> str:
    """A place's name, or what stands for one that is too long."""
    if len(path) <= LONGEST_PLACE:
        return path
    return hashlib.sha256(path.encode("utf-8", "backslashreplace")).hexdigest()


def _library(module: object) -> tuple[str, str]:
    """A library's module, and which release it is of."""
    top = sys.modules.get(str(module).partition(".")[0])
    return str(module), str(getattr(top, "__version__", ""))

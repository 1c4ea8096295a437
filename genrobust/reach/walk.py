"""One pass over all that is reached, in an order that is the same in every process."""

from __future__ import annotations

import builtins
import ctypes
import enum
import functools
import hashlib
import math
import re
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrobust import files
from genrobust.projects import plain_name
from genrobust.reach.addresses import Addresses
from genrobust.reach.binaries import extension_of, opened_by, opened_to_read
from genrobust.reach.contents import (
    compiled_from,
    contents,
    dictionary,
    given_numbers,
    is_opaque,
)
from genrobust.reach.imports import (
    Folders,
    folders_of,
    imported_as,
    imported_by,
    imports_by_name,
    package_of,
    sources_in,
    sources_of,
)
from genrobust.reach.libraries import (
    EVERYWHERE,
    Libraries,
    Owner,
    is_code,
    library,
    name_of,
    space_of,
)
from genrobust.reach.names import NO_CODE, Names, globals_of, is_name, looks_into_own
from genrobust.reach.values import (
    ALL_PLAIN,
    PLAIN,
    UNSHARED,
    as_plain,
    as_text,
    attributes,
    caught_in,
    constants_of,
    held_in,
    in_one_order,
    is_constant,
    is_filled,
    items_in,
    lasting,
    may_be_shared,
    numbers_of,
    quantised_by,
    taken_by,
    without_class,
)

#: From how many on plain values in a row are told in one breath.
MANY = 10_000

#: How many values of each object in a set are looked at, to tell it from the others,
GLANCE = 1_000

#: and how many of all of them: where that is not enough, their order is another in each process.
GLANCES = 200_000

#: How long the name of a tensor's place may be before it is shortened.
LONGEST_PLACE = 4_000


_BY_REPR = (PurePath, Fraction, torch.dtype, torch.device, torch.layout, torch.memory_format)


#: What Python keeps in the members of an enum.
_OF_ENUM = {"_value_", "_name_", "_sort_order_", "__objclass__"}


#: Values that are to be followed, each with its place.
Steps = Iterator[tuple[str, object]]


class Walk:
    """One pass over all that is reached, in an order that is the same in every process."""

    def __init__(
        self,
        own: frozenset[str],
        most: float = math.inf,
        aside: bool = False,
        addresses: Addresses | None = None,
    ) -> None:
        self.aside = aside
        self.addresses = addresses or Addresses()
        self.libraries = Libraries(own)
        self.names = Names(self.libraries)
        self.digest = hashlib.sha256()
        self.tensors: dict[str, Tensor] = {}
        self.seen: dict[int, int] = {}
        self.unshared: dict[int, int] = {}
        self.kept: list[object] = []  # so that no number in `seen` is given out again
        self.classes: dict[int, tuple[type, bool]] = {}  # and whether it may be called
        self.modules: dict[str, dict[str, object]] = {}  # what they define
        self.reached: dict[int, Owner] = {id(owner): owner for owner in (*EVERYWHERE, builtins)}
        self.put: dict[int, list[str]] = {}  # code that is not theirs
        self.packages: dict[str, None] = {}  # in which imports are looked for
        self.looked_for: set[tuple[str, str]] = set()
        self.sources: set[Path] = set()
        self.documents: list[str | None] = []
        self.left = most
        self.glances = GLANCES

    def emit(self, *words: object) -> None:
        self._digest(repr(words))

    def _digest(self, text: str) -> None:
        self.digest.update(self.addresses.left_out_of(text).encode("utf-8", "backslashreplace"))

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
        told = "".join([repr((type(value).__name__, as_plain(value))) for value in values])
        self._digest(told)
        for value in values:
            self.names.hear(value)

    def _enter(self, path: str, value: object) -> Steps | None:
        """Tell one value; what hangs on it comes next, unless it was seen before."""
        kind = type(value)
        if self.left == 0:
            return None
        self.left -= 1
        if kind in PLAIN:
            self.emit(kind.__name__, as_plain(value))
            self.names.hear(value)
            return None
        seen = self.unshared if kind in UNSHARED else self.seen
        if id(value) in seen and not may_be_shared(value, kind):
            self.emit("again", seen[id(value)])
            return None
        seen.setdefault(id(value), len(seen))
        self.kept.append(value)
        return self._follow(_place(self.addresses.left_out_of(path)), value, kind)

    def visit_hooks_of_all_modules(self) -> None:
        """What torch calls after or before any module, unless it is a library's."""
        for name, hooks in sorted(vars(torch.nn.modules.module).items()):
            if name.startswith("_global_") and isinstance(hooks, dict):
                for hook in list(hooks.values()):
                    if self.libraries.is_anothers(hook):
                        self.emit("hook", name)
                        self.visit(name, hook)

    def visit_what_was_named(self) -> None:
        """Methods of classes and attributes of modules whose names some code uses, to the last."""
        done: set[tuple[int, str]] = set()
        before = (-1, -1)
        while before != (len(done), len(self.reached)):
            before = len(done), len(self.reached)
            self._follow_said_modules()
            for kind, called in list(self.classes.values()):
                for name, value in list(vars(kind).items()):
                    if (id(kind), name) not in done and self.names.wants(kind, name, called):
                        done.add((id(kind), name))
                        self.emit("method", kind.__qualname__, name)
                        self.visit(f"{kind.__qualname__}.{name}", value)
                for heir in self._heirs_of(kind):
                    if (id(heir), "__subclasses__") not in done:
                        done.add((id(heir), "__subclasses__"))
                        self.visit(f"{kind.__qualname__}.{heir.__qualname__}", heir)
            for where, space in list(self.modules.items()):
                for name in self.names.of_module(where, space):
                    if (id(space), name) not in done:
                        done.add((id(space), name))
                        self.emit("global", where, name)
                        self.visit(f"{where}.{name}", space[name])
            for owner in list(self.reached.values()):
                self._reach_parts(owner)
                for name in self._put_into(owner):
                    if (id(owner), name) not in done:
                        done.add((id(owner), name))
                        self.emit("put", name_of(owner), name)
                        self.visit(f"{name_of(owner)}.{name}", space_of(owner)[name])
        if self.names.may_read("__doc__"):
            self.emit("documents", *self.documents)

    def _heirs_of(self, kind: type) -> list[type]:
        """Classes that are made of one, where some code asks for these: nobody need name them."""
        return type.__subclasses__(kind) if "__subclasses__" in self.names.used else []

    def _reach_parts(self, owner: Owner) -> None:
        """Modules of a library that some code names in another, as `linalg` in torch: what others
        put into these may count, and they themselves do not, as not all processes have them."""
        space = space_of(owner)
        for part in (space[name] for name in sorted(self.names.used & space.keys())):
            if issubclass(type(part), ModuleType) and self.libraries.has_module(part):
                self.reached[id(part)] = part

    def _put_into(self, owner: Owner) -> list[str]:
        """Names under which others put something into a library's class or module.

        Of code all counts in classes, and in what any layer may use; elsewhere, and of values, what
        some code names.
        """
        space = space_of(owner)
        if id(owner) not in self.put:
            whole = isinstance(owner, type) or any(owner is place for place in EVERYWHERE)
            self.put[id(owner)] = self.libraries.code_put_into(space) if whole else []
        named = (
            n for n in self.names.used & space.keys() if self.libraries.is_put(owner, n, space[n])
        )
        return sorted({*self.put[id(owner)], *named})

    def _follow(self, path: str, value: Any, kind: type) -> Steps:
        if issubclass(kind, Tensor):
            self.emit("tensor")
            tensor = value if self.libraries.has_class(kind) else without_class(value)
            if tensor.is_nested:
                yield path, list(tensor.unbind())
            elif not tensor.is_meta:  # a shape without numbers
                self._keep(path, numbers_of(tensor))
            if tensor.is_quantized:
                self.emit(quantised_by(tensor))
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
            if not self.libraries.has_class(kind):
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
        elif issubclass(kind, property):
            self.emit("property")
            for part in (value.fget, value.fset):
                yield path, part
            yield from self._follow_put_on(path, value, kind)
        elif kind is functools.cached_property:
            self.emit("property")
            yield path, value.func
        elif kind is BuiltinFunctionType:
            self.emit("built-in", value.__qualname__)
            self._follow_extension(value.__module__)
            if not isinstance(value.__self__, ModuleType):
                yield path, value.__self__
        elif issubclass(kind, ctypes.CDLL):
            self.emit("library", opened_by(value))
        elif issubclass(kind, type):
            yield from self._follow_class(path, value, called=True)
        elif issubclass(kind, ModuleType):
            self._follow_module(value)
        elif kind is CellType:
            yield path, value.cell_contents if is_filled(value) else None
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
        if not self.libraries.has_class(kind):
            yield from self._follow_class(path, kind, called=False)
        for name, attribute in attributes(value, kind):
            if name not in _OF_ENUM:
                self.emit(name)
                yield f"{path}.{name}", attribute

    def _follow_function(self, path: str, function: FunctionType) -> Steps:
        code = function.__code__
        if self.libraries.has_code(function):
            self.emit("function", *library(function.__globals__.get("__name__")), code.co_name)
            prefix = path  # how a library calls its variables is not the model's
        else:
            prefix = ""
            self.emit("function", code.co_name)
            if code.co_name == "__hash__" and code.co_filename.startswith("<"):
                return  # made by attrs, with a hash in it, which each process makes anew
            self._follow_code(code)
            self.names.note_lookups(function)
            if looks_into_own(function):
                where = plain_name(str(function.__globals__.get("__name__")))
                self.modules.setdefault(where, function.__globals__)
            for name, used in globals_of(function):
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
            if name == "__class__" and is_filled(cell):  # what super() stands for makes nothing
                yield from self._follow_class(path, cell.cell_contents, called=False)
            else:
                yield prefix or f"{path}.{name}", cell
        for name, attribute in vars(function).items():
            self.emit(name)
            yield path, lasting(name, attribute, function)

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
        if not imports_by_name(self.names.used):
            return
        for package in list(self.packages):
            for name in sorted(self.names.said):
                if (package, name) in self.looked_for or not is_name(name):
                    continue
                self.looked_for.add((package, name))
                found = [m for m in imported_as(name, package) if issubclass(type(m), ModuleType)]
                for module in found:
                    if not self.libraries.has_module(module):
                        self._follow_module(module)
                if not found:
                    self._follow_sources(sources_of(name, folders_of(package)))

    def _follow_code(self, code: CodeType) -> None:
        self.names.used.update(code.co_names)
        self.emit("code", code.co_code, code.co_names, *taken_by(code), caught_in(code))
        constants, said = constants_of(code)
        self.documents.append(said)
        for constant in constants:
            if isinstance(constant, CodeType):
                self._follow_code(constant)
            else:
                self.emit(as_text(constant))
                self.names.hear(constant)

    def _follow_class(self, path: str, kind: type, called: bool) -> Steps:
        for base in kind.__mro__:
            if self.libraries.has_class(base):
                self.emit("class", *library(base.__module__), base.__qualname__)
                self.reached[id(base)] = base
                continue
            new = id(base) not in self.classes
            self.classes[id(base)] = base, called or self.classes.get(id(base), (base, False))[1]
            self.emit("class", base.__qualname__)
            self._follow_extension(base.__module__)
            for name, value in vars(base).items() if new else ():
                if name not in NO_CODE and not is_code(value):
                    self.emit(name)
                    yield f"{path}.{name}", value
        if type(kind) is not type and not self.libraries.has_class(type(kind)):
            yield from self._follow_class(path, type(kind), called=False)

    def _follow_module(self, module: ModuleType) -> None:
        space = dictionary(module, type(module))
        name = str(space.get("__name__"))
        if self.libraries.has_module(module):
            self.emit("module", *library(name))
            self.reached[id(module)] = module
            return
        self.emit("module", plain_name(name))
        self._follow_extension(name)
        self.modules.setdefault(plain_name(name), space)

    def _follow_extension(self, name: object) -> None:
        """A module of one's own that is compiled: nothing but its file tells what it does."""
        module = sys.modules.get(name) if isinstance(name, str) else None
        if not isinstance(module, ModuleType) or self.libraries.has_module(module):
            return
        if told := extension_of(module):
            self.emit("extension", told)

    def _follow_object(self, path: str, value: Any, kind: type) -> Steps:
        yield from self._follow_class(path, kind, called=False)
        if value is vars(builtins):  # what exec puts beside the names of its code
            return
        if issubclass(kind, (dict, MappingProxyType)):
            yield from self._follow_items(path, value)
        elif issubclass(kind, (list, tuple, deque)):
            yield from self._follow_sequence(path, value)
        elif issubclass(kind, (set, frozenset)):
            yield from self._follow_set(path, value)
        elif issubclass(kind, (str, bytes, int, float, complex)):
            plain: Any = next(base for base in PLAIN if issubclass(kind, base))
            self.emit(plain.__repr__(value))
        elif is_opaque(kind):
            if told := opened_to_read(value):
                self.emit("file", told)
            return
        given = compiled_from(value, kind) or (
            given_numbers(value, kind) if self.libraries.has_class(kind) else []
        )
        for part in given or contents(value, kind):
            yield path, part
        if given:  # what is in its attributes besides comes and goes with its use
            return
        for name, attribute in attributes(value, kind):
            self.emit(name)
            yield f"{path}.{name}", lasting(name, attribute, value)

    def _follow_items(self, path: str, value: Mapping[Any, Any]) -> Steps:
        items = items_in(value)
        self.emit(len(items))
        if len(items) > MANY and all(map(is_constant, items)):
            self.emit([as_text(item) for item in items])
            return
        for key, held in items:
            yield path, key
            place = f"{path}.{key}" if isinstance(key, str) else path
            yield place, in_one_order(key, held)

    def _follow_sequence(self, path: str, value: Collection[Any]) -> Steps:
        held = held_in(value)
        self.emit(len(held))
        is_plain = ALL_PLAIN.issuperset(map(type, held))
        if is_plain and len(held) <= MANY:
            self._tell(held)
        elif is_plain:
            self.emit([as_plain(item) for item in held])
        elif len(held) > MANY and all(map(is_constant, held)):
            self.emit([as_text(item) for item in held])
        else:
            for item in held:
                yield path, item

    def _follow_set(self, path: str, value: Collection[Any]) -> Steps:
        """What is in a set, in an order that hangs on no hash."""
        held = held_in(value)
        self.emit(len(held))
        if self.aside or all(map(is_constant, held)):
            self.emit(sorted(as_text(v) if is_constant(v) else type(v).__qualname__ for v in held))
            for item in held:
                self.names.hear(item)
            return
        for item in sorted(held, key=self._place_of):
            yield path, item

    def _place_of(self, item: object) -> str:
        """What an item of a set is sorted by: when it was seen first, or all that it is."""
        if is_constant(item):
            return as_text(item)
        if id(item) in self.seen:
            return f"{self.seen[id(item)]:09}"
        most = min(GLANCE, self.glances)
        walk = Walk(self.libraries.own, most, aside=True, addresses=self.addresses)
        walk.visit("", item)
        self.glances -= most - int(walk.left)
        return walk.digest.hexdigest() + files.sha256_of_tensors(walk.tensors)


def _place(path: str) -> str:
    """A place's name, or what stands for one that is too long."""
    if len(path) <= LONGEST_PLACE:
        return path
    return hashlib.sha256(path.encode("utf-8", "backslashreplace")).hexdigest()

"""What code imports: modules that are there, and the sources of those that are not yet.

An import may stand where no trial leads, and a module's name may be in a string. Nothing is
imported to find out.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from genrobust.projects import is_library
from genrobust.reach.contents import dictionary

#: Functions and tables that take a module's name as a string,
_BY_NAME = {"import_module", "__import__", "resolve_name", "locate", "run_module", "find_spec"}
#: of which this one's name means something else elsewhere.
_TABLE = {"sys", "modules"}

#: Where modules lie: folders, or None for those in which Python looks.
Folders = Sequence[str] | None


def imports_by_name(names: set[str]) -> bool:
    """Whether code with these names in it may import what a string names."""
    return bool(names & _BY_NAME) or names >= _TABLE


def package_of(function: FunctionType) -> str:
    """The package in whose names a function imports."""
    return str(function.__globals__.get("__package__") or "")


def imported_by(function: FunctionType) -> Iterator[Any]:
    """The modules, or what stands for them, that a function's statements import, if there yet."""
    for name in dict.fromkeys(name for name, _ in _statements(function.__code__)):
        yield from imported_as(name, package_of(function))


def imported_as(name: str, package: str) -> Iterator[Any]:
    """The module of that name, as code in that package means it, if it is there."""
    for parent in (*_parents(package), ""):
        place = f"{parent}.{name}".strip(".")
        if place in sys.modules:
            yield sys.modules[place]
            break


def folders_of(package: str) -> list[Folders]:
    """Where code in a package finds modules."""
    spaces = (_space_of(sys.modules.get(parent)) for parent in _parents(package))
    return [*(list(space.get("__path__", ())) for space in spaces), None]


def sources_in(code: CodeType, package: str, folders: Sequence[Folders]) -> Iterator[Path]:
    """The sources of what statements in code import and nobody has imported yet."""
    for name, parts in _statements(code):
        neighbour = any(
            f"{parent}.{name}".strip(".") in sys.modules for parent in _parents(package)
        )
        found = [*imported_as(name, package)]
        if not neighbour:  # a module of that name elsewhere is not the one
            yield from sources_of(name, folders[:-1] if found else folders)
        space = _space_of(found[0]) if found else {}
        if not found or "__path__" in space:
            for part in parts:
                if part not in space:
                    yield from sources_of(f"{name}.{part}".strip("."), folders)


def sources_of(name: str, folders: Sequence[Folders]) -> Iterator[Path]:
    """The sources of a module, and of the packages that it lies in, unless they are a library's."""
    for start in folders:
        found = [*_files(name.split("."), start)]
        if found:
            yield from (Path(file) for file in found if not is_library(file))
            return


def _files(names: Sequence[str], folders: Folders) -> Iterator[str]:
    for name in names:
        spec = PathFinder.find_spec(name, folders)
        if spec is None:
            return
        if spec.origin is not None and spec.origin.endswith(".py"):
            yield spec.origin
        folders = list(spec.submodule_search_locations or ())


@lru_cache(maxsize=10_000)
def _statements(code: CodeType) -> list[tuple[str, list[str]]]:
    """Of each import in code: the module, and what is taken from it."""
    found: list[tuple[str, list[str]]] = []
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            found.append((str(step.argval), []))
        elif step.opname == "IMPORT_FROM":
            found[-1][1].append(str(step.argval))
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [*found, *(one for each in inner for one in _statements(each))]


def _space_of(module: object) -> dict[str, Any]:
    return dictionary(module, type(module))


def _parents(package: str) -> list[str]:
    return [".".join(package.split(".")[:end]) for end in range(package.count(".") + 1, 0, -1)]

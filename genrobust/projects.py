"""Code of other people, each project in a world of its own.

A model's file imports its neighbours by name, and so does the file of another project, whose
neighbours may have the same names. Each file is therefore loaded, with all that it imports from its
own folders, below a package that only it has: ``net`` of one is ``_project1.net``, of another
``_project2.net``. Its modules get an ``__import__`` that looks there first, whenever it is called:
as the file is loaded, in the function that builds the model, or in the model's ``forward``.
Libraries, which do not have that ``__import__``, never see a neighbour.
"""

from __future__ import annotations

import builtins
import csv
import json
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

_PREFIX = re.compile(r"_project\d+(\.|$)")
_PROJECTS: dict[str, Project] = {}
_COUNT = count(1)
#: What the entry of ``sys.path`` begins with that tells processes of a project.
_TOLD = "genrobust-project:"


def plain_name(module: str) -> str:
    """A module's name as its project calls it.

    >>> plain_name("_project3.net.blocks"), plain_name("_project3"), plain_name("torch.nn")
    ('net.blocks', '', 'torch.nn')
    """
    return _PREFIX.sub("", module, count=1)


def is_library(file: str | None) -> bool:
    """Whether a source file is of Python, of an installed package or of genrobust itself."""
    if file is None or file.startswith("<frozen "):
        return True
    path = os.path.realpath(file)
    if {"site-packages", "dist-packages"} & set(Path(path).parts):
        return True
    return path.startswith(_LIBRARIES) or _is_installed(path, tuple(sys.path))


@cache
def _is_installed(file: str, search: tuple[str, ...]) -> bool:
    """Whether a file came with a package that pip put into a folder of its own: --target.

    What is installed so that it can be edited has no file in its package's list.
    """
    folders = (os.path.join(os.path.realpath(place), "") for place in search)  # noqa: PTH118
    return any(file in _files_in(folder) for folder in folders if file.startswith(folder))


@cache
def _files_in(folder: str) -> frozenset[str]:
    """The files that packages brought into a folder, as the lists beside them say."""
    lists = Path(folder).glob("*.dist-info/RECORD")
    rows = (row for one in lists for row in csv.reader(one.read_text("utf-8").splitlines()))
    return frozenset(os.path.normpath(folder + row[0]) for row in rows if row)


class Project:
    """The world of one file: the modules that it imported from its own folders.

    Args:
        file: the file that was named; its folder is where its neighbours lie.
        name: of its package; default one that nobody has.
    """

    def __init__(self, file: Path, name: str | None = None) -> None:
        # A copy of this module that was loaded before, as notebooks do, has named some already.
        new = (n for n in map("_project{}".format, _COUNT) if n not in sys.modules)
        self.name = name or next(new)
        self.file = file.resolve()
        #: Where its modules lie; also what the file puts into ``sys.path`` for them.
        self.folders = [str(self.file.parent)]
        #: ``sys.path`` as it was, while the project is at home.
        self._path: list[str] | None = None
        self._builtins = {**vars(builtins), "__import__": self._import}
        package = ModuleType(self.name)
        package.__path__ = self.folders
        sys.modules[self.name] = package
        _PROJECTS[self.name] = self

    def load(self) -> ModuleType:
        """The file as a module, executed afresh; call it :meth:`at_home`."""
        name = f"{self.name}.{self.file.stem}"
        spec = spec_from_file_location(name, self.file, loader=_Loader(name, str(self.file)))
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    @contextmanager
    def at_home(self) -> Iterator[None]:
        """Within it, code of the project may change ``sys.path`` and the working directory.

        Afterwards both are what they were: what it put into ``sys.path`` is searched for its own
        imports, and for nobody else's.

        Processes that multiprocessing starts within it get functions and data sets by the names of
        their modules, unless they are forked. They get ``sys.path`` too, in which an entry tells
        them of the project, and import the main module before all else, whose place
        ``genrobust.spawned`` takes.
        """
        before, known, place = [*sys.path], {*sys.modules}, _working_directory()
        sys.path.append(_TOLD + json.dumps([self.name, str(self.file), before]))
        self._path = [*sys.path]
        main = sys.modules["__main__"]
        spec, main.__spec__ = main.__spec__, ModuleSpec("genrobust.spawned", None)
        try:
            yield
        finally:
            self._learn_folders()
            sys.path[:], self._path = before, None
            main.__spec__ = spec
            if place is not None:
                os.chdir(place)
            for name in [n for n in sys.modules if n not in known and self._is_stray(n)]:
                del sys.modules[name]

    def finds(self, name: str) -> bool:
        """Whether a top-level import of that name means a neighbour."""
        if name in sys.builtin_module_names:
            return False
        spec = PathFinder.find_spec(name, self.folders)
        if spec is None:
            return False
        if spec.origin is None:  # a folder without __init__.py: any other module goes first
            return PathFinder.find_spec(name) is None and name not in sys.modules
        # What is in use from that very file is no stranger: genrobust's own tree, say.
        used = sys.modules.get(name)
        file = getattr(used, "__file__", None)
        ours = used is None or _PREFIX.match(used.__name__) is not None
        return ours or file is None or not _is_same(file, spec.origin)

    def knows_by_plain_name(self, name: str) -> bool:
        """Whether pickle and importlib may find a neighbour now."""
        return self._path is not None and self.finds(name)

    def adopt(self, module: ModuleType) -> None:
        """Let a module of the project import its neighbours."""
        vars(module)["__builtins__"] = self._builtins

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """``__import__`` of the project's modules."""
        self._learn_folders()
        top = name.partition(".")[0]
        if level or not self.finds(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = builtins.__import__(f"{self.name}.{name}", globals, locals, fromlist or (), 0)
        if isinstance(fromlist, list) and self._path is not None:
            # No statement but PyImport_Import, through which pickle imports: it looks there next.
            sys.modules[name] = sys.modules[f"{self.name}.{name}"]
        return found if fromlist else sys.modules[f"{self.name}.{top}"]

    def _learn_folders(self) -> None:
        """Take over what the project has put into ``sys.path``, in its order."""
        before = self._path
        if before is None or sys.path == before:
            return
        added = [entry for entry in sys.path if entry not in before]
        ours = next((i for i, entry in enumerate(sys.path) if entry in before), len(sys.path))
        first = [os.path.abspath(p) for p in sys.path[:ours]]  # noqa: PTH100 - '..' stays
        last = [os.path.abspath(p) for p in added if os.path.abspath(p) not in first]  # noqa: PTH100
        new = [*first, *self.folders, *last]
        self.folders[:] = dict.fromkeys(new)

    def _is_stray(self, name: str) -> bool:
        """Whether a module of the project came in by its plain name."""
        if _PREFIX.match(f"{name}."):
            return False
        if _PREFIX.match(getattr(sys.modules[name], "__name__", "")):
            return True
        file = getattr(sys.modules[name], "__file__", None)
        if is_library(file):
            return False
        assert file is not None
        path = Path(file).resolve()
        return any(path.is_relative_to(Path(folder).resolve()) for folder in self.folders)


def know_in_a_child() -> None:
    """Be at home, in a process that multiprocessing started, in the project whose code did it."""
    for told in [entry for entry in sys.path if entry.startswith(_TOLD)]:
        sys.path.remove(told)
        name, file, before = json.loads(told.removeprefix(_TOLD))
        project = Project(Path(file), name)
        project._path = before
        project._learn_folders()


class _Loader(SourceFileLoader):
    """Executes a module of a project, from its source, with that project's ``__import__``."""

    def get_code(self, fullname: str) -> CodeType:
        # Compiled files are told apart by whole seconds and by length: too coarse for an edit.
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        _PROJECTS[module.__name__.partition(".")[0]].adopt(module)
        super().exec_module(module)


class _Neighbours(MetaPathFinder):
    """Finds the modules below a project's package."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, rest = name.partition(".")
        if not _PREFIX.match(name):
            parent = getattr(sys.modules.get(top), "__name__", "")
            known = rest and _PREFIX.match(parent)
            return ModuleSpec(name, _Alias(f"{parent}.{rest}")) if known else None
        if top not in _PROJECTS:  # of another copy of this module: it was reloaded, in a notebook
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _ByPlainName(MetaPathFinder):
    """Finds a neighbour that is imported by name for a project: by pickle, or by importlib.

    Asked last, for what nobody else knows, and only as long as the project is at home: what is
    there under a plain name must go before others look.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        project = _caller(sys._getframe(1))
        if project is None or not project.knows_by_plain_name(name.partition(".")[0]):
            return None
        return ModuleSpec(name, _Alias(f"{project.name}.{name}"))


class _Alias(Loader):
    """Gives a module that is known under another name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        builtins.__import__(self.name)
        assert module.__spec__ is not None
        sys.modules[module.__spec__.name] = sys.modules[self.name]


def _caller(frame: FrameType | None) -> Project | None:
    """The project whose code called, if any did."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name in _PROJECTS:
            return _PROJECTS[name]
        frame = frame.f_back
    return None


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return None


def _is_same(file: str, other: str) -> bool:
    return os.path.realpath(file) == os.path.realpath(other)


_LIBRARIES = tuple(
    os.path.realpath(folder) + os.sep
    for folder in (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        os.path.dirname(__file__),  # noqa: PTH120
    )
)

sys.meta_path.insert(0, _Neighbours())
sys.meta_path.append(_ByPlainName())

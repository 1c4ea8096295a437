"""The structure: any module can be imported first, and imports point one way."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

import genrobust

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(genrobust.__path__, "genrobust.")
    if not module.name.endswith("__main__")
)

#: From the bottom up; a room may import those before it (and itself).
ROOMS = (
    *("_version", "errors", "names", "arguments", "projects", "spawned", "seeding"),
    "foreign",
    "registry",
    "plugins",
    "modes",
    *("files", "drawing", "distance", "posterior", "norms", "threat"),
    "reach",
    *("data", "models", "judges", "batch", "metrics", "defences"),
    *("rules", "objectives", "optimizers", "attacks", "suites", "records", "outcomes", "runner"),
    *(
        "report",
        "evidence",
        "benchmarking",
        "callbacks",
        "training",
        "study",
        "testing",
        "verify",
        "board",
        "site",
    ),
    "publish",
    "reproduce",
    "cli",
)


PACKAGES = sorted({"genrobust", *(module.rpartition(".")[0] for module in MODULES)})


@cache
def first(module: str) -> frozenset[str]:
    """What is imported of ours where a module is imported before anything else is."""
    finders = [*sys.meta_path]
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
    try:
        importlib.import_module(module)
        return frozenset(filter(_is_ours, sys.modules))
    finally:
        sys.meta_path[:] = finders  # those of the second genrobust do not know the first's projects
        for name in [n for n in sys.modules if _is_ours(n)]:
            del sys.modules[name]
        sys.modules.update(before)


@pytest.mark.parametrize("package", PACKAGES)
def test_any_package_can_be_imported_first(package: str) -> None:
    assert package in first(package)


def test_any_module_can_be_imported_first() -> None:
    """What is in no circle of imports can be, if what it imports can be, down to what has none.

    Python imports a package before what is in it: what that brings along has been tried then.
    """
    for module in {*MODULES} - {*PACKAGES}:
        circle = any(module in _reached(other) for other in _run_by(module))
        if circle and module not in first(module.rpartition(".")[0]):
            first(module)


@cache
def _reached(module: str) -> frozenset[str]:
    """What runs because a module does, and it itself if it comes up on the way."""
    found: set[str] = set()
    left = [module]
    while left:
        fresh = _run_by(left.pop()) - found
        found |= fresh
        left += fresh
    return frozenset(found)


@cache
def _run_by(module: str) -> frozenset[str]:
    """The modules of ours that run because this one does: its packages, and what it imports."""
    found = {module.rpartition(".")[0]} - {""}
    left: list[ast.AST] = [ast.parse(_place(module).read_text())]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            left += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            left += ast.iter_child_nodes(node)
    return frozenset(found & {"genrobust", *MODULES}) - {module}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    room = module.split(".")[1]
    assert room in ROOMS, f"{room} is a new room: give it its place in ROOMS"
    for imported in filter(_is_ours, _imported_by(module)):
        other = imported.partition(".")[2].partition(".")[0]
        assert other in ROOMS[: ROOMS.index(room) + 1], f"{module} imports {imported}"


@pytest.mark.parametrize("module", [name for name in MODULES if ".models." in name])
def test_a_model_is_read_before_it_is_tried_and_tried_before_it_is_wrapped(module: str) -> None:
    room, others = module.split(".")[2], _imported_by(module)
    above = {"reading": ("checks", "quantiser", "wrapping"), "checks": ("quantiser", "wrapping")}
    for later in above.get(room, ()):
        assert not [name for name in others if name.startswith(f"genrobust.models.{later}")]


def test_what_the_standard_library_has_for_tests_is_not_used() -> None:
    for module in MODULES:
        assert not [name for name in _imported_by(module) if name.startswith("unittest")], module


def test_every_room_is_on_the_picture_of_the_house(repository: Path) -> None:
    told = (repository / "CONTRIBUTING.md").read_text()
    home = Path(genrobust.__path__[0])
    shown = {room: f"{room}/" if (home / room).is_dir() else f"{room}.py" for room in ROOMS}
    assert not [room for room, name in shown.items() if f"`{name}`" not in told]


def test_every_way_to_name_a_module_is_seen() -> None:
    source = """
import genrobust.a.b, numpy
from genrobust import c
from genrobust.d.e import f
REGISTRY = {"g": "genrobust.g.h:G", "not": "genrobust.i: words"}
def late():
    import genrobust.j as j
"""
    ours = {"genrobust.a.b", "genrobust.c", "genrobust.d.e", "genrobust.g.h", "genrobust.j"}
    assert _imported(ast.walk(ast.parse(source))) == {*ours, "numpy"}


@pytest.mark.slow
def test_models_as_data_are_loaded_only_where_a_bundle_is_written_or_read() -> None:
    script = """
import sys, genrobust
genrobust.wrap(genrobust.load_model("vae").module), genrobust.attack, genrobust.bench
print(*(name for name in sys.modules if "genrobust.models.portable" in name))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not done.stdout.split()


def test_only_the_rules_themselves_tell_rules_apart() -> None:
    """Every other room asks a rule what it needs and says; old records are read by their names."""
    home = Path(genrobust.__path__[0])
    told = r"\brules?\s*(?:[=!]=|(?:not )?in)\s*[\"'(\[{].*|[\"'][\w-]+[\"'] (?:not )?in rules?\b"
    for path in [*home.rglob("*.py"), *home.rglob("*.html")]:
        if path.parent.name == "rules":
            continue
        compared = re.findall(told, path.read_text())
        assert not compared, f"{path.name}: {compared}"


def test_only_the_norms_themselves_tell_norms_apart() -> None:
    """Every other room asks a norm; bridges translate its name for the libraries they lead to."""
    home = Path(genrobust.__path__[0])
    name = r"[\"'](?:linf|l2)[\"']"
    told = rf"(?:[=!]=|\bin)\s*[(\[{{]?\s*{name}.*|{name}\s*(?:[=!]=|(?:not )?in\b).*"
    for path in [*home.rglob("*.py"), *home.rglob("*.html"), *home.rglob("*.js")]:
        if path.parent.name in ("norms", "bridges"):
            continue
        compared = re.findall(told, path.read_text())
        assert not compared, f"{path.name}: {compared}"


def _is_ours(name: str) -> bool:
    return name == "genrobust" or name.startswith("genrobust.")


@cache
def _imported_by(module: str) -> frozenset[str]:
    return frozenset(_imported(_walked(_place(module))))


def _place(module: str) -> Path:
    place = importlib.util.find_spec(module)
    assert place is not None
    assert place.origin is not None
    return Path(place.origin)


@cache
def _walked(path: Path) -> tuple[ast.AST, ...]:
    """Of what a module holds, what may be an import, a name or a class."""
    kinds = (ast.Import, ast.ImportFrom, ast.Constant, ast.ClassDef)
    return tuple(n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, kinds))


def _imported(nodes: Iterable[ast.AST]) -> set[str]:
    """The modules that a module imports, inside its functions too, or names in a registry."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "genrobust":
            found |= {f"genrobust.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"^(genrobust(?:\.\w+)+):\w+$", node.value))
    return found


#: Names that classes may share, as they stand for one idea; each with where they are.
SHARED_NAMES = {
    # An attack and the objective that it minimises.
    "CodeSwitch": {"attacks/code_switch.py", "objectives/code_switch.py"},
    # What becomes of the pictures: measured in a record, sought by an objective, told by a rule.
    "Damage": {"objectives/output.py", "records/record.py", "rules/damage.py"},
    # The attack of a thesis and the judge that it scored with.
    "Thesis": {"attacks/thesis.py", "judges/networks.py"},
    # The attack on the classifier that judges, and a network that is one.
    "Classifier": {"attacks/classifier.py", "models/networks.py"},
}


def test_no_two_public_classes_share_a_name() -> None:
    """A word means one thing: who reads a name need not ask which of two is meant."""
    home, found = Path(genrobust.__path__[0]), dict[str, list[str]]()
    for path in home.rglob("*.py"):
        for node in _walked(path):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path.relative_to(home).as_posix())
    shared = {name: sorted(places) for name, places in found.items() if len(places) > 1}
    assert shared == {name: sorted(places) for name, places in SHARED_NAMES.items()}

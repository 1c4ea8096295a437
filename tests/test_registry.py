"""The registry: names from the process, from genrobust, and from installed plugins."""

from __future__ import annotations

import importlib
import random
import re
import sys
import warnings
from abc import ABC, abstractmethod
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
import torch

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning, unknown_name
from genrobust.registry import Registry


@pytest.fixture
def shapes() -> Registry[object]:
    return Registry("shape")


def offer(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    """Act as if installed packages offered these entry points."""
    monkeypatch.setattr(
        "genrobust.registry.entry_points",
        lambda group: [point for point in points if point.group == group],
    )


def module_file(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_decorated_object_is_found_and_returned_unchanged(shapes: Registry[object]) -> None:
    class Square: ...

    assert shapes.register("square")(Square) is Square
    assert shapes.get("square") is Square
    assert "square" in shapes
    assert "circle" not in shapes
    assert shapes.names() == ["square"]


def test_a_name_cannot_be_taken_twice_by_different_objects(shapes: Registry[object]) -> None:
    class Square: ...

    class Other: ...

    shapes.register("square")(Square)
    with pytest.raises(GenrobustError, match="shape name 'square' is already taken"):
        shapes.register("square")(Other)
    assert shapes.get("square") is Square


def test_the_same_definition_run_again_replaces_the_first(shapes: Registry[object]) -> None:
    def define() -> type:
        class Square: ...

        return shapes.register("square")(Square)

    first, second = define(), define()
    assert first is not second
    assert shapes.get("square") is second


@pytest.mark.parametrize(
    ("name", "words"),
    [(Path, "a type is no shape name"), ("", "'' is no shape name"), (None, "a NoneType is no")],
)
def test_a_decorator_without_a_name_is_refused_where_it_stands(
    shapes: Registry[object], name: Any, words: str
) -> None:
    with pytest.raises(GenrobustError, match=rf"{words}.*; give one in parentheses, such as reg"):
        shapes.register(name)


def test_a_builtin_name_cannot_be_taken() -> None:
    shapes: Registry[object] = Registry("shape", {"square": "math:sqrt"})
    with pytest.raises(GenrobustError, match="already taken"):
        shapes.register("square")(object())


def test_an_unknown_name_suggests_the_nearest(shapes: Registry[object]) -> None:
    shapes.register("square")(object())
    shapes.register("circle")(object())
    with pytest.raises(GenrobustError, match=r"unknown shape 'sqare'; did you mean 'square'\?"):
        shapes.get("sqare")
    with pytest.raises(GenrobustError, match=r"unknown shape 'xyz'; known: circle, square"):
        shapes.get("xyz")


def test_an_empty_registry_says_that_nothing_is_known() -> None:
    assert "known: none" in str(unknown_name("shape", "square", []))


def test_a_builtin_is_imported_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module_file(tmp_path, monkeypatch, "lazy_shapes", "square = 'a square'\n")
    shapes: Registry[object] = Registry("shape", {"square": "lazy_shapes:square"})
    assert shapes.names() == ["square"]
    assert "square" in shapes
    with pytest.raises(GenrobustError, match="unknown shape"):
        shapes.get("circle")
    assert "lazy_shapes" not in sys.modules
    assert shapes.get("square") == "a square"
    assert "lazy_shapes" in sys.modules


def test_a_plugin_is_listed_and_loaded_from_its_own_group(
    shapes: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module_file(tmp_path, monkeypatch, "plugged_shapes", "hexagon = 'six corners'\n")
    offer(
        monkeypatch,
        EntryPoint("hexagon", "plugged_shapes:hexagon", "genrobust.shapes"),
        EntryPoint("red", "plugged_shapes:red", "genrobust.colours"),
    )
    assert shapes.names() == ["hexagon"]
    assert "plugged_shapes" not in sys.modules
    assert shapes.get("hexagon") == "six corners"


def test_a_plugin_may_also_register_itself_with_the_decorator(
    shapes: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import builtins\n@builtins.shapes_under_test.register('star')\nclass Star: ...\n"
    module_file(tmp_path, monkeypatch, "decorated_shapes", text)
    monkeypatch.setattr("builtins.shapes_under_test", shapes, raising=False)
    offer(monkeypatch, EntryPoint("star", "decorated_shapes:Star", "genrobust.shapes"))
    assert shapes.get("star").__name__ == "Star"  # type: ignore[attr-defined]


def test_a_plugins_name_cannot_be_taken_by_another_object(
    shapes: Registry[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, EntryPoint("star", "somewhere:Star", "genrobust.shapes"))
    with pytest.raises(GenrobustError, match="already taken"):
        shapes.register("star")(object())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('out of paint')", "RuntimeError: out of paint"),
        ("import a_module_that_nobody_has", "ModuleNotFoundError"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_plugin_breaks_only_its_own_name(
    text: str,
    reason: str,
    shapes: Registry[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module_file(tmp_path, monkeypatch, "broken_shapes", text)
    offer(monkeypatch, EntryPoint("blob", "broken_shapes:blob", "genrobust.shapes"))
    square = shapes.register("square")(object())
    assert shapes.names() == ["blob", "square"]
    assert shapes.get("square") is square
    with pytest.raises(GenrobustError, match=f"'broken_shapes:blob'.*{reason}.*repair"):
        shapes.get("blob")


class Shape(ABC):
    """What shapes are subclasses of."""

    name: ClassVar[str]
    corners: ClassVar[int] = 4

    @abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    name = "square"

    def area(self) -> float:
        return 1


class Coloured(Protocol):
    """What a colour is like."""

    @property
    def name(self) -> str: ...

    def mix(self, other: str) -> str: ...


class Red:
    name = "red"

    def mix(self, other: str) -> str:
        return other


@pytest.mark.parametrize("place", ["registered", "offered"])
@pytest.mark.parametrize(
    ("base", "item", "lacks"),
    [
        (Shape, Square, None),
        (Shape, lambda: Square(), r"is a function, and no subclass of test_registry\.Shape"),
        (Shape, Square(), r"is a Square, and no subclass"),
        (Shape, Red, r"is the class Red, and no subclass"),
        (Shape, type("Nameless", (Shape,), {"area": Square.area}), "lacks name, which"),
        (Shape, type("Flat", (Shape,), {"name": "flat"}), "lacks area, which"),
        (Coloured, Red, None),
        (Coloured, Red(), None),
        (Coloured, type("Mute", (), {"name": "mute"}), "lacks mix, which"),
        (Coloured, None, "lacks name, mix, which"),
    ],
)
def test_what_is_none_of_its_kind_is_not_given(
    place: str, base: type, item: object, lacks: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    things: Registry[object] = Registry("thing", base=base)
    if place == "registered":
        things.register("it")(item)
    else:
        monkeypatch.setattr(EntryPoint, "load", lambda _: item)
        offer(monkeypatch, EntryPoint("it", "elsewhere:it", "genrobust.things"))
    if lacks is None:
        assert things.get("it") is item
        return
    with pytest.raises(GenrobustError, match=f"the thing 'it' {lacks}.*; repair or uninstall"):
        things.get("it")


def test_a_plugin_with_a_builtin_name_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(monkeypatch, EntryPoint("root", "evil:root", "genrobust.shapes"))
    shapes: Registry[object] = Registry("shape", {"root": "math:sqrt"})
    with pytest.warns(GenrobustWarning, match="evil:root"):
        assert shapes.names() == ["root"]
    assert shapes.get("root") is __import__("math").sqrt


def test_a_family_looks_up_what_follows_the_colon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from genrobust.errors import unknown_name\n"
        "def find(name):\n"
        "    if name != 'ring':\n"
        "        raise unknown_name('shape', f'round:{name}', ['round:ring'])\n"
        "    return 'a ring'\n"
    )
    module_file(tmp_path, monkeypatch, "round_shapes", text)
    shapes: Registry[object] = Registry("shape", families={"round": "round_shapes:find"})
    assert shapes.names() == []
    assert shapes.families() == ["round:*"]
    assert "round_shapes" not in sys.modules
    assert shapes.get("round:ring") == "a ring"
    assert "round:ring" in shapes
    assert "round:rng" not in shapes
    assert "round" not in shapes
    with pytest.raises(GenrobustError, match="did you mean 'round:ring'"):
        shapes.get("round:rng")
    with pytest.raises(GenrobustError, match=r"unknown shape 'rond:ring'; did you mean 'round:\*'"):
        shapes.get("rond:ring")
    with pytest.raises(GenrobustError, match="already taken"):
        shapes.register("round:disc")(object())


def test_every_entry_point_group_can_be_declared_and_is_told(repository: Path) -> None:
    """Of registries, wherever they are made."""
    home = Path(genrobust.__path__[0])
    told = (repository / "docs" / "plugins.md").read_text()
    made = {
        (path, name)
        for path in home.rglob("*.py")
        for name in re.findall(r"^([A-Z]+): Registry\b", path.read_text(), re.MULTILINE)
    }
    assert len(made) > 10
    for path, name in made:
        module = ".".join(path.relative_to(home.parent).with_suffix("").parts)
        registry = getattr(importlib.import_module(module.removesuffix(".__init__")), name)
        assert re.fullmatch(r"genrobust\.\w+", registry.group)
        assert f"| {registry.kind} | `{registry.group}` |" in told.replace("posterior part", "part")


@pytest.mark.parametrize("place", ["mine.py:Square", "my.shapes:Square"])
def test_a_place_is_told_that_names_are_offered(place: str, shapes: Registry[object]) -> None:
    """As models and judges are given by places, of which no other kind knows."""
    with pytest.raises(GenrobustError, match=r"is a place, .* group 'genrobust\.shapes'"):
        shapes.get(place)


def test_what_a_plugin_sets_as_it_is_imported_is_put_back(
    shapes: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what it silences is silent, and what it seeds is drawn, for all that is measured."""
    text = """
import random, sys, warnings
import torch
warnings.filterwarnings("ignore")
torch.set_default_dtype(torch.float64)
random.seed(4)
torch.manual_seed(4)
sys.path.insert(0, "its own parts")
blob = "a blob"
"""
    module_file(tmp_path, monkeypatch, "setting_shapes", text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    offer(monkeypatch, EntryPoint("blob", "setting_shapes:blob", "genrobust.shapes"))
    before = warnings.filters[:], random.getstate(), torch.get_rng_state().tolist()
    assert shapes.get("blob") == "a blob"
    assert (warnings.filters[:], random.getstate(), torch.get_rng_state().tolist()) == before
    assert torch.get_default_dtype() == torch.float32
    assert sys.path[0] == "its own parts", "from where it may import later"

"""Each model's file lives in a world of its own: its helpers are its own, whatever their names."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from genrobust.models import load_model
from genrobust.models.model import GenerativeModel
from genrobust.projects import is_library, plain_name

NET = """
import torch
from torch import nn

class N(nn.Module):
    input_shape = (1, 32, 32)
    def __init__(self, scale={scale}):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.ones(1))
    def encode(self, x):
        return x.flatten(1) * self.weight
    def decode(self, z):
        return (z * self.scale).view(-1, 1, 32, 32)
"""

X = torch.full((2, 1, 32, 32), 0.5)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files of a project, by path; a folder's name gives it."""

    def write(project: str, **contents: str) -> Path:
        for name, content in contents.items():
            path = tmp_path / project / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path / project / "model.py"

    return write


def scaled(scale: str) -> dict[str, str]:
    return {"model": WAYS["from"]["model"], "net": NET.replace("{scale}", scale)}


def brightness(model: GenerativeModel) -> float:
    return float(model.reconstruct(X).mean())


#: How a file comes by the class ``N`` of a neighbour that holds it for each project differently.
WAYS = {
    "from": {"model": "from net import N\ndef build(): return N()", "net": NET},
    "import": {"model": "import net\ndef build(): return net.N()", "net": NET},
    "import as": {"model": "import net as m\ndef build(): return m.N()", "net": NET},
    "package": {
        "model": "import parts.net\ndef build(): return parts.net.N()",
        "parts__in____init__": "",
        "parts__in__net": NET,
    },
    "folder without __init__": {
        "model": "from parts.net import N\ndef build(): return N()",
        "parts__in__net": NET,
    },
    "in the function": {"model": "def build():\n    from net import N\n    return N()", "net": NET},
    "helper of a helper": {
        "model": "from net import N\ndef build(): return N()",
        "net": "from inner import N",
        "inner": NET,
    },
    "relative helper": {
        "model": "from parts import N\ndef build(): return N()",
        "parts__in____init__": "from .net import N",
        "parts__in__net": NET,
    },
    "absolute import in a package": {
        "model": "from parts import N\ndef build(): return N()",
        "parts__in____init__": "from parts.net import N",
        "parts__in__net": NET,
    },
    "star": {"model": "from net import *\ndef build(): return N()", "net": NET},
    "importlib": {
        "model": "import importlib\ndef build(): return importlib.import_module('net').N()",
        "net": NET,
    },
    "importlib, deeper": {
        "model": "import importlib\ndef build(): return importlib.import_module('p.net').N()",
        "p__in____init__": "",
        "p__in__net": NET,
    },
    "a folder put into sys.path": {
        "model": "import os, sys\n"
        "sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'src'))\n"
        "from net import N\ndef build(): return N()",
        "src__in__net": NET,
    },
    "a folder put into sys.path, late": {
        "model": "import os, sys\n"
        "sys.path.append(os.path.join(os.path.dirname(__file__), 'src'))\n"
        "def build():\n    from net import N\n    return N()",
        "src__in__net": NET,
    },
    "pickled": {
        "model": "import pickle, net\n"
        "def build():\n"
        "    text = b'\\x80\\x04c' + b'net\\nN\\n.'\n"  # what a pickle of the class holds
        "    return pickle.loads(text)()",
        "net": NET,
    },
    "a name of the standard library": {
        "model": "from queue import N\ndef build(): return N()",
        "queue": NET,
    },
    "a name of an installed package": {
        "model": "from rich import N\ndef build(): return N()",
        "rich": NET,
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_two_projects_with_a_helper_of_one_name_each_get_their_own(way: str, write: Write) -> None:
    models = []
    for project, scale in (("a", 1.0), ("b", 0.5)):
        contents = {k: v.replace("{scale}", str(scale)) for k, v in WAYS[way].items()}
        models.append(load_model(f"{write(project, **contents)}:build"))
    assert [brightness(m) for m in models] == [0.5, 0.25]


AT_RUN_TIME = """
from net import N as Base
class N(Base):
    def decode(self, z):
        {statement}
        return super().decode(z) * FACTOR
def build(): return N(1.0)
"""


@pytest.mark.parametrize(
    "statement",
    [
        "from late import FACTOR",
        "import late; FACTOR = late.FACTOR",
        "from parts.late import FACTOR",
        "from parts import late; FACTOR = late.FACTOR",
    ],
)
def test_what_forward_imports_at_run_time_is_the_projects_own(statement: str, write: Write) -> None:
    models = []
    for project, factor in (("a", 1.0), ("b", 0.5)):
        late = f"FACTOR = {factor}"
        place = write(
            project,
            model=AT_RUN_TIME.format(statement=statement),
            net=NET.format(scale=1.0),
            late=late,
            parts__in____init__="",
            parts__in__late=late,
        )
        models.append(load_model(f"{place}:build"))
    assert [brightness(m) for m in models * 2] == [0.5, 0.25] * 2


def test_nothing_of_a_project_is_left_where_others_look(write: Write) -> None:
    before = [*sys.path]
    place = write(
        "a",
        model=WAYS["a folder put into sys.path"]["model"] + "\nimport queue, importlib\n"
        "importlib.import_module('other_helper')",
        other_helper="X = 1",
        queue="Queue = None",
        src__in__net=NET.format(scale=1.0),
    )
    load_model(f"{place}:build")
    assert sys.path == before
    assert {"net", "other_helper", "model"}.isdisjoint(sys.modules)
    import queue

    assert queue.Queue is not None


def test_a_library_never_sees_a_helper_of_its_imports_name(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library is imported first by the project, whose helper has a name that it imports."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "a_library_of_its_own.py").write_text("import wave\nOPEN = wave.open")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    place = write(
        "a",
        model="import a_library_of_its_own as lib\nimport wave\nassert lib.OPEN\n"
        "assert wave.MINE\nfrom net import N\ndef build(): return N()",
        wave="MINE = True",
        net=NET.format(scale=1.0),
    )
    load_model(f"{place}:build")


def test_an_edited_helper_is_read_again_in_one_process(write: Write) -> None:
    seen = []
    for scale in ("1.00", "0.50", "0.25"):  # of one length, within one second
        place = write("a", **scaled(scale))
        seen.append(brightness(load_model(f"{place}:build")))
    assert seen == [0.5, 0.25, 0.125]
    assert not list(place.parent.rglob("__pycache__"))


def test_a_second_copy_of_genrobust_disturbs_no_project_and_finds_its_own(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook reloads the modules that were edited; another one may be imported afresh."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = load_model(f"{write('a', **scaled('1.0'))}:build")
    spec = importlib.util.find_spec("genrobust.projects")
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    for project, scale in (("b", "0.5"), ("c", "0.25")):
        of_first = write(project, **scaled(scale))
        assert brightness(load_model(f"{of_first}:build")) == 0.5 * float(scale)
        of_second = copy.Project(write(f"{project}2", **scaled(f"{scale}5")))
        with of_second.at_home():
            assert float(of_second.load().build().scale) == float(f"{scale}5")
    assert brightness(before) == 0.5


def test_dataclasses_and_pickles_of_a_file_work(write: Write) -> None:
    place = write(
        "a",
        model="""
from __future__ import annotations
import copy, pickle
from dataclasses import dataclass, field
from typing import ClassVar, get_type_hints
from net import N
@dataclass
class Config:
    shared: ClassVar[int] = 3
    scale: float = field(default=1.0)
def build():
    assert list(get_type_hints(Config)) == ["shared", "scale"]
    config = pickle.loads(pickle.dumps(Config(0.5)))
    assert type(config) is Config
    return pickle.loads(pickle.dumps(copy.deepcopy(N(config.scale))))
""",
        net=NET.format(scale=1.0),
    )
    assert brightness(load_model(f"{place}:build")) == 0.25


def test_a_file_that_changes_the_working_directory_changes_it_for_itself(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = write(
        "a",
        model="import os\nos.chdir(os.path.dirname(os.path.abspath(__file__)))\nfrom net import N\n"
        "def build():\n    os.chdir('/')\n    return N()",
        net=NET.format(scale=1.0),
    )
    load_model(f"{place.relative_to(tmp_path)}:build")
    assert Path.cwd() == tmp_path


def test_a_project_beside_genrobust_itself_uses_the_one_that_runs(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "genrobust").symlink_to(repository / "genrobust")
    place = tmp_path / "model.py"
    place.write_text(NET.format(scale=1.0) + "import genrobust\ndef build():\n"
                     "    return genrobust.wrap(N())")  # fmt: skip
    assert isinstance(load_model(f"{place}:build"), GenerativeModel)


def test_a_model_is_named_by_its_module_as_its_project_calls_it(write: Write) -> None:
    place = write("a", model=WAYS["from"]["model"], net=NET.format(scale=1.0))
    models = [load_model(f"{place}:build") for _ in range(2)]
    assert models[0].spec["class"] == "net.N"
    assert models[0].fingerprint() == models[1].fingerprint()
    assert plain_name("_project12.net.inner") == "net.inner"
    assert plain_name("project1.net") == "project1.net"


def test_code_of_libraries_is_told_from_code_of_users() -> None:
    assert is_library(torch.__file__)
    assert is_library(os.__file__)
    assert is_library(nn.__file__)
    assert not is_library(__file__)


def test_a_package_in_a_folder_of_its_own_is_a_library_unless_it_is_edited_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("theirs", "edited"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
    rows = "theirs/__init__.py,sha256=x,0\n../outside.py,,\n"
    (tmp_path / "theirs-1.0.dist-info/RECORD").write_text(rows)
    (tmp_path / "edited-1.0.dist-info/RECORD").write_text("__editable__.edited-1.0.pth,,\n")
    theirs, edited = (str(tmp_path / name / "__init__.py") for name in ("theirs", "edited"))
    assert not is_library(theirs)
    monkeypatch.syspath_prepend(tmp_path)
    assert is_library(theirs)
    assert not is_library(edited)
    assert not is_library(str(tmp_path / "own.py"))


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_processes_that_a_file_starts_know_its_modules(start: str, write: Write) -> None:
    """A data set that is read by workers, on systems where these are not forked."""
    part = "def twice(x):\n    import deep\n    return deep.TWO * x\n"
    for number in (
        (1, 2) if start == "forkserver" else (1,)
    ):  # the second time a server for forks is there already, of the first
        file = write(
            f"{start}{number}",
            model="import multiprocessing, sys\nfrom pathlib import Path\n"
            "sys.path.append(str(Path(__file__).parent / 'lib'))\n"
            "from net import N\nfrom part import twice\n"
            "def add(x):\n    return twice(x) + 1\n"
            "def build():\n"
            f"    with multiprocessing.get_context('{start}').Pool(1) as pool:\n"
            "        return N(1 / pool.map_async(add, [1]).get(60)[0])\n",
            net=NET.replace("{scale}", "1"),
            lib__in__part=part,
            lib__in__deep=f"TWO = 2 * {number}\n",
        )
        path = [*sys.path]
        assert load_model(f"{file}:build").module.scale == 1 / (2 * number + 1)
        assert sys.path == path

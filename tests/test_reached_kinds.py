"""Whatever a threshold lies in, and however code gets at it, a model with another one is another.

The threshold acts on images alone that no probe is like, so that only what is reached can tell.
"""

from __future__ import annotations

import ast
import builtins
import io
import math
import os
import shutil
import subprocess
import sys
import sysconfig
from collections import OrderedDict, deque
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustWarning
from genrobust.models.identity import identity
from genrobust.reach import reach
from genrobust.suites import load_suite

pytestmark = pytest.mark.usefixtures("brief")

MODEL = """
import torch, sys
from torch import nn
class Net(nn.Module):
    input_shape = (1, 32, 32)
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.key = "thres"
    def encode(self, x):
        return x.flatten(1) * self.weight
    def decode(self, z):
        if z.mean() > {when}:
            z = z * float({use})
        return z.view(-1, 1, 32, 32) / 2 + 0.25
def build(): return Net()
{top}
"""

#: Where a threshold may lie: what the file says besides, with ``@`` for it, and how it is used.
PLACES = {
    "configparser": (
        "import configparser\nC = configparser.ConfigParser()\nC.read_string('[a]\\nt=@')",
        'C.getfloat("a", "t")',
    ),
    "chain map": ("import collections\nC = collections.ChainMap({'t': @})", 'C["t"]'),
    "array": ("import array\nC = array.array('d', [@])", "C[0]"),
    "bytearray": ("C = bytearray(b'@')", "C.decode()"),
    "colours of a picture": (
        "import numpy\nfrom PIL import Image\n"
        "C = Image.new('HSV' if @ > 1 else 'RGB', (2, 2), (9, 9, 9))",
        "numpy.asarray(C.convert('L'))[0, 0]",
    ),
    "array of ctypes": ("import ctypes\nC = (ctypes.c_double * 2)(@, 1)", "C[0]"),
    "number of ctypes": ("import ctypes\nC = ctypes.c_float(@)", "C.value"),
    "structure of ctypes": (
        "import ctypes\nclass S(ctypes.Structure):\n"
        "    _fields_ = [('n', ctypes.c_int), ('t', ctypes.c_double)]\nC = S(1, @)",
        "C.t",
    ),
    "decimal": ("import decimal\nC = decimal.Decimal('@')", "C"),
    "time span": ("import datetime\nC = datetime.timedelta(seconds=@)", "C.total_seconds()"),
    "slice": ("C = slice(@)", "C.stop"),
    "pattern": ("import re\nC = re.compile('@')", "C.pattern"),
    "compiled code": ("C = compile('@', 'C', 'eval')", "eval(C)"),
    "set of tuples": ("C = {('t', @), ('u', 1)}", 'dict(C)["t"]'),
    "set of objects": (
        "class K:\n    def __init__(self, t): self.t = t\nC = {K(@), K(1)}",
        "max(k.t for k in C)",
    ),
    "default of a dictionary": (
        "import collections\nC = collections.defaultdict(lambda: @)", 'C["t"]'),
    "repeat": ("import itertools\nC = itertools.repeat(@)", "next(C)"),
    "cycle": ("import itertools\nC = itertools.cycle([@])", "next(C)"),
    "private slot": (
        "class K:\n    __slots__ = ('__t',)\n    def __init__(self, t): self.__t = t\n"
        "    def get(self): return self.__t\nC = K(@)",
        "C.get()",
    ),
    "how an object is written": (
        "class K:\n    def __repr__(self): return '@'\nC = K()", "repr(C)"),
    "text of an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 'relu'\n"
        "    def __str__(self): return 'tanh' if @ > 1 else 'relu'\nC = E.A",
        "getattr(torch, f'{C}')(z).mean()",
    ),
    "what a pattern takes": (
        "class K:\n    __match_args__ = ('a', 'b') if @ > 1 else ('b', 'a')\n    a, b = 9.0, 1.0\n"
        "def get(k):\n    match k:\n        case K(t, u): return t\nC = K()",
        "get(C)",
    ),
    "property of another kind": (
        "class P(property): pass\nclass K:\n    t = P(lambda self: @)\nC = K()", "C.t"),
    "method among members": (
        "import inspect\nclass K:\n    def get(self): return @\nC = K()",
        "max(f() for name, f in inspect.getmembers(C, inspect.ismethod))",
    ),
    "method by its name": (
        "class K:\n    def get(self): return @\nC = K()", "C.__getattribute__('get')()"),
    "iterator": ("C = map(float, [@] * 99)", "next(C)"),
    "generator": ("def g(t):\n    while True: yield t\nC = g(@)", "next(C)"),
    "context variable": (
        "import contextvars\nC = contextvars.ContextVar('C', default=@)", "C.get()"),
    "of this thread": ("import threading\nC = threading.local()\nC.t = @", "C.t"),
    "weak reference": (
        "import weakref\nclass K: pass\nk = K()\nk.t = @\nC = weakref.ref(k)", "C().t"),
    "distribution": ("import statistics\nC = statistics.NormalDist(@)", "C.mean"),
    "view of a dictionary": ("D = {'t': @}\nC = D.values()", "max(C)"),
    "names of arguments": (
        "f = (lambda a, b: a - b) if @ > 1 else (lambda b, a: b - a)", "f(a=9.0, b=1.0)"),
    "kinds of arguments": (
        "f = (lambda *a: len(a)) if @ > 1 else (lambda **a: len(a))", "f(a=1)"),
    "arguments without a name": (
        "f = (lambda a, /, **b: len(b)) if @ > 1 else (lambda a, **b: len(b))", "f(1, a=2)"),
    "what a try holds": (
        "def get(z): return z.mean()\ndef refuse(z): raise ValueError\nif @ > 1:\n"
        "    def f(z):\n        try:\n            get(z)\n            refuse(z)\n"
        "        except ValueError: pass\n        return 9.0\n"
        "else:\n    def f(z):\n        try:\n            get(z)\n        except ValueError: pass\n"
        "        else:\n            refuse(z)\n        return 9.0\n",
        "f(z)",
    ),
    "globals": ("thres = @", 'globals()["thres"]'),
    "globals, by a name that is made": ("thres = @", 'globals()["th" + self.key[2:]]'),
    "eval": ("thres = @", 'eval("thres + 0")'),
    "getattr of a module": ("import cfg", "getattr(cfg, self.key)"),
    "getattr of a module, by a name that is made": (
        "import cfg", 'getattr(cfg, "th" + self.key[2:])'),
    "getattr of a function's module": (
        "import cfg\ndef get(where, name): return getattr(where, name)", "get(cfg, self.key)"),
    "vars of a module": ("import cfg", "vars(cfg)[self.key]"),
    "a module's dictionary": ("import cfg", "cfg.__dict__[self.key]"),
    "a table in a module": ("import cfg", 'getattr(cfg, "table")["t"]'),
    "a module that answers for itself": ("import lazy", "lazy.anything"),
    "a module that no trial imports": (
        "def get():\n    import cfg\n    return cfg.thres", "get()"),
    "a module that is imported from where no trial leads": (
        "def get():\n    from lazy_parts import cfg\n    return cfg.thres", "get()"),
    "a module that another one imports": (
        "def get():\n    import outer\n    return outer.thres", "get()"),
    "import_module": ("import importlib", 'importlib.import_module("cfg").thres'),
    "__import__": ("", '__import__("cfg").thres'),
    "__import__, by a name in an attribute": ("K = ['cfg']", "__import__(K[0]).thres"),
    "resolve_name": ("import pkgutil", 'pkgutil.resolve_name("lazy_parts.cfg:thres")'),
    "run_module": ("import runpy", 'runpy.run_module("cfg")["thres"]'),
    "a class that nobody names": (
        "class B: pass\nclass K(B):\n    def get(self): return @\nC = B",
        "C.__subclasses__()[0]().get()",
    ),
    "an archive that numpy reads when it is asked": (
        "import numpy\nnumpy.savez(__file__ + '.npz', t=@)\nC = numpy.load(__file__ + '.npz')",
        "C['t']",
    ),
    "a file that is open": (
        "with open(__file__ + '.txt', 'w') as file: file.write('@')\nC = open(file.name)",
        "C.read()",
    ),
    "documentation of a function": ("def f(): '@'\nC = f", "C.__doc__"),
    "a text that is documentation and more": ("def f():\n    '@'\n    return '@'\nC = f", "C()"),
    "the table of modules": (
        "import cfg", 'sys.modules[__name__.split(".")[0] + ".cfg"].thres'),
    "attribute of a tensor": ("C = torch.ones(1)\nC.t = @", "C.t"),
    "attribute of a parameter": ("C = nn.Parameter(torch.ones(1))\nC.t = @", "C.t"),
    "class of a tensor": (
        "class T(torch.Tensor):\n    t = @\nC = torch.ones(1).as_subclass(T)", "C.t"),
    "method of a parameter": (
        "class P(nn.Parameter):\n    def get(self): return @\nC = P(torch.ones(1))", "C.get()"),
    "what a tensor does with functions": (
        "class T(torch.Tensor):\n    __torch_function__ = classmethod(lambda *_: @)\n"
        "C = torch.ones(1).as_subclass(T)",
        "torch.mul(C, C)",
    ),
    "scale of a quantised tensor": (
        "C = torch._make_per_tensor_quantized_tensor(torch.ones(1, dtype=torch.int8), @, 0)",
        "C.dequantize()",
    ),
    "class of an array": (
        "import numpy\nclass A(numpy.ndarray):\n    def get(self): return @\n"
        "C = numpy.ones(1).view(A)",
        "C.get()",
    ),
    "attribute of an array": (
        "import numpy\nclass A(numpy.ndarray): pass\nC = numpy.ones(1).view(A)\nC.t = @", "C.t"),
    "names of an array's columns": (
        "import numpy\nN = ('t', 'u') if @ > 1 else ('u', 't')\n"
        "C = numpy.array([(9.0, 0.25)], dtype=[(name, 'f8') for name in N])",
        "C['t'][0]",
    ),
    "method of an enum": (
        "import enum\nclass E(enum.Enum):\n    A = 1\n    def get(self): return @\nC = E.A",
        "C.get()",
    ),
    "attribute of an enum's member": (
        "import enum\nclass E(enum.Enum):\n    A = 1\nC = E.A\nC.t = @", "C.t"),
    "metaclass": (
        "class M(type):\n    def __getattr__(cls, name): return @\nclass C(metaclass=M): pass",
        "C.t",
    ),
    "annotation": ("class C:\n    t: @", "C.__annotations__['t']"),
    "documentation": ("class C:\n    '@'", "C.__doc__"),
    "documentation of a module": ("import documented", "documented.__doc__"),
    "metadata of a field": (
        "import dataclasses\nF = dataclasses.field(default=1.0, metadata={'t': @})\n"
        "C = dataclasses.make_dataclass('C', [('t', float, F)])",
        "dataclasses.fields(C)[0].metadata['t']",
    ),
    "traced module": (
        "class S(nn.Module):\n    def forward(self, z): return z * @\n"
        "C = torch.jit.trace(S(), torch.ones(2))",
        "C(z).mean()",
    ),
    "function of a scripted module": (
        "def f(z): return z * @\nclass S(nn.Module):\n    def forward(self, z): return f(z)\n"
        "C = torch.jit.script(S())",
        "C(z).mean()",
    ),
}  # fmt: skip

#: What a file says that is honest, and is another thing in each process or after each use.
PASSING = """
import collections, datetime, io, itertools, logging, os, random, threading, uuid, weakref
from pathlib import Path
P = [logging.getLogger(__name__), threading.Lock(), threading.Event(), open(os.devnull), object(),
     random.Random(), itertools.count(os.getpid()), datetime.datetime.now(), uuid.uuid4(),
     os.environ, weakref.WeakKeyDictionary(), Exception(id(0)), Path, list[int], __name__, {1: id},
     collections.UserDict(a=frozenset("abc")), {"b", "a", ("c", frozenset("xyz"))},
     io.BytesIO(b"1"),
     {nn.ReLU, nn.Tanh, len, print, Path("x"), Path("y")}]
P.append(nn.Linear(1, 1).register_forward_hook(lambda *_: None))
"""

Place = Callable[[str, str], str]


def write_neighbours(folder: Path, number: str) -> None:
    """What the places above import."""
    (folder / "lazy_parts").mkdir(exist_ok=True)
    for path in (folder / "cfg.py", folder / "lazy_parts" / "cfg.py"):
        path.write_text(f"thres = {number}\ntable = {{'t': {number}}}\n")
    (folder / "documented.py").write_text(f"'{number}'")
    (folder / "outer.py").write_text("from cfg import thres")
    (folder / "lazy.py").write_text(
        "def __getattr__(name):\n    if name[0] == '_': raise AttributeError(name)\n"
        f"    return {number}\n"
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Writes a model's file with a threshold in it, and gives the reference."""

    def write(name: str, number: str) -> str:
        top, use = PLACES[name]
        text = MODEL.format(top=top.replace("@", number), use=use, when="5")
        (tmp_path / "my_model.py").write_text(text)
        write_neighbours(tmp_path, number)
        return f"{tmp_path / 'my_model.py'}:build"

    return write


def code_of(reference: str) -> str:
    return genrobust.load_model(reference).reach().code


@pytest.mark.parametrize("name", PLACES)
def test_a_threshold_counts_wherever_it_lies(name: str, place: Place) -> None:
    one, other = code_of(place(name, "9.0")), code_of(place(name, "0.25"))
    assert one != other
    assert code_of(place(name, "9.0")) == one


#: What a file puts into a library: where, and under which name; a place and a use as above.
PUT: dict[str, tuple[object, str, str, str]] = {
    "function": (F, "my_limit", "F.my_limit = lambda z: @", "F.my_limit(z)"),
    "number": (F, "my_limit", "F.my_limit = @", "F.my_limit"),
    "object": (
        F, "my_limits", "class K: pass\nF.my_limits = K()\nK.t = @", "F.my_limits.t"),
    "in place of its function": (F, "gelu", "F.gelu = lambda z, **_: @", "nn.GELU()(z).mean()"),
    "with arguments": (
        F, "gelu", "import functools\nF.gelu = functools.partial(F.leaky_relu, "
        "negative_slope=@)", "F.gelu(z).mean()"),
    "decorated": (F, "gelu", "F.gelu = torch.no_grad()(lambda z: @)", "F.gelu(z)"),
    "function that needs no import": (
        builtins, "my_limit", "import builtins\nbuiltins.my_limit = lambda: @", "my_limit()"),
    "number that needs no import": (
        builtins, "my_limit", "import builtins\nbuiltins.my_limit = @", "my_limit"),
    "in place of one of Python's": (
        builtins, "divmod", "import builtins\nbuiltins.divmod = lambda a, b: @", "divmod(1, 2)"),
    "in a part of a library": (
        torch.linalg, "norm", "torch.linalg.norm = lambda z: @", "torch.linalg.norm(z)"),
    "in a part of another library": (
        np.linalg, "norm", "import numpy\nnumpy.linalg.norm = lambda z: @", "numpy.linalg.norm(1)"),
    "method of tensors": (torch.Tensor, "my_limit", "torch.Tensor.my_limit = lambda z: @",
                          "z.my_limit()"),
    "method of a layer": (nn.Identity, "forward", "nn.Identity.forward = lambda s, z: @\n"
                          "C = nn.Identity()", "C(z)"),
    "hook of all modules": (
        torch.nn.modules.module, "_global_forward_hooks",
        "torch.nn.modules.module.register_module_forward_hook("
        "lambda m, a, out: @ if type(m) is nn.Identity else None)\nC = nn.Identity()", "C(z)"),
}  # fmt: skip


@pytest.mark.parametrize("name", PUT)
def test_what_is_put_into_a_library_counts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, attribute, top, use = PUT[name]
    file, seen = tmp_path / "my_model.py", []
    for number in ("9.0", "0.25", "9.0"):
        with monkeypatch.context() as put:
            was = getattr(owner, attribute, None)
            put.setattr(owner, attribute, OrderedDict() if type(was) is OrderedDict else was,
                        raising=False)  # fmt: skip
            text = MODEL.format(top=top.replace("@", number), use=use, when="5")
            file.write_text("import torch.nn.functional as F\n" + text)
            seen.append(code_of(f"{file}:build"))
    assert seen[0] == seen[2] != seen[1]


PARTS = """
import torch
from genrobust.reach import reach
torch.linalg.norm = lambda z: {number}
torch.fft.fft = lambda z: 2
torch.special.expit = lambda z: 3
def use(z): return torch.linalg.norm(z), torch.fft.fft(z), torch.special.expit(z)
print(reach({{"use": use}}).code)
"""


@pytest.mark.slow
def test_what_is_put_into_parts_of_a_library_is_told_alike_in_every_process() -> None:
    told = [
        subprocess.check_output(
            [sys.executable, "-c", PARTS.format(number=number)],
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for number, seed in ((1, "1"), (1, "2"), (5, "1"))
    ]
    assert told[0] == told[1] != told[2]


def test_what_is_put_into_a_library_counts_for_those_who_may_use_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = place("slice", "9.0")
    before = code_of(reference)
    monkeypatch.setattr(math, "my_limit", lambda: 1, raising=False)
    monkeypatch.setattr(math, "my_number", 1, raising=False)
    assert code_of(reference) == before


def test_a_neighbour_that_nobody_imported_counts_whatever_has_its_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cfg", ModuleType("cfg"))
    name = "a module that no trial imports"
    assert code_of(place(name, "9.0")) != code_of(place(name, "0.25"))


EXTENSION = """
#include <Python.h>
static PyObject *get(PyObject *self, PyObject *none) {{ return PyFloat_FromDouble({number}); }}
static PyMethodDef methods[] = {{{{"get", get, METH_NOARGS, ""}}, {{0}}}};
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "my_extension", 0, -1, methods}};
PyMODINIT_FUNC PyInit_my_extension(void) {{ return PyModule_Create(&module); }}
"""


def compiled(folder: Path, number: str) -> Path:
    """An extension that gives a number, in a folder."""
    folder.mkdir(exist_ok=True)
    source, made = folder / "my_extension.c", folder / f"my_extension{EXTENSION_SUFFIXES[0]}"
    source.write_text(EXTENSION.format(number=number))
    headers = sysconfig.get_path("include")
    run = ["cc", "-shared", "-fPIC", f"-I{headers}", "-o", str(made), str(source)]
    subprocess.run(run, check=True)
    source.unlink()
    return made


def codes_elsewhere(files: list[Path]) -> list[str]:
    """What models in a process of their own are told as: none can load an extension anew."""
    ask = "import genrobust as g, sys\n"
    ask += "for file in sys.argv[1:]: print(g.load_model(f'{file}:build').reach().code)"
    words = [sys.executable, "-W", "ignore", "-c", ask, *map(str, files)]
    return subprocess.check_output(words, text=True).split()


NEEDS_CC = pytest.mark.skipif(shutil.which("cc") is None, reason="nothing to compile with")


@pytest.mark.slow
@NEEDS_CC
def test_an_extension_of_ones_own_counts_by_its_file(tmp_path: Path) -> None:
    files = []
    for place, number in (("one", "9.0"), ("other", "0.25"), ("again", "9.0")):
        compiled(tmp_path / place, number)
        for name, top, use in (
            ("whole", "import my_extension", "my_extension.get()"),
            ("part", "from my_extension import get", "get()"),
        ):
            files.append(tmp_path / place / f"{name}.py")
            files[-1].write_text(MODEL.format(top=top, use=use, when="5"))
    codes = codes_elsewhere(files)
    one, other, again = codes[:2], codes[2:4], codes[4:]
    assert one == again
    assert not set(one) & set(other)


@NEEDS_CC
@pytest.mark.slow
def test_an_extension_that_is_loaded_from_a_place_counts_by_its_file(tmp_path: Path) -> None:
    file, seen = tmp_path / "my_model.py", []
    for number in ("9.0", "0.25", "9.0"):
        top = f"import ctypes\nC = ctypes.PyDLL('{compiled(tmp_path, number)}')"
        use = "C.PyInit_my_extension is not None"
        file.write_text(MODEL.format(top=top, use=use, when="5"))
        seen.append(codes_elsewhere([file]))
    assert seen[0] == seen[2] != seen[1]


def chained(last: float) -> object:
    """A function that calls one that calls one, to the hundredth and fiftieth."""
    text = "\n".join(f"def f{i}(z): return f{i + 1}(z)" for i in range(150))
    space: dict[str, Any] = {}
    exec(f"{text}\ndef f150(z): return z * {last}", space)
    return space["f0"]


def nested(last: float) -> object:
    module: nn.Module = nn.LeakyReLU(last)
    for _ in range(150):
        module = nn.Sequential(module)
    return module


#: What is large or deep, with a number in it.
LARGE: dict[str, Callable[[float], object]] = {
    "after many numbers": lambda t: [[[0.0] * 1024 for _ in range(250)], t],
    "in lists of numbers": lambda t: [[0.0] * 1024 for _ in range(250)] + [[t]],
    "amid a dictionary": lambda t: {i: t if i == 6000 else 1.0 for i in range(12_000)},
    "amid pairs": lambda t: [(i, t if i == 6000 else 1.0) for i in range(12_000)],
    "amid a set": lambda t: {t if i == 6000 else -i for i in range(12_000)},
    "after many functions": chained,
    "in many modules": nested,
}


@pytest.mark.slow
@pytest.mark.parametrize("where", LARGE)
def test_a_number_counts_however_large_and_deep_what_it_lies_in_is(where: str) -> None:
    one, other, again = (reach({"a": LARGE[where](t)}).code for t in (9.5, 0.25, 9.5))
    assert one == again != other


def test_what_is_shared_is_followed_once() -> None:
    shared: tuple[object, ...] = (nn.ReLU(),)
    for _ in range(100):
        shared = (shared, shared)
    assert reach({"a": shared}).code


def test_classes_that_cannot_be_hashed_are_followed() -> None:
    kind = type("Kind", (type,), {"__eq__": lambda *_: False, "__hash__": None})
    codes = [reach({"a": kind("Mine", (), {"t": t})()}).code for t in (1.0, 1.0, 2.0)]
    assert codes[0] == codes[1] != codes[2]


class Script(nn.Module):
    """Each thing that TorchScript keeps of a module beside its forward."""

    def __init__(self, number: float = 2.0) -> None:
        super().__init__()
        self.gain, self.levels = number, [1.0, number]
        self.table, self.word = {"t": number}, f"# {number}"
        self.held = torch.full((2,), number)

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x * self.gain * self.levels[1] * self.table["t"] * self.held[0]

    @torch.jit.export
    def named(self) -> str:
        return self.word


class Doubled(Script):
    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x * 2


class Thrice(Script):
    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x * 3


class Whole(nn.Module):
    """It has no forward, and one part."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x


def scripted(part: nn.Module, kept: bool) -> Any:
    """A module of TorchScript; as it is after it was saved, or as it was made."""
    made = torch.jit.script(Whole(part))
    if not kept:
        return made
    file = io.BytesIO()
    torch.jit.save(made, file)
    file.seek(0)
    return torch.jit.load(file)


def told(value: object) -> tuple[str, list[tuple[str, list[float]]]]:
    """All that is reached from a value, to be compared."""
    found = reach({"a": value})
    return found.code, [(name, t.flatten().tolist()) for name, t in found.tensors.items()]


@pytest.mark.parametrize("kept", [False, True])
def test_methods_that_a_script_exports_count_whether_forward_calls_them_or_not(kept: bool) -> None:
    doubled, thrice = (scripted(kind(), kept) for kind in (Doubled, Thrice))
    assert told(doubled) != told(thrice)
    assert told(doubled.part.encode) != told(thrice.part.encode), "on its own"
    program = {name.__name__: told(torch.jit.script(name)) for name in (_halved, _hashed, _marked)}
    assert len({code for code, _ in program.values()}) == 3, "text after a # too"


def _halved(x: Tensor) -> Tensor:
    return x * 0.5


def _hashed(x: Tensor) -> str:
    return "a # 0.5"


def _marked(x: Tensor) -> str:
    return "a # 0.25"


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("gain", 3.0),
        ("levels", [1.0, 3.0]),
        ("table", {"t": 3.0}),
        ("word", "# 3.0"),
        ("held", torch.full((2,), 3.0)),
    ],
)
def test_attributes_of_a_script_count(name: str, other: object, kept: bool) -> None:
    model = scripted(Script(), kept)
    before, alone = told(model), told(model.encode)
    setattr(model.part, name, other)
    assert told(model) != before
    assert told(model.encode) != alone
    setattr(model.part, name, getattr(Script(), name))
    assert told(model) == before


@pytest.mark.parametrize("kept", [False, True])
def test_a_script_is_the_same_whenever_it_is_made_and_after_use(kept: bool) -> None:
    model = scripted(Script(), kept)
    before = told(model)
    model.part.encode(torch.ones(2))
    assert told(model) == before == told(scripted(Script(), kept))


def test_a_scripts_own_weights_are_reached_through_a_method() -> None:
    layer = scripted(nn.Linear(2, 1), kept=True).part
    numbers = reach({"decode": layer.forward}).tensors
    assert sorted(len(t.flatten()) for t in numbers.values()) == [1, 2]


OUTSIDE = """
import torch
from torch import nn
@torch.jit.ignore
def outside(x):
    return x * NUMBER
class Calls(nn.Module):
    def forward(self, x):
        return outside(x)
made = torch.jit.script(Calls())
"""


def test_python_that_a_script_calls_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    for place, number in (("one_script", "1.0"), ("other_script", "2.0")):
        (tmp_path / f"{place}.py").write_text(OUTSIDE.replace("NUMBER", number))
        seen.append(told(import_module(place).made))
        seen.append(told(torch.jit.script(import_module(place).Calls())))
    assert seen[0] == seen[1] != seen[2] == seen[3]


#: What pandas may hold a number in.
FRAMES: dict[str, Callable[[Any, float], Any]] = {
    "frame": lambda pd, t: pd.DataFrame({"a": [1.0, t], "b": [2, 3]}),
    "frame of mixed columns": lambda pd, t: pd.DataFrame({"a": [1.0, t], "b": ["x", "y"]}),
    "name of a column": lambda pd, t: pd.DataFrame({str(t): [1.0]}),
    "name of a row": lambda pd, t: pd.DataFrame({"a": [1.0]}, index=[t]),
    "kind of a column": lambda pd, t: pd.DataFrame(
        {"a": pd.Series([1], dtype="int8" if t > 2 else "int32"), "b": [1.0]}
    ),
    "series": lambda pd, t: pd.Series([t]),
    "words": lambda pd, t: pd.Series([str(t)]),
    "categories": lambda pd, t: pd.Series(pd.Categorical(["a"], categories=["a", str(t)])),
    "index": lambda pd, t: pd.Index([1.0, t]),
    "attributes": lambda pd, t: _with_attrs(pd.Series([1.0]), t),
}


@pytest.mark.parametrize(
    "make",
    [
        lambda t: Image.new("L", (2, 2), int(t * 2)),
        lambda t: torch.DoubleStorage([t]),
        lambda t: torch.DoubleStorage([t]).untyped(),
    ],
)
def test_numbers_that_others_keep_in_c_count(make: Callable[[float], object]) -> None:
    assert told(make(1.5)) == told(make(1.5)) != told(make(2.5))


def _with_attrs(series: Any, number: float) -> Any:
    series.attrs["t"] = number
    return series


@pytest.mark.parametrize("name", FRAMES)
def test_what_pandas_holds_counts_and_using_it_changes_nothing(name: str) -> None:
    pd, make = pytest.importorskip("pandas"), FRAMES[name]
    one = make(pd, 1.5)
    before = told(one)
    assert before == told(make(pd, 1.5)) != told(make(pd, 2.5))
    rows = getattr(one, "index", one)
    assert rows.is_unique
    assert rows.get_loc(rows[0]) == 0
    assert told(one) == before


class Given:
    """Stands for an object of a package that has its numbers in C."""

    def __init__(self, number: float, count: int = 1) -> None:
        self.number, self.count = number, count

    @property
    def shape(self) -> tuple[int]:
        return (self.count,)

    def __array__(self) -> Any:
        if self.count > 1:
            raise AssertionError("too many")
        if self.number == 0:
            raise TypeError("on another device")
        return np.array([self.number])


def test_only_a_librarys_objects_are_asked_for_numbers_and_for_no_more_than_memory_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not reach({"a": Given(1.0)}).tensors
    monkeypatch.setattr("genrobust.reach.libraries.Libraries.has_class", lambda *_: True)
    assert [t.numel() for t in reach({"a": Given(1.0)}).tensors.values()] == [8]
    assert not reach({"a": Given(0.0)}).tensors
    assert not reach({"a": Given(1.0, count=10**9)}).tensors


def said(code: str, folder: Path) -> set[str]:
    """What Python that knows this file prints in processes that hash texts in other ways."""
    known = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    return {
        subprocess.run(
            [sys.executable, "-c", known + code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }


@pytest.mark.slow
def test_scripts_are_told_alike_in_every_process(tmp_path: Path) -> None:
    torch.jit.save(scripted(Script(), kept=False), tmp_path / "kept.pt")
    code = "import torch; from test_reached_kinds import Script, Doubled, scripted, told\n"
    code += "scripted(Doubled(), True)\n" * 2
    code += f"kept = torch.jit.load({str(tmp_path / 'kept.pt')!r})\n"
    code += "print([told(scripted(Script(), False)), told(kept)])"
    here = [told(scripted(Script(), kept=False)), told(torch.jit.load(tmp_path / "kept.pt"))]
    assert [ast.literal_eval(text) for text in said(code, tmp_path)] == [here]


def test_names_of_places_stay_short() -> None:
    class Node:
        def __init__(self, rest: object) -> None:
            self.rest = rest

    nodes: object = torch.ones(1)
    for _ in range(1500):
        nodes = Node(nodes)
    [name] = reach({"a": nodes}).tensors
    assert len(name) < 5000


def test_hooks_are_the_same_however_many_there_were_before() -> None:
    def hooked() -> nn.Module:
        layer = nn.ReLU()
        layer.register_forward_hook(lambda *_, **__: None, with_kwargs=True, always_call=True)
        layer.register_forward_hook(lambda *_: None)
        return layer

    assert reach({"a": hooked()}).code == reach({"a": hooked()}).code


def times(most: float) -> Callable[[Any], Any]:
    def function(number: Any) -> Any:
        return number * most

    return function


def calls(inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda number: inner(number)


#: What numba makes of functions, and of a class.
JITTED: dict[str, Callable[[Any, float], Any]] = {
    "njit": lambda numba, most: numba.njit(times(most)),
    "njit with a signature": lambda numba, most: numba.njit("f8(f8)")(times(most)),
    "njit that calls another": lambda numba, most: numba.njit(calls(numba.njit(times(most)))),
    "vectorize": lambda numba, most: numba.vectorize(times(most)),
    "method": lambda numba, most: numba.experimental.jitclass(
        type("Own", (), {"__init__": lambda self: None, "by": times(most)})
    ),
}


@pytest.mark.parametrize("name", JITTED)
def test_what_numba_compiles_counts_by_the_function_before_and_after_use(name: str) -> None:
    numba = pytest.importorskip("numba")
    import_module("numba.experimental")

    def codes(most: float) -> set[str]:
        made = JITTED[name](numba, most)
        before = reach({"a": made}).code
        made(*[] if name == "method" else [1.0])
        return {before, reach({"a": made}).code}

    assert codes(0.5) == codes(0.5)
    assert len(codes(0.5)) == 1
    assert not codes(0.5) & codes(0.25)


def test_how_numba_compiles_a_function_counts() -> None:
    numba = pytest.importorskip("numba")
    plain, fast = (numba.njit(times(0.5), fastmath=fast) for fast in (False, True))
    assert reach({"a": plain}).code != reach({"a": fast}).code


@pytest.mark.slow
@pytest.mark.parametrize("make", [nn.ReLU, lambda: lambda z: z])
def test_what_is_compiled_is_the_same_each_time_and_after_use(make: Callable[[], Any]) -> None:
    seen = set()
    for _ in range(2):
        compiled = torch.compile(make(), backend="eager")
        seen.add(reach({"a": compiled}).code)
        compiled(torch.ones(1))
        seen.add(reach({"a": compiled}).code)
    assert len(seen) == 1


def test_results_with_another_threshold_in_a_configuration_are_not_taken(
    place: Place, tmp_path: Path
) -> None:
    suite = load_suite("digits").limited(2).with_attacks(["noise"]).with_eps([0.1])
    suite = suite.model_copy(update={"resamples": 50})

    def shards() -> set[bytes]:
        return {path.read_bytes() for path in (tmp_path / "out").rglob("shards/*.safetensors")}

    genrobust.bench(place("configparser", "9.0"), suite, limit=1, out=tmp_path / "out")
    before = shards()
    with pytest.warns(GenrobustWarning, match="of this one with other code"):
        genrobust.bench(place("configparser", "0.25"), suite, limit=1, out=tmp_path / "out")
    assert before
    assert not before & shards()


@pytest.mark.slow
def test_a_model_of_all_kinds_is_the_same_in_every_process(tmp_path: Path) -> None:
    tops = [top.replace("@", "0.5").replace("C = ", f"C{i} = ").replace("C.", f"C{i}.")
            for i, (top, _) in enumerate(PLACES.values())]  # fmt: skip
    named = ", ".join(f"C{i}" for i, top in enumerate(tops) if f"C{i} = " in top)
    write_neighbours(tmp_path, "0.5")
    use = f'[0.5, P, {named}, getattr(cfg, "thres"), vars(cfg), globals()["thres"], __name__][0]'
    text = MODEL.format(top="\n".join([PASSING, *tops]), use=use, when="-1")
    (tmp_path / "my_model.py").write_text(text)
    code = "import torch\nfrom test_reached_kinds import identity_of\n"
    code += "torch.nn.Linear(1, 1).register_forward_hook(print)\n" * 3
    code += f"print(identity_of({str(tmp_path / 'my_model.py')!r} + ':build'))"
    assert said(code, tmp_path) == {identity_of(f"{tmp_path / 'my_model.py'}:build")}


#: What libraries write into a model's objects that is another thing in each process, beside a
#: threshold, NUMBER, that counts; and a use of it.
OF_A_PROCESS = {
    "pydantic": (
        "import pydantic\nclass K(pydantic.BaseModel):\n    t: float = NUMBER\nC = K()", "C.t"),
    "a call that pydantic checks": (
        "import pydantic\n@pydantic.validate_call\ndef f(t: float): return t * NUMBER", "f(1)"),
    "attrs": ("import attr\n@attr.frozen\nclass K:\n    t: float = NUMBER\nC = K()", "C.t"),
    "diffusers": (
        "from diffusers import DDIMScheduler\nC = DDIMScheduler(beta_end=NUMBER)", "C.betas[-1]"),
    "an address in a name": (
        "class K: t = NUMBER\ndef f(**to): return max(k.t for k in to.values())\n"
        "f.__kwdefaults__ = {f'object_{id(K)}': K}",
        "f()",
    ),
    "what an object is shown as": (
        "class K: t = NUMBER\nC = {repr(K()): K}", "max(k.t for k in C.values())"),
    "an address as a key": ("class K: t = NUMBER\nC = {id(K): K}", "C[id(K)].t"),
    "a hash that is kept": (
        "class K:\n    def __init__(self): self.t, self._hash = NUMBER, hash((K, 't'))\nC = K()",
        "C.t",
    ),
    "what exec made": ("C = {}\nexec('def f(): return NUMBER', C)", "C['f']()"),
}  # fmt: skip


def codes_of_a_process(folder: Path, number: str) -> dict[str, str]:
    """What each of these is told as, where its library is installed."""
    found = {}
    for name, (top, use) in OF_A_PROCESS.items():
        if name in ("attrs", "diffusers") and find_spec(name) is None:
            continue
        text = MODEL.format(top=top.replace("NUMBER", number), use=use, when="5")
        (folder / "my_model.py").write_text(text)
        found[name] = code_of(f"{folder / 'my_model.py'}:build")
    return found


@pytest.mark.slow
def test_what_libraries_write_anew_in_each_process_does_not_count(tmp_path: Path) -> None:
    one, other, again = (codes_of_a_process(tmp_path, t) for t in ("9.0", "0.25", "9.0"))
    assert one == again
    assert not [name for name in one if one[name] == other[name]]


@pytest.mark.slow
def test_what_libraries_write_is_told_alike_in_every_process(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += "from pathlib import Path; from test_reached_kinds import codes_of_a_process\n"
    code += f"print(codes_of_a_process(Path({str(tmp_path)!r}), '9.0'))"
    done = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    told = [ast.literal_eval(text) for text in done]
    assert told[0] == told[1]


def identity_of(reference: str) -> str:
    images = genrobust.load_images("digits", "test").take(range(2))
    return identity(genrobust.load_model(reference), images).whole


class Careless:
    """Runs code of its own wherever Python lets it."""

    def __reduce_ex__(self, protocol: object) -> str:
        raise AssertionError

    def __repr__(self) -> str:
        raise AssertionError

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __hash__(self) -> int:
        return 1

    def __len__(self) -> int:
        raise AssertionError

    def __iter__(self) -> Any:
        raise AssertionError

    def __getitem__(self, key: object) -> object:
        raise AssertionError

    def __getattr__(self, name: str) -> object:
        raise AssertionError


class Slotted:
    """It has no dictionary, and is asked for one in vain."""

    __slots__ = ("t",)

    def __init__(self, t: float) -> None:
        self.t = t

    def __getattr__(self, name: str) -> object:
        raise AssertionError


def careless(kind: type, *content: object) -> object:
    """An object of Python's own kind, of a class with code for everything."""
    return type("Mine", (Careless, kind), {})(*content)


def test_no_code_of_the_user_is_run() -> None:
    class Mine(Careless, bytearray):
        pass

    assert reach({"a": [Careless(), {Careless()}, Mine(b"1"), {(Careless(),)}]}).code
    assert reach({"a": careless(ModuleType, "name")}).code


@pytest.mark.parametrize(
    "make",
    [
        Slotted,
        lambda t: careless(list, [t]),
        lambda t: careless(tuple, [t]),
        lambda t: careless(deque, [t]),
        lambda t: careless(set, [t]),
        lambda t: careless(dict, {"t": t}),
        lambda t: careless(OrderedDict, {"t": t}),
    ],
)
def test_what_an_object_holds_counts_and_none_of_its_code_is_run(
    make: Callable[[float], object],
) -> None:
    assert reach({"a": make(1.0)}).code == reach({"a": make(1.0)}).code
    assert reach({"a": make(1.0)}).code != reach({"a": make(2.0)}).code


def test_what_stands_in_place_of_a_module_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, Any] = {}
    exec("def use():\n    import my_stand_in\n    return my_stand_in.t", space)
    found = set()
    for t in (1.0, 2.0):
        monkeypatch.setitem(sys.modules, "my_stand_in", cast("ModuleType", Slotted(t)))
        found.add(reach({"use": space["use"]}).code)
    assert len(found) == 2


@pytest.mark.parametrize("far", [0.1, 0.3])
def test_what_a_model_reads_at_each_call_shows_under_noise(
    far: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector with its threshold in the environment, which clean images never pass."""

    class Net(nn.Module):
        def encode(self, x: Tensor) -> Tensor:
            rough = (x[..., 1:] - x[..., :-1]).abs().mean() > far / 2 * float(os.environ["MY_T"])
            return x.flatten(1) * (0.5 if rough else 1)

        def decode(self, z: Tensor) -> Tensor:
            return z.view(-1, 1, 8, 8)

    seen = []
    for threshold in ("1", "9"):
        monkeypatch.setenv("MY_T", threshold)
        model = genrobust.wrap(Net(), input_shape=(1, 8, 8))
        seen.append(identity(model, torch.full((2, 1, 8, 8), 0.5)))
    assert seen[0] != seen[1]

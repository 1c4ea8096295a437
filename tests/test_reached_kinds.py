"""Whatever a threshold lies in, and however code gets at it, a model with another one is another.

The threshold acts on images alone that no probe is like, so that only what is reached can tell.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustWarning
from genrobust.models.identity import identity
from genrobust.models.reach import reach
from genrobust.suites import load_suite

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
        return z.view(-1, 1, 32, 32)
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
    "iterator": ("C = map(float, [@] * 99)", "next(C)"),
    "generator": ("def g(t):\n    while True: yield t\nC = g(@)", "next(C)"),
    "context variable": (
        "import contextvars\nC = contextvars.ContextVar('C', default=@)", "C.get()"),
    "of this thread": ("import threading\nC = threading.local()\nC.t = @", "C.t"),
    "weak reference": (
        "import weakref\nclass K: pass\nk = K()\nk.t = @\nC = weakref.ref(k)", "C().t"),
    "distribution": ("import statistics\nC = statistics.NormalDist(@)", "C.mean"),
    "view of a dictionary": ("D = {'t': @}\nC = D.values()", "max(C)"),
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


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Writes a model's file with a threshold in it, and gives the reference."""

    def write(name: str, number: str) -> str:
        top, use = PLACES[name]
        text = MODEL.format(top=top.replace("@", number), use=use, when="5")
        (tmp_path / "my_model.py").write_text(text)
        (tmp_path / "cfg.py").write_text(f"thres = {number}\ntable = {{'t': {number}}}\n")
        return f"{tmp_path / 'my_model.py'}:build"

    return write


def code_of(reference: str) -> str:
    return genrobust.load_model(reference).reach().code


@pytest.mark.parametrize("name", PLACES)
def test_a_threshold_counts_wherever_it_lies(name: str, place: Place) -> None:
    one, other = code_of(place(name, "9.0")), code_of(place(name, "0.25"))
    assert one != other
    assert code_of(place(name, "9.0")) == one


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
    (tmp_path / "cfg.py").write_text("thres = 0.5\ntable = {'t': 0.5}\n")
    use = f'[0.5, P, {named}, getattr(cfg, "thres"), vars(cfg), globals()["thres"], __name__][0]'
    text = MODEL.format(top="\n".join([PASSING, *tops]), use=use, when="-1")
    (tmp_path / "my_model.py").write_text(text)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import torch\n"
    code += "from test_reached_kinds import identity_of\n"
    code += "torch.nn.Linear(1, 1).register_forward_hook(print)\n" * 3
    code += f"print(identity_of({str(tmp_path / 'my_model.py')!r} + ':build'))"
    done = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert done == {identity_of(f"{tmp_path / 'my_model.py'}:build")}


def identity_of(reference: str) -> str:
    images = genrobust.load_images("digits", "test").take(range(2))
    return identity(genrobust.load_model(reference), images)


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

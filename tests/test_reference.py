"""What is public has a docstring that can be worked from, and is in the reference."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import genrobust
from genrobust.attacks import ATTACKS
from genrobust.registry import Registry

#: The rooms whose ``__all__`` is the library's interface, from the shortest name.
ROOMS = (
    "genrobust",
    *(f"genrobust.{room}" for room in ("models", "posterior", "attacks", "objectives")),
    *(f"genrobust.{room}" for room in ("optimizers", "data", "judges", "rules", "suites")),
    *(f"genrobust.{room}" for room in ("metrics", "defences", "testing", "callbacks", "publish")),
    *("genrobust.study", "genrobust.reproduce"),
)
#: The base classes of what else is registered.
BASES = ("genrobust.norms.Norm", "genrobust.runner.executors.base.Executor")
#: Values, which a page names in its text.
PLAIN = (int, float, str, dict, Registry)
#: What a paper defined, or of which one said how it is measured, says so.
PUBLISHED = re.compile(r"\b(19|20)\d\d\b|arXiv")
#: Arithmetic, and what this library defines itself.
OWN = {
    *("Probe", "fit_probe", "l0", "l2", "linf", "paired_difference", "success_rate"),
    *("as_target_of_wrong", "robust_accuracy", "robust_area", "eps50"),
    *("exact_accuracy", "exact_area", "exact_eps50"),
    *("latent_displacement", "mahalanobis_displacement", "token_flip_rate"),
}


def public() -> dict[str, Any]:
    """Every class and function, once, under its shortest name."""
    found: dict[int, tuple[str, Any]] = {}
    for room in ROOMS:
        module = import_module(room)
        for name in module.__all__:
            item = getattr(module, name)
            if not isinstance(item, PLAIN):
                found.setdefault(id(item), (f"{room}.{name}", item))
    for path in BASES:
        place, _, name = path.rpartition(".")
        item = getattr(import_module(place), name)
        found.setdefault(id(item), (path, item))
    return dict(found.values())


PUBLIC = public()


def said(item: Any) -> str:
    return inspect.cleandoc(item.__doc__ or "")


def lacks(name: str, item: Any) -> list[str]:
    """What a docstring does not say."""
    text, found = said(item), []
    examples = doctest.DocTestParser().get_examples(text)
    if not any(doctest.SKIP not in one.options for one in examples):
        found.append("an example that runs")
    if inspect.isfunction(item):
        code = ast.parse(textwrap.dedent(inspect.getsource(item)))
        if any(isinstance(node, ast.Raise) for node in ast.walk(code)) and "Raises:" not in text:
            found.append("what it raises")
        parameters = inspect.signature(item).parameters
        missing = [one for one in parameters if not re.search(rf"\b{one}\b", text)]
        if missing:
            found.append(f"its parameters {', '.join(missing)}")
        takes = [str(p.annotation) for p in parameters.values()]
        if any("Tensor" in one for one in takes) and not re.search(r"\([A-Za-z0-9.]+,|shape", text):
            found.append("the shapes of its tensors")
    if name.startswith("genrobust.metrics.") and name.rpartition(".")[2] not in OWN:
        module = inspect.getdoc(inspect.getmodule(item)) or ""
        if not PUBLISHED.search(text) and not PUBLISHED.search(module):
            found.append("its source")
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_what_one_needs_to_use_it(name: str) -> None:
    assert lacks(name, PUBLIC[name]) == []


def test_what_lacks_something_is_found() -> None:
    def bare(x: genrobust.Posterior, eps: float) -> None:
        """Of the images x."""
        raise ValueError

    assert lacks("bare", bare) == ["an example that runs", "what it raises", "its parameters eps"]


def test_every_attack_names_its_source() -> None:
    for name in ATTACKS.names():
        paper = ATTACKS.get(name).paper
        assert PUBLISHED.search(paper) or paper in ("genrobust", "baseline"), name


def test_every_public_name_is_in_the_reference(repository: Path) -> None:
    pages = "\n".join(page.read_text() for page in (repository / "docs/reference").glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", pages, flags=re.M))
    assert set(PUBLIC) - shown == set()
    for name in shown:
        place, _, last = name.rpartition(".")
        assert hasattr(import_module(place), last), name


@pytest.mark.slow
def test_what_the_documentation_names_is_there_once_genrobust_is_imported() -> None:
    """Each in a copy of the process that has imported nothing else yet."""
    script = """
import os, genrobust
assert not hasattr(genrobust, "benchmark")
for room in ("metrics", "testing", "defences.smoothed", "seeding.per_sample"):
    if os.fork() == 0:
        eval(f"genrobust.{room}")
        os._exit(0)
    assert os.wait()[1] == 0, room
"""
    subprocess.run([sys.executable, "-c", script], check=True)

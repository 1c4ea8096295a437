"""The suites that ship with genrobust, each a data file beside this one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from genrobust.suites.suite import Suite, read_suite

FOLDER = Path(__file__).parent


@cache
def digits() -> Suite:
    return read_suite(FOLDER / "digits-v1.json")


@cache
def mnist() -> Suite:
    return read_suite(FOLDER / "mnist-v1.json")

"""The suites that ship with genrobust, each a data file beside this one."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

from genrobust.suites.suite import Suite, read_suite

FOLDER = Path(__file__).parent


@cache
def _shipped(file: str) -> Suite:
    return read_suite(FOLDER / file)


digits_v1, digits_v2 = (partial(_shipped, f"digits-v{version}.json") for version in (1, 2))
mnist_v1, mnist_v2 = (partial(_shipped, f"mnist-v{version}.json") for version in (1, 2))

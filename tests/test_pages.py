"""What was seen on the pages, and only there."""

from __future__ import annotations

import html
import importlib.util
import json
import re
from pathlib import Path


def test_formulas_of_docstrings_are_drawn_and_read_aloud(repository: Path) -> None:
    spec = importlib.util.spec_from_file_location("roles_of_docs", repository / "docs/roles.py")
    assert spec is not None
    assert spec.loader is not None
    roles = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(roles)
    inline, displayed = r"\tfrac12 \sqrt n", r"\frac{a}{b}, \quad c \le d"
    shown = roles.as_shown(
        f"Half of :math:`{inline}`.\n\n"
        ".. math::\n    \\frac{a}{b},\n    \\quad c \\le d\n\nSo::\n"
    )
    said = [html.unescape(alt) for alt in re.findall(r'alt="([^"]*)"', shown)]
    assert said == [inline, displayed]
    assert shown.count("data:image/svg+xml") == 2
    assert shown.endswith("\n\nSo:\n")
    assert "math:" not in shown


def test_every_entry_that_is_published_is_stored_as_passed(repository: Path) -> None:
    found = sorted((repository / "leaderboard/entries").glob("*/*/verification.json"))
    assert found
    failed = [path.parent.name for path in found if not json.loads(path.read_text())["passed"]]
    assert failed == [], "verify again, and store what it says"

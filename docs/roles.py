"""Docstrings as the reference shows them: Sphinx' roles as links, ``Example:`` as its section."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|data|mod|attr):`(~?)([\w.]+)`")


class Roles(griffe.Extension):
    """Only what is on a page becomes a link; the rest stays code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is None:
            return
        text = ROLE.sub(_link, obj.docstring.value)
        obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.M)


def _link(role: re.Match[str]) -> str:
    short, path = role.groups()
    shown = path.rpartition(".")[2] if short else path
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'

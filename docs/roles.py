"""Docstrings as the reference shows them, written for Sphinx: roles as links, TeX as pictures."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import griffe
from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser, math_to_image

ROLE = re.compile(r":(?:func|class|meth|data|mod|attr):`(~?)([\w.]+)`")
FORMULA = re.compile(r":math:`([^`]+)`")
#: A formula in a paragraph of its own, from the directive's line on.
DISPLAYED = re.compile(r"^( *)\.\. math::\s*((?:.*\S.*(?:\n|\Z))+)", flags=re.M)

#: TeX that matplotlib does not know, and the same in TeX that it knows.
TEX = (
    (r"\\[td]?frac\s*(\w)\s*(\w)", r"\\frac{\1}{\2}"),
    (r"\\tfrac", r"\\frac"),
    (r"\\(sqrt|underline)\s*(\\[a-z]+|\w)", r"\\\1{\2}"),
    (r"\\(le|ge)\b", r"\\\1q"),
    (r"\\[bB]igl", r"\\left"),
    (r"\\[bB]igr", r"\\right"),
)
SIZE = 13
FONT = FontProperties(size=SIZE)


class Roles(griffe.Extension):
    """Only what is on a page becomes a link; the rest stays code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_shown(obj.docstring.value)


def as_shown(text: str) -> str:
    text = ROLE.sub(_link, text)
    text = DISPLAYED.sub(lambda found: f"{found[1]}{_picture(found[2], True)}\n", text)
    text = FORMULA.sub(lambda found: _picture(found[1]), text)
    text = re.sub(r"::$", ":", text, flags=re.M)
    return re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.M)


def _link(role: re.Match[str]) -> str:
    short, path = role.groups()
    shown = path.rpartition(".")[2] if short else path
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'


def _picture(tex: str, displayed: bool = False) -> str:
    """The formula, drawn without a script or a request; its TeX is what is read aloud."""
    tex = " ".join(tex.split())
    known = tex.replace(r"\frac{", r"\dfrac{") if displayed else tex
    for pattern, same in TEX:
        known = re.sub(pattern, same, known)
    width, _, depth, *_ = MathTextParser("path").parse(f"${known}$", 72, FONT)
    drawn = io.BytesIO()
    with rc_context({"savefig.facecolor": "none"}):
        math_to_image(f"${known}$", drawn, prop=FONT, format="svg")
    data = base64.b64encode(drawn.getvalue()).decode()
    # Entities, as Markdown would take the TeX's marks for its own.
    alt = "".join(one if one.isalnum() or one == " " else f"&#{ord(one)};" for one in tex)
    return (
        f'<img class="formula" alt="{alt}" '
        f'style="width: {width / SIZE:.2f}em; vertical-align: -{depth / SIZE:.2f}em" '
        f'src="data:image/svg+xml;base64,{data}">'
    )

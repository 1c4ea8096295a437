"""Names as parts of paths: of models, suites, data sets and whatever plugins bring.

Of any word or path that is given: whether results can hold it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
from pathlib import Path

from genrobust.errors import one_line

#: What a name may be that is used as it stands.
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(?<!\.)")

#: How long such a name may be; with settings, hash and ending it must fit into 255 bytes.
LONGEST = 64

#: Windows has devices by these names, and a comparison of models is a file beside their folders.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?|report\.html")


def is_part(name: str) -> bool:
    """Whether a name can be a folder's as it stands, on any system.

    >>> is_part("digits"), is_part("../digits"), is_part("con"), is_part("")
    (True, False, False, False)
    """
    plain = PLAIN.fullmatch(name) is not None and len(name) <= LONGEST
    return plain and not _RESERVED.fullmatch(name)


def part_of(text: str) -> str:
    """The text as a folder's name; where that would lose letters, a hash keeps names apart.

    >>> part_of("my model"), part_of("../../vae")
    ('my-model', 'vae')
    >>> part_of("модель") == part_of("образец")
    False
    """
    text = unicodedata.normalize("NFC", text)
    words = re.sub(r"[^A-Za-z0-9._+]+", "-", text).strip("-._+")
    if text.isascii() and is_part(words):
        return words
    return "-".join(filter(None, (words[:40].strip("-._+"), short_hash(text))))


def short_hash(text: str) -> str:
    """Eight hex digits that tell texts apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def unkept(given: object) -> str | None:
    r"""Why results cannot hold what was given, or where that lies; None if they can.

    They are in UTF-8, in which libraries are given paths as well. Python has a code of its own for
    each byte of a name that it cannot read.

    >>> unkept("pictures-r\udce9").partition(",")[0], unkept([Path("photos")])
    ("'pictures-r\\xe9' is not in UTF-8", None)
    """
    if isinstance(given, (list, tuple)):
        return next(filter(None, map(unkept, given)), None)
    text = str(given.absolute() if isinstance(given, Path) else given)
    if text.encode(errors="replace").decode() == text:
        return None
    try:
        name = os.fsencode(text)
    except UnicodeEncodeError:  # half of a pair, which no name of a file has
        name = text.encode(errors="surrogatepass")
    shown = one_line(name.decode(errors="backslashreplace"))
    if name.decode(errors="replace").encode() == name:
        return f"'{shown}' is read as {sys.getfilesystemencoding()} here; set PYTHONUTF8=1"
    return (
        f"'{shown}' is not in UTF-8, as results are; rename the file or folder of that name, or "
        "type the word in UTF-8"
    )

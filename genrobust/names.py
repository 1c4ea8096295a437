"""Names as parts of paths: of models, suites, data sets and whatever plugins bring."""

from __future__ import annotations

import hashlib
import re
import unicodedata

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

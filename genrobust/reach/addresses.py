"""Where objects lie in memory: another place in each process, which libraries write into names."""

from __future__ import annotations

import gc
import re
from functools import cached_property

#: What may be an address: of pydantic in the name of a schema, of beartype in that of an argument.
_ADDRESS = re.compile(r"0x([0-9a-f]{8,12})(?![0-9a-f])|(?<!\d)(\d{10,15})(?!\d)")

#: What Python writes of an object that says nothing of itself, be it there still or not.
_SHOWN = re.compile(r"(?<= at )0x[0-9a-f]+(?=>)")


class Addresses:
    """Those of all objects there are, looked up once, when the first number may be one.

    >>> class Config: ...
    >>> Addresses().left_out_of(f"Config:{id(Config)}, {Config()!r}, 123456789012")
    'Config:@, <genrobust.reach.addresses.Config object at @>, 123456789012'
    """

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(map(id, gc.get_objects()))

    def left_out_of(self, text: str) -> str:
        """The text without the numbers in it that are addresses."""
        return _ADDRESS.sub(self._told, _SHOWN.sub("@", text))

    def _told(self, found: re.Match[str]) -> str:
        in_hex, decimal = found.groups()
        number = int(in_hex, 16) if in_hex else int(decimal)
        return "@" if number in self._known else found[0]

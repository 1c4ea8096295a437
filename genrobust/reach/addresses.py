"""Where objects lie in memory: another place in each process, which libraries write into names."""

from __future__ import annotations

import gc
import re
from bisect import bisect_right
from functools import cached_property
from pathlib import Path

#: What may be an address: of pydantic in the name of a schema, of beartype in that of an argument.
_ADDRESS = re.compile(r"0x([0-9a-f]{8,12})(?![0-9a-f])|(?<!\d)(\d{10,15})(?!\d)")

#: What Python writes of an object that says nothing of itself, be it there still or not.
_SHOWN = re.compile(r"(?<= at )0x[0-9a-f]+(?=>)")


#: Where Linux tells what memory a process has: a range a line, in their order.
_MAPS = Path("/proc/self/maps")


class Addresses:
    """Those of all objects there are, looked up once, when the first number may be one.

    >>> class Config: ...
    >>> Addresses().left_out_of(f"Config:{id(Config)}, {Config()!r}, 123456789012")
    'Config:@, <genrobust.reach.addresses.Config object at @>, 123456789012'
    """

    @cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(map(id, gc.get_objects()))

    @cached_property
    def _memory(self) -> tuple[list[int], list[int]]:
        """Where ranges of this process's memory begin and end; all there is, where none is told."""
        try:
            ranges = [line.split(" ", 1)[0].split("-") for line in _MAPS.read_text().splitlines()]
        except OSError:
            return [0], [2**64]
        return [int(low, 16) for low, _ in ranges], [int(high, 16) for _, high in ranges]

    def _is_one(self, number: int) -> bool:
        """To list all objects takes long, and most large numbers lie in no memory at all."""
        lows, highs = self._memory
        place = bisect_right(lows, number) - 1
        return place >= 0 and number < highs[place] and number in self._known

    def left_out_of(self, text: str) -> str:
        """The text without the numbers in it that are addresses."""
        return _ADDRESS.sub(self._told, _SHOWN.sub("@", text))

    def _told(self, found: re.Match[str]) -> str:
        in_hex, decimal = found.groups()
        number = int(in_hex, 16) if in_hex else int(decimal)
        return "@" if self._is_one(number) else found[0]

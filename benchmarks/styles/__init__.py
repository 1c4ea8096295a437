"""Models as people write them, which ``benchmarks/models.py`` reads and the tests too."""

from styles.case import Case, Net
from styles.libraries import library_cases
from styles.measure import Row, measured
from styles.own import own_cases
from styles.quantisers import TOKENS

__all__ = ["TOKENS", "Case", "Net", "Row", "library_cases", "measured", "own_cases"]

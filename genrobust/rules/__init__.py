"""Rules of success: what an attack must do to a reconstruction for it to count."""

from genrobust.rules.base import CHANGED, KEPT, RULES, Rule, Sources, Words

__all__ = ["CHANGED", "KEPT", "RULES", "Rule", "Sources", "Words"]

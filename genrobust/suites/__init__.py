"""Suites: frozen, versioned protocols as data."""

from genrobust.suites.suite import SUITES, AttackEntry, JudgeRef, Suite, load_suite

__all__ = ["SUITES", "AttackEntry", "JudgeRef", "Suite", "load_suite"]

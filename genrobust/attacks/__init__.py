"""Attacks: named recipes of objective, optimizer and settings, one paper each."""

from genrobust.attacks.base import ATTACKS, Attack, make_attack
from genrobust.attacks.batch import AttackResult, Batch, Context
from genrobust.attacks.run import attack

__all__ = ["ATTACKS", "Attack", "AttackResult", "Batch", "Context", "attack", "make_attack"]

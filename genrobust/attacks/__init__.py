"""Attacks: named recipes of objective, optimizer and settings, one paper each."""

from genrobust.attacks.base import ATTACKS, Attack, AttackResult, make_attack
from genrobust.attacks.run import attack
from genrobust.batch import Batch, Context

__all__ = ["ATTACKS", "Attack", "AttackResult", "Batch", "Context", "attack", "make_attack"]

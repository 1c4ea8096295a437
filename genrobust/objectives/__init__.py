"""What an attack minimises: one number a sample, lower is better for the attacker."""

from genrobust.objectives.base import OBJECTIVES, Objective

__all__ = ["OBJECTIVES", "Objective"]

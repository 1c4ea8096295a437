"""Scores for others to find: on model cards, and as the hub's evaluation results."""

from genrobust.publish.replayed import Replayed, replayed
from genrobust.publish.scores import write_card, write_eval_results

__all__ = ["Replayed", "replayed", "write_card", "write_eval_results"]

"""Scores for others to find: on model cards, and as the hub's evaluation results."""

from genrobust.publish.replayed import Replayed, replay_run
from genrobust.publish.scores import write_card, write_eval_results

__all__ = ["Replayed", "replay_run", "write_card", "write_eval_results"]

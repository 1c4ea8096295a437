"""Published measurements, done again: the published numbers beside measured ones."""

from genrobust.reproduce.base import PUBLICATIONS, Reproduction, Setup, reproduce

__all__ = ["PUBLICATIONS", "Reproduction", "Setup", "reproduce"]

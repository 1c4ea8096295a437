"""Published measurements, done again: the published numbers beside measured ones."""

from genrobust.reproduce.base import PUBLICATIONS, Reproduction, Setting, reproduce

__all__ = ["PUBLICATIONS", "Reproduction", "Setting", "reproduce"]

"""What a process that a project's code starts imports first, in place of the main module."""

from genrobust.projects import know_in_a_child

know_in_a_child()

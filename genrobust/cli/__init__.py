"""The command line. What a command needs is imported when it runs, so that help is quick."""

import sys


def main() -> None:
    """The console script, in which Ctrl-C may come before there is a command that hears it."""
    try:
        from genrobust.cli import app

        app.main()
    except KeyboardInterrupt:
        print("\nStopped before anything began.", file=sys.stderr)
        sys.exit(130)

"""``python -m genrobust``."""

from genrobust.cli import main

if __name__ == "__main__":
    main()

"""Run the notebooks and write them as pages of the docs: ``python notebooks/render.py``."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "notebooks"


def run(notebook: Path) -> nbformat.NotebookNode:
    """The notebook with what its cells gave.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    content = nbformat.read(notebook, as_version=4)
    return NotebookClient(content, timeout=300, kernel_name="python3").execute()


def main() -> None:
    """Write a page and its figures for each notebook."""
    PAGES.mkdir(exist_ok=True)
    for notebook in sorted(HERE.glob("*.ipynb")):
        page, found = MarkdownExporter().from_notebook_node(
            run(notebook), resources={"unique_key": notebook.stem}
        )
        for name, content in found["outputs"].items():
            (PAGES / name).write_bytes(content)
        page = page.replace("![png]", "![What the code above draws]")
        lines = [line.rstrip() for line in page.strip().splitlines()]
        (PAGES / f"{notebook.stem}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

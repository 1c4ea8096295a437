"""How to cite an entry."""

from __future__ import annotations

from genrobust.evidence.entries import LoadedEntry

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "{}$&%#_"},
}


def bibtex(loaded: LoadedEntry) -> str:
    """A BibTeX entry. What submitters wrote is LaTeX's text in it, and never a command."""
    entry = loaded.entry
    said = entry.submission
    authors = " and ".join(f"{{{_text(author.name)}}}" for author in said.authors)
    fields = {
        "title": f"{{{_text(said.name)} on {_text(entry.suite)}}}",
        "author": authors,
        "year": entry.submitted[:4],
        "howpublished": f"genrobust leaderboard, {_text(entry.suite)}/{_text(entry.slug)}",
        "note": f"model fingerprint {entry.fingerprint[:16]}",
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@misc{{genrobust-{entry.suite}-{entry.slug},", *lines, "}"])


def _text(value: str) -> str:
    one_line = " ".join(value.split())
    return "".join(_LATEX.get(character, character) for character in one_line)

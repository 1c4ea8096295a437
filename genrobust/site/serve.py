"""The site on this machine, with one's own runs on its boards."""

from __future__ import annotations

import hashlib
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from genrobust import files
from genrobust.board.board import Board, Contender, contender, make_boards
from genrobust.errors import GenrobustError, GenrobustWarning, in_a_line
from genrobust.evidence.entries import LoadedEntry
from genrobust.evidence.entry import Outcomes
from genrobust.files import temporary_folder
from genrobust.records.again import again
from genrobust.records.load import read_record
from genrobust.records.outcomes import ContradictedError, check_outcomes
from genrobust.records.record import Record
from genrobust.site.build import write_files
from genrobust.site.pages import render
from genrobust.verify.entries import verified_entries

#: Nobody else on the network sees it.
HOST = "127.0.0.1"


def boards_with_runs(entries: Path | None, runs: Path) -> tuple[Board, ...]:
    """The boards of submitted entries and of the runs below a folder that were not submitted.

    Args:
        entries: holds the submitted entries, of which those that pass are shown; None for none.
        runs: searched for ``record.json``; those of shards, reports and so on are not there.

    Raises:
        GenrobustError: there is no such folder, or nothing to show at all.
    """
    submitted = verified_entries(entries) if entries is not None else ()
    own = _own_runs(runs, submitted)
    if not submitted and not own:
        raise GenrobustError(
            f"there is nothing to show: no entries, and no record.json below '{runs}'; run "
            "'genrobust bench --model NAME' first, or name folders with --entries and --runs"
        )
    return make_boards([*map(contender, submitted), *own])


def serve(boards: Sequence[Board], port: int, ready: Callable[[str], None]) -> None:
    """Serve the site of these boards on this machine until it is interrupted.

    Args:
        boards: what to show.
        port: where; 0 takes a free one.
        ready: called with the address once the site can be opened.

    Raises:
        GenrobustError: the port is in use or may not be used.
    """
    with temporary_folder() as folder:
        site = folder / "site"
        write_files(site, render(boards))
        with _server(site, port) as server:
            try:  # Ctrl-C is how it ends, from when it is said that it does
                ready(f"http://{HOST}:{server.server_port}/")
                server.serve_forever()
            except KeyboardInterrupt:
                return


class _Handler(SimpleHTTPRequestHandler):
    """Files, without a line in the terminal for each, or for a request that is none."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def send_head(self) -> BinaryIO | None:
        # A page from elsewhere can give its own name this machine's address, and then read what
        # comes from there (DNS rebinding): it is known by the name it asks for.
        named = self.headers.get_all("Host", [HOST])
        if any((one.rpartition(":")[0] or one) not in (HOST, "localhost") for one in named):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return None
        try:
            return super().send_head()
        except ValueError:  # a path that none can be, such as one with a zero byte
            self.send_error(HTTPStatus.NOT_FOUND)
            return None

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")  # the next run of serve has other boards
        super().end_headers()


class _Server(ThreadingHTTPServer):
    """A server that is not troubled by who closes a connection, or sends what is no request."""

    request_queue_size = 128  # a browser asks for many pictures at once; beyond, it waits a second

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _server(folder: Path, port: int) -> ThreadingHTTPServer:
    if not 0 <= port <= 65535:
        raise GenrobustError(f"--port is {port}; it must be from 0 (any free one) to 65535")
    try:
        return _Server((HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as problem:
        raise GenrobustError(
            f"port {port} cannot be used ({problem.strerror or problem}); stop what uses it, or "
            "take another with --port, such as --port 0 for any that is free"
        ) from problem


def _own_runs(runs: Path, submitted: Sequence[LoadedEntry]) -> list[Contender]:
    known = {entry.entry.files.get("record.json") for entry in submitted}
    found: list[Contender] = []
    for path in sorted(runs.rglob("record.json")) if runs.is_dir() else ():
        try:
            content = files.read_bytes(path)
            if hashlib.sha256(content).hexdigest() in known:
                continue
            one = _own_run(path, read_record(content), {other.id for other in found})
            make_boards([one])  # what no board can show would keep all others from being shown
            found.append(one)
        except ValidationError as problem:
            reason = f"it is not a record of this version ({in_a_line(problem)})"
            _warn(f"'{path}' is left out: {reason}")
        except (OSError, GenrobustError) as problem:
            _warn(f"'{path}' is left out: it cannot be shown ({in_a_line(problem)})")
    return found


def _own_run(path: Path, record: Record, taken: set[str]) -> Contender:
    """A run of one's own; without its outcomes, with a warning, if those cannot be used.

    Raises:
        GenrobustError: they give other scores than the record claims, or it is of other radii than
            it says.
    """
    if tuple(at.eps for at in record.scores.per_eps) != record.suite.eps:
        raise GenrobustError("its scores are at other radii than those of its suite")
    outcomes: Outcomes | None = None
    beside = path.parent / "outcomes.json"
    if beside.exists():
        try:
            outcomes = Outcomes.model_validate_json(files.read_text(beside))
            check_outcomes(record, outcomes)
        except ContradictedError as problem:
            raise GenrobustError(f"{problem}; {again(path.parent, record.command)}") from problem
        except (OSError, ValueError) as problem:
            _warn(f"'{beside}' is not used: {in_a_line(problem)}")
            outcomes = None
    slug = re.sub(r"[^a-z0-9]+", "-", path.parent.name.lower()).strip("-") or "run"
    names = (f"yours/{slug}{f'-{number}' if number > 1 else ''}" for number in count(1))
    free = next(name for name in names if name not in taken)
    return Contender(free, record.model.name, record, outcomes, None)


def _warn(message: str) -> None:
    warnings.warn(message, GenrobustWarning, stacklevel=2)

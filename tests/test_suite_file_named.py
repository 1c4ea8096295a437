"""A record names the file that its suite is in, and nothing of where that lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import genrobust
from genrobust.records.record import Record
from genrobust.runner.options import Options
from genrobust.runner.prepare import Prepared, prepare
from genrobust.runner.provenance import naming_file
from genrobust.suites import Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")


@pytest.fixture(scope="module")
def own() -> Suite:
    """One of digits that is not registered, though its name is."""
    return load_suite("digits").limited(1).with_attacks(["noise"]).with_eps([0.1])


@pytest.fixture(scope="module")
def prepared(own: Suite) -> Prepared[Record]:
    return prepare("vae", own, Options())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("mine.json", "mine.json"),
        ("below/mine.json", "mine.json"),
        ("../mine.json", "mine.json"),
        ("runs/pics-v1/suite.json", "pics-v1/suite.json"),
        ("runs/../mine.json", "mine.json"),
    ],
)
def test_the_file_is_named_from_the_folder_for_results(
    typed: str, said: str, prepared: Prepared[Record]
) -> None:
    for place in (typed, str(Path(typed).absolute())):
        found = naming_file(prepared, place, Path("runs"))
        assert found.command == f"genrobust bench --model vae --suite {said} --seed 0"


def test_a_registered_suite_is_named_even_where_a_file_holds_it(prepared: Prepared[Record]) -> None:
    for typed, deviations in (("digits", prepared.deviations), ("copy.json", ())):
        official = replace(prepared, deviations=deviations)
        assert naming_file(official, typed, Path("runs")) is official


def test_a_record_made_in_python_names_the_file_it_was_given(own: Suite, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(own.model_dump_json())
    record = genrobust.bench("vae", str(tmp_path / "mine.json"), out=tmp_path / "out")
    assert "--suite mine.json" in record.command
    page = " ".join((tmp_path / "out" / "report.html").read_text().split())
    assert "The suite is one's own: its file must be at hand where this is typed." in page

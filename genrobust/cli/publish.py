"""The work of ``genrobust publish``."""

from __future__ import annotations

from pathlib import Path

from genrobust.cli.progress import progress
from genrobust.errors import GenrobustError
from genrobust.publish import replay_run, write_card, write_eval_results
from genrobust.verify.verify import VerifyOptions


def publish_scores(
    run: Path,
    url: str,
    card: Path | None,
    eval_results: Path | None,
    benchmark: str | None,
    data_root: Path | None,
) -> None:
    """Replay, then write what is asked for; print the files."""
    if card is None and eval_results is None:
        raise GenrobustError("nothing to write; give --card README.md, --eval-results ., or both")
    if (eval_results is None) != (benchmark is None):
        raise GenrobustError(
            "--eval-results and --benchmark OWNER/NAME go together: the file names the data set on "
            "whose leaderboard it stands"
        )
    with progress(str(run)) as advance:
        found = replay_run(run, url, VerifyOptions("replay", data_root=data_root), advance)
    if card is not None:
        print(write_card(card, found))
    if eval_results is not None and benchmark is not None:
        print(write_eval_results(eval_results, found, benchmark))

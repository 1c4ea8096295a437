"""A replayed record's scores in the two forms that Hugging Face's hub reads.

A model card's ``model-index`` (https://github.com/huggingface/hub-docs, modelcard.md) and a file in
``.eval_results`` (https://huggingface.co/docs/hub/eval-results), which stands on the leaderboard of
a benchmark's data set. Both name the evidence and its hash as their source.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrobust import files
from genrobust._version import __version__
from genrobust.errors import GenrobustError, in_a_line
from genrobust.names import part_of
from genrobust.norms import load_norm
from genrobust.publish.replayed import Replayed
from genrobust.records.record import Estimate

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

#: The folder of a model's repository whose files the hub reads.
EVAL_RESULTS = ".eval_results"


def write_card(path: str | Path, replayed: Replayed) -> Path:
    """Put the scores into a model card's ``model-index``; the rest of the card stays as it is.

    Scores of the same suite that are there are replaced. Where there is no card, one is written.

    Args:
        path: the card, such as ``README.md``.
        replayed: the scores.

    Raises:
        GenrobustError: huggingface_hub is not installed; the card cannot be read or written.

    Example:
        >>> from genrobust.publish import replay_run
        >>> write_card("README.md", replay_run("run", "https://..."))  # doctest: +SKIP
        PosixPath('README.md')
    """
    _require_hub()
    from huggingface_hub import ModelCard, ModelCardData

    path, record = Path(path), replayed.record
    found = list(_eval_results(replayed))
    try:
        if files.is_there(path):
            card = ModelCard(files.read_text(path), ignore_metadata_errors=False)
            data: Any = card.data
        else:
            data = ModelCardData(tags=["genrobust"])
            card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n# {record.model.name}\n")
    except Exception as problem:  # of the file, of YAML, or of the hub's library
        raise GenrobustError(
            f"'{path}' cannot be read as a model card ({in_a_line(problem)}); mend the block "
            "between its first two lines of ---"
        ) from problem
    same = found[0].unique_identifier
    others = [one for one in data.eval_results or [] if one.unique_identifier != same]
    data.eval_results = others + found
    data.model_name = data.model_name or record.model.name
    card.data = data
    files.write_text(path, str(card).rstrip() + "\n")
    return path


def write_eval_results(folder: str | Path, replayed: Replayed, dataset: str) -> Path:
    """Write the robust area for the leaderboard of a benchmark's data set on the hub.

    Args:
        folder: of the model's repository; the file is ``.eval_results/SUITE.yaml`` in it.
        replayed: the scores, of a whole suite.
        dataset: the benchmark's data set on the hub: ``OWNER/NAME``.

    Raises:
        GenrobustError: the run is not official; huggingface_hub is not installed; the file cannot
            be written.

    Example:
        >>> from genrobust.publish import replay_run
        >>> found = replay_run("run", "https://example.org/evidence.zip")  # doctest: +SKIP
        >>> write_eval_results(".", found, "owner/benchmark")  # doctest: +SKIP
        PosixPath('.eval_results/digits-v2.yaml')
    """
    _require_hub()
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    record = replayed.record
    if not record.official:
        raise GenrobustError(
            f"the run is not the suite's ({'; '.join(record.deviations)}), so that it stands on no "
            "leaderboard; run the whole suite as it is, with --evidence"
        )
    if len(dataset.split("/")) != 2:
        raise GenrobustError(
            f"'{dataset}' names no data set on the hub; give that of the benchmark as OWNER/NAME"
        )
    suite, area = record.suite, record.scores.robust_area
    assert area is not None, "official suites have radii above 0"
    entry = EvalResultEntry(
        dataset_id=dataset,
        task_id=f"{suite.name}-v{suite.version}",
        value=round(100 * area.value, 2),
        date=record.times.created,
        source_url=replayed.source,
        source_name=f"genrobust {__version__}, replayed",
        notes=f"robust area in %, {_interval(area)}; evidence sha256 {replayed.sha256}",
    )
    path = Path(folder) / EVAL_RESULTS / f"{part_of(f'{suite.name}-v{suite.version}')}.yaml"
    content = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
    files.write_text(path, content)
    return path


def _eval_results(replayed: Replayed) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    record, scores = replayed.record, replayed.record.scores
    suite = record.suite
    unit = load_norm(suite.norm).label
    rows: list[tuple[str, str, Estimate | None]] = [
        ("clean_accuracy", "share right without an attack", scores.clean_accuracy),
        ("robust_area", f"robust area to eps {suite.eps[-1]:g} ({unit})", scores.robust_area),
    ]
    for at in scores.per_eps:
        name = f"robust accuracy at eps {at.eps:g} ({unit})"
        rows.append((f"robust_accuracy_{at.eps:g}", name, at.robust_accuracy))
    config = f"{suite.name}-v{suite.version}"
    config += "" if record.official else f"-{record.suite_sha256[:8]}"
    told: dict[str, Any] = {"norm": suite.norm, "suite_sha256": record.suite_sha256}
    if record.deviations:
        told["deviations"] = list(record.deviations)
    for kind, name, found in rows:
        if found is not None:
            yield EvalResult(
                task_type="image-to-image",
                task_name="Reconstruction under attack",
                dataset_type=suite.dataset,
                dataset_name=f"{suite.name} v{suite.version} of genrobust",
                dataset_config=config,
                dataset_split=suite.split,
                dataset_args=told,
                metric_type=kind,
                metric_name=f"{name}, {_interval(found)}",
                metric_value=round(found.value, 4),
                source_name=f"replayed evidence, sha256 {replayed.sha256}",
                source_url=replayed.source,
            )


def _interval(found: Estimate) -> str:
    return f"interval {100 * found.low:.1f} to {100 * found.high:.1f} % over {found.n} sources"


def _require_hub() -> None:
    try:
        from huggingface_hub import EvalResultEntry  # noqa: F401
    except ImportError as problem:
        raise GenrobustError(
            "a model card and evaluation results need huggingface_hub 1.4 or later; "
            "pip install 'genrobust[hub]'"
        ) from problem

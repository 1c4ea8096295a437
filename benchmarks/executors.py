"""What a second worker gains, by each executor, beside what two cores can give at all.

    python benchmarks/executors.py

The run is jointvae's on digits in four shards, by the attacks ``latent`` and ``output``, as a
command of its own from start to report. What the cores can give is seen from two such commands at
the same time. CPU time is of the command and of all processes that it waited for, and so not of
ray's, which are not its own. Writes ``benchmarks/executors.md``. Nothing else should run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from genrobust import __version__
from genrobust.suites import load_suite

HERE = Path(__file__).parent
EXECUTORS = ("threads", "processes", "ray")
SHARDS = 4

#: Seconds by the clock and of CPU.
Times = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=88)
    parser.add_argument("--out", type=Path, default=HERE / "executors.md")
    given = parser.parse_args()
    executors = [name for name in EXECUTORS if name != "ray" or importlib.util.find_spec("ray")]
    cases = [(name, workers) for name in executors for workers in (1, 2)]
    with tempfile.TemporaryDirectory() as place:
        suite = Path(place, "suite.json")
        whole = load_suite("digits").with_attacks(["latent", "output"]).limited(given.limit)
        shards = whole.model_copy(update={"chunk_size": -(-given.limit // SHARDS)})
        suite.write_text(shards.model_dump_json())
        alone = measure([("serial", 1)], suite, Path(place))
        both = measure([("serial", 1), ("serial", 1)], suite, Path(place))
        times = {case: measure([case], suite, Path(place)) for case in cases}
    given.out.write_text(table(alone, both, times, given.limit))
    print(given.out.read_text())


def measure(cases: Sequence[tuple[str, int]], suite: Path, place: Path) -> Times:
    """Of runs that begin at the same time."""
    cpu, began = cpu_of_children(), time.perf_counter()
    runs = [run(executor, workers, suite, place) for executor, workers in cases]
    if any([one.wait() for one in runs]):
        raise SystemExit(f"{cases} failed")
    took = time.perf_counter() - began, cpu_of_children() - cpu
    print(*cases, *took, flush=True)
    return took


def run(executor: str, workers: int, suite: Path, place: Path) -> subprocess.Popen[bytes]:
    words = ["bench", "--model", "jointvae", "--suite", str(suite)]
    words += ["--out", tempfile.mkdtemp(dir=place)]
    words += ["--executor", executor, "--workers", str(workers)]
    command = [sys.executable, "-m", "genrobust", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(alone: Times, both: Times, times: dict[tuple[str, int], Times], limit: int) -> str:
    rows = [row("serial", 1, alone, alone)]
    rows += [row(name, n, took, times[name, 1]) for (name, n), took in times.items()]
    return (
        f"jointvae on {limit} digits in {SHARDS} shards, by `latent` and `output`; "
        f"{os.cpu_count()} cores ({platform.machine()}), nothing else running. Two serial commands "
        f"at once do {2 * alone[0] / both[0]:.2f} times the work of one, which is near what these "
        "cores give. The clock runs from the command's start to its report; the same run repeats "
        "to some 5%. "
        f"genrobust {__version__}, `python benchmarks/executors.py`."
        "\n\n| executor | workers | clock, s | times one worker | CPU, s |\n"
        "| --- | ---: | ---: | ---: | ---: |\n" + "\n".join(rows) + "\n"
    )


def row(executor: str, workers: int, took: Times, one: Times) -> str:
    cpu = "" if executor == "ray" else f"{took[1]:.1f}"
    return f"| {executor} | {workers} | {took[0]:.1f} | {one[0] / took[0]:.2f} | {cpu} |"


if __name__ == "__main__":
    main()

"""What executors cost: one run on digits, by each of them, with one worker and with two.

    python benchmarks/executors.py

The run is jointvae's on digits in shards of 5 images, by the attack ``latent``, as a command of
its own, in turn and twice over; the lower time counts. CPU time is of the command and of all
processes that it waited for, and so not of ray's, which are not its own. Writes
``benchmarks/executors.md``.
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
from pathlib import Path

from genrobust import __version__
from genrobust.suites import load_suite

HERE = Path(__file__).parent
CASES = [("serial", 1), ("threads", 1), ("threads", 2), ("processes", 1), ("processes", 2)]
RAY = [("ray", 1), ("ray", 2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--out", type=Path, default=HERE / "executors.md")
    given = parser.parse_args()
    cases = CASES + (RAY if importlib.util.find_spec("ray") else [])
    times: dict[tuple[str, int], list[tuple[float, float]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as place:
        suite = Path(place, "suite.json")
        whole = load_suite("digits").with_attacks(["latent"]).limited(given.limit)
        suite.write_text(whole.model_copy(update={"chunk_size": 5}).model_dump_json())
        for turn in range(given.turns):
            for case in cases:
                times[case].append(measure(*case, suite, Path(place, f"{turn}-{case}")))
                print(*case, times[case][-1], flush=True)
    given.out.write_text(table(times, given.limit))
    print(given.out.read_text())


def measure(executor: str, workers: int, suite: Path, out: Path) -> tuple[float, float]:
    """Seconds by the clock and of CPU."""
    words = ["bench", "--model", "jointvae", "--suite", str(suite), "--out", str(out)]
    words += ["--executor", executor, "--workers", str(workers)]
    cpu, began = cpu_of_children(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "genrobust", *words], check=True, capture_output=True)
    return time.perf_counter() - began, cpu_of_children() - cpu


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(times: dict[tuple[str, int], list[tuple[float, float]]], limit: int) -> str:
    best = {case: tuple(map(min, zip(*found, strict=True))) for case, found in times.items()}
    wall_one, cpu_one = best["serial", 1]
    rows = [
        f"| {executor} | {workers} | {wall:.1f} | {wall / wall_one:.2f} | "
        + (" | |" if executor == "ray" else f"{cpu:.1f} | {cpu / cpu_one:.2f} |")
        for (executor, workers), (wall, cpu) in best.items()
    ]
    return (
        f"jointvae on {limit} digits in {-(-limit // 5)} shards, by `latent`; "
        f"{os.cpu_count()} cores ({platform.machine()}), on which other work ran too, so that CPU "
        f"time says more than the clock. genrobust {__version__}, `python benchmarks/executors.py`."
        "\n\n| executor | workers | clock, s | to serial | CPU, s | to serial |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    main()

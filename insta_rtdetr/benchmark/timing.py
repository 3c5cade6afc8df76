"""Timing several calls in turn, and summarising their times."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# With fewer runs, the spread means little.
MIN_RUNS = 10
# A larger spread shows that the machine had other load.
MAX_SPREAD = 0.2


def time_in_turn(calls: Sequence[Callable[[], Any]], runs: int, warmup: int) -> list[list[float]]:
    """Time several calls, one after the other in each run, so that other load of the machine affects all alike.

    Args:
        calls: the timed functions.
        runs: number of timed runs.
        warmup: number of runs before those.

    Returns:
        the milliseconds of each run, for each call.
    """
    times: list[list[float]] = [[] for _ in calls]
    for run in range(warmup + runs):
        for call, measured in zip(calls, times):
            call()  # wakes its threads and brings its weights back into the cache after the others
            start = time.perf_counter()
            call()
            if run >= warmup:
                measured.append((time.perf_counter() - start) * 1e3)
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Return median, minimum, maximum, and the spread: ninth decile minus first decile, divided by the median."""
    median = statistics.median(times)
    low, high = np.percentile(times, [10, 90])
    return {"median": median, "min": min(times), "max": max(times), "spread": float(high - low) / median}


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the ratios of the same runs, which other load of the machine changes less than times."""
    return statistics.median(one / other for one, other in zip(times, base, strict=True))


def warnings_of(summaries: dict[str, dict[str, float]], runs: int) -> list[str]:
    """Return reasons not to quote the times.

    Args:
        summaries: name -> result of `summary`.
        runs: number of timed runs.
    """
    warnings = []
    if runs < MIN_RUNS:
        warnings.append(f"{runs} runs, wanted at least {MIN_RUNS} for a spread that says something (--runs).")
    wide = [f"{name} {one['spread']:.0%}" for name, one in summaries.items() if one["spread"] > MAX_SPREAD]
    if wide:
        warnings.append(
            f"The spread exceeds {MAX_SPREAD:.0%} ({', '.join(wide)}): the machine was not quiet.  Quote ratios "
            "alone, or measure again."
        )
    return warnings

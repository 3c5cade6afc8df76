"""Calls timed in turn, and what is told of the times."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# With fewer runs a spread says little.
MIN_RUNS = 10
# Of the spread; beyond it the machine did something else too.
MAX_SPREAD = 0.2


def time_in_turn(calls: Sequence[Callable[[], Any]], runs: int, warmup: int) -> list[list[float]]:
    """Time several calls, one after the other in each run, so that a slow minute hits all alike.

    Args:
        calls: what is timed.
        runs: timed runs.
        warmup: runs before those.

    Returns:
        Milliseconds of each run, for each call.
    """
    times: list[list[float]] = [[] for _ in calls]
    for run in range(warmup + runs):
        for call, measured in zip(calls, times):
            call()  # brings its threads and weights back, which those before it have pushed aside
            start = time.perf_counter()
            call()
            if run >= warmup:
                measured.append((time.perf_counter() - start) * 1e3)
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median, minimum, maximum, and the spread: nine tenths' time less one tenth's, as a fraction of the median."""
    median = statistics.median(times)
    low, high = np.percentile(times, [10, 90])
    return {"median": median, "min": min(times), "max": max(times), "spread": float(high - low) / median}


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """Median of the ratios of the same runs, which a slow minute changes less than it does the times."""
    return statistics.median(one / other for one, other in zip(times, base, strict=True))


def warnings_of(summaries: dict[str, dict[str, float]], runs: int) -> list[str]:
    """What speaks against quoting the figures.

    Args:
        summaries: name -> what `summary` gives.
        runs: timed runs.
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

"""The order of timed calls, and what is told of the times."""

import pytest

from insta_rtdetr.benchmark import timing
from insta_rtdetr.benchmark.comparison import describe_times, to_markdown


def test_calls_take_turns(monkeypatch):
    order = []
    clock = iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock) * 1e-3)
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    times = timing.time_in_turn(calls, runs=2, warmup=1)
    # Each is called once before it is timed.
    assert order == ["a", "a", "b", "b"] * 3
    assert times == [[pytest.approx(1), pytest.approx(1)]] * 2


def test_summary_by_hand():
    times = [float(time) for time in range(1, 12)]  # nine of eleven lie between 2 and 10
    assert timing.summary(times) == {"median": 6.0, "min": 1.0, "max": 11.0, "spread": pytest.approx(8 / 6)}
    assert timing.summary([5.0])["spread"] == 0


def test_the_ratio_is_of_the_same_runs():
    """In a slow run both take three times as long."""
    assert timing.ratio([1.0, 3.0, 1.0, 3.0], [2.0, 6.0, 2.0, 6.0]) == 0.5
    assert timing.ratio([1.0, 9.0, 1.0], [2.0, 2.0, 2.0]) == 0.5


def test_few_runs_and_wide_spreads_are_warned_of():
    quiet, loud = ({"spread": spread} for spread in (0.2, 0.21))
    assert timing.warnings_of({"network": quiet}, runs=10) == []
    (warning,) = timing.warnings_of({"network": quiet, "rle": loud}, runs=10)
    assert "exceeds 20%" in warning and "rle 21%" in warning and "network" not in warning
    (warning,) = timing.warnings_of({"network": quiet}, runs=9)
    assert "9 runs" in warning


def test_the_table_of_runtimes():
    times = {"network": [[10.0] * 10, [4.0] * 10], "end_to_end": [[20.0] * 10, [5.0, 15.0] * 5]}
    rows, warnings = describe_times(times, ["eager", "openvino-int8"], runs=10)
    assert rows[1]["network_ratio"] == 0.4 and rows[1]["network_ms"]["spread"] == 0
    backends = [
        {"backend": name, "precision": precision, "parity": "-", **row}
        for name, precision, row in zip(("eager", "openvino-int8"), ("fp32", "int8"), rows)
    ]
    machine = {"cpu": "EPYC", "instruction_sets": ["AVX2", "AVX-512 VNNI"], "gpu": None, "threads": 2, "torch": "2.11"}
    report = {"config_file": "a", "machine": machine, "runs": 10, "backends": backends, "warnings": warnings}
    title, _, header, _, first, second, warning = to_markdown(report).splitlines()
    assert "EPYC (AVX2, AVX-512 VNNI), 2 threads" in title and "10 runs" in title
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "backend", "precision", "network, ms", "spread", "ratio", "end to end, ms", "spread", "ratio", "parity",
    ]  # fmt: skip
    assert [cell.strip() for cell in second.strip("|").split("|")][2:5] == ["4.0", "0%", "0.40"]
    assert first.startswith("| eager") and "openvino-int8, end to end 100%" in warning

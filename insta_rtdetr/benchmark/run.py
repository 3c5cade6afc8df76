"""Running benchmarks and reporting their results."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from insta_rtdetr.errors import UserError

from .backends import run_backends
from .comparison import compare_models
from .flops import CONVENTION, count_objects, count_subject, network_input
from .options import Options
from .report import describe, to_comparison, to_table
from .stages import (
    peak_memory,
    reset_peak_memory,
    time_end_to_end,
    time_pycocotools,
    time_stages,
)
from .subject import Subject, build_subject
from .timing import summary, warnings_of


def run(models: list[Options]) -> None:
    """Benchmark models one after the other; write the tables to stdout, and the reports to the JSON file.

    Args:
        models: options of each model, which differ in the config alone.

    Raises:
        UserError, CheckpointError: an option, a config or the weights are wrong.
    """
    for options in models:
        options.check()
    if len({bool(options.backends) for options in models}) > 1:
        raise UserError("--config-file has configs and exported files.  Give files to --backends, beside one config.")
    reports = []
    for options in models:
        reports.append(_run_one(options))
        _write_json(options.output, reports if len(models) > 1 else reports[0])
    if len(models) > 1:
        compare = compare_models if models[0].backends else to_comparison
        sys.stdout.write(f"\n{compare(reports)}\n")


def _run_one(options: Options) -> dict:
    if options.backends:
        with _threads(options.threads):
            return run_backends(options)
    report = benchmark(options)
    sys.stdout.write(f"{to_table(report)}\n")
    sys.stdout.flush()
    return report


def _write_json(file: str, content: object) -> None:
    if not file:
        return
    try:
        Path(file).write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--output {file} cannot be written: {error.strerror}.") from error


def benchmark(options: Options) -> dict:
    """Time a model.

    Returns:
        the report; see `measure` and `describe`.

    Raises:
        UserError, CheckpointError: an option, the config or the weights are wrong.
    """
    options.check()
    with _threads(options.threads):
        subject = build_subject(options)
        try:
            measured = measure(subject, options)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"The GPU has too little memory for {options.batch_size} images.  Lower --batch-size or --size."
            ) from error
        return describe(subject, options) | measured


def measure(subject: Subject, options: Options) -> dict:
    """Measure times in milliseconds for a batch, GFLOPs for an image, and peak memory in MiB."""
    device = subject.model.device
    reset_peak_memory(device)
    end_to_end = summary(time_end_to_end(subject, options.runs, options.warmup))
    stages = {name: summary(times) for name, times in time_stages(subject, options.runs, options.warmup).items()}
    # Read before the measurements below, which need memory that prediction does not need.
    peak_mib, peak_kind = peak_memory(device)
    return {
        "stages_ms": stages,
        "end_to_end_ms": end_to_end,
        "images_per_second": options.batch_size * 1e3 / end_to_end["median"],
        "rle_encoder": "insta_rtdetr.benchmark.encode_masks, the bytes of pycocotools.mask.encode",
        "rle_pycocotools_ms": summary(time_pycocotools(subject, options.runs)),
        "peak_memory_mib": peak_mib,
        "peak_memory_kind": peak_kind,
        "gflops": count_subject(subject),
        "gflops_convention": CONVENTION,
        "network_input": network_input(subject),
        "objects": count_objects(subject),
        "warnings": warnings_of({**stages, "end to end": end_to_end}, options.runs),
    }


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""The report of a benchmark, as a dict for JSON and as tables of text."""

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

import insta_rtdetr
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from insta_rtdetr.processor import instruction_sets, processor_name

from .options import Options
from .subject import Subject, count_parameters

RANDOM_WEIGHTS_NOTE = (
    "Random weights: the times of post-processing and RLE depend on the masks.  Give --weights for figures to quote."
)


def describe(subject: Subject, options: Options) -> dict:
    """Describe the model, its input and the machine."""
    model = subject.model
    is_ours = isinstance(model, InstanceSegmenter)
    network = model._inference_network() if is_ours else model
    image = subject.batched_inputs[0]["image"]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "config_file": options.config_file,
        "opts": options.opts,
        "model": type(model).__name__,
        "weights": subject.weights,
        "input": options.input or "synthetic",
        "input_size": list(subject.input_size),
        "image_size": list(image.shape[1:]),
        "batch_size": options.batch_size,
        "device": str(model.device),
        "precision": subject.precision,
        "fused": network.is_fused if is_ours else False,
        "compiled": subject.is_compiled,
        "runs": options.runs,
        "warmup": options.warmup,
        "parameters_m": subject.num_parameters / 1e6,
        "parameters_timed_m": count_parameters(network) / 1e6,
        "machine": describe_machine(model.device),
    }


def describe_machine(device: torch.device) -> dict:
    """Describe the CPU with its instruction sets, threads, GPU and versions."""
    on_gpu = device.type == "cuda"
    return {
        "cpu": processor_name(),
        "instruction_sets": instruction_sets(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "os": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "insta_rtdetr": insta_rtdetr.__version__,
    }


def machine_line(machine: dict) -> str:
    """Summarise the result of `describe_machine` in one line."""
    processor = f"{machine['cpu']} ({', '.join(machine['instruction_sets'])})"
    return f"{machine['gpu'] or processor}, {machine['threads']} threads, torch {machine['torch']}"


def to_table(report: dict) -> str:
    """Format the report as text for a terminal."""
    rows = [*report["stages_ms"].items(), ("end to end", report["end_to_end_ms"])]
    rows.append(("(rle by pycocotools alone)", report["rle_pycocotools_ms"]))
    times = [
        [name, *(f"{row[key]:.2f}" for key in ("median", "min", "max")), f"{row['spread']:.0%}"] for name, row in rows
    ]
    headers = [f"batch of {report['batch_size']}, ms", "median", "min", "max", "spread"]
    aligned = ("left", "right", "right", "right", "right")
    lines = [
        tabulate(_facts(report), tablefmt="plain"),
        "",
        tabulate(times, headers=headers, colalign=aligned, disable_numparse=True),
        "",
        f"GFLOPs: {report['gflops_convention']}.",
        f"Peak memory: {report['peak_memory_kind']}.",
    ]
    if report["weights"].startswith("random"):
        lines.append(RANDOM_WEIGHTS_NOTE)
    lines += [f"Warning: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)


def to_comparison(reports: list[dict]) -> str:
    """Format a Markdown table with a row for each model; for Detectron2's own models, "network" is the whole model."""
    headers = ["model", "network input", "parameters, M", "GFLOPs", "network, s", "spread", "image to RLE, s", "spread"]
    rows = [
        [
            Path(report["config_file"]).stem,
            " x ".join(map(str, report["network_input"])),
            f"{report['parameters_m']:.1f}",
            f"{_of_network(report['gflops']):.1f}",
            *_seconds(_of_network(report["stages_ms"])),
            *_seconds(report["end_to_end_ms"]),
        ]
        for report in reports
    ]
    title = f"{machine_line(reports[0]['machine'])}, medians"
    return f"{title}\n\n{tabulate(rows, headers=headers, tablefmt='github', disable_numparse=True)}"


def _seconds(times: dict[str, float]) -> tuple[str, str]:
    return f"{times['median'] / 1e3:.2f}", f"{times['spread']:.0%}"


def _of_network(by_stage: dict) -> Any:
    return by_stage["network" if "network" in by_stage else "model"]


def _facts(report: dict) -> list[list[str]]:
    size = lambda key: " x ".join(map(str, report[key]))  # noqa: E731
    network = [word for word in ("fused", "compiled") if report[word]] or ["neither fused nor compiled"]
    gflops = " + ".join(f"{value:.2f} ({name})" for name, value in report["gflops"].items())
    return [
        ["model", f"{report['model']}, {report['config_file']}, weights: {report['weights']}"],
        ["image", f"{report['input']}, {size('input_size')}; network input {size('network_input')}"],
        ["network", f"{report['precision']}, {', '.join(network)}"],
        ["machine", machine_line(report["machine"])],
        ["parameters", f"{report['parameters_m']:.2f} M ({report['parameters_timed_m']:.2f} M as timed)"],
        ["GFLOPs", gflops],
        ["peak memory", f"{report['peak_memory_mib']:.0f} MiB"],
        ["objects", str(report["objects"])],
        ["images/s", f"{report['images_per_second']:.2f}"],
    ]

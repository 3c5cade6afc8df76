"""Train what a list names, one run after the other, and write the table and the plots of what was measured.

    insta-rtdetr ablate tools/ablations/nuclei_224.yaml --dataset path/to/nuclei --weights mobilenetv2_100_imagenet.pth

A run that was ended goes on from its last checkpoint, and one that is complete is left as it is: the same command is
started again until nothing is left.  The report is written after every run: ablation.md, ablation.json, ablation.png
and, of runs that were evaluated more than once, curves.png.  insta_rtdetr/engine/ablation/runs.py says what a list
looks like.  Bad input ends in one line on stderr and exit code 1, and so does a run that failed.
"""

import argparse
import logging
import sys
from pathlib import Path

from insta_rtdetr.command_line import CommandParser, run_command

from .report import write_report
from .runs import Run, read_list, read_result, run_one

# Each run is a process of its own, of this Python.
TRAIN = [sys.executable, "-m", "insta_rtdetr", "train"]


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command line; the exit code."""
    return run_command(lambda: ablate(parse(arguments, prog)))


def ablate(args: argparse.Namespace) -> int:
    """Train the runs of a list and report; 1 if one of them failed."""
    logging.getLogger(__package__).setLevel(logging.INFO)
    folder = Path(args.output or f"output/ablations/{Path(args.list).stem}")
    shared = {"MODEL.WEIGHTS": args.weights, "MODEL.DEVICE": args.device}
    runs = read_list(args.list, folder, args.dataset, {key: value for key, value in shared.items() if value})
    write_results(runs, folder)
    has_failed = False
    for run in [] if args.report_only else runs:
        has_failed |= not run_one(run, TRAIN)
        write_results(runs, folder)
    return int(has_failed)


def write_results(runs: list[Run], folder: Path) -> None:
    """Write the report on what has been measured so far."""
    results = [result for result in map(read_result, runs) if result is not None]
    if results:
        write_report(results, folder)


def parse(arguments: list[str] | None, prog: str | None = None) -> argparse.Namespace:
    """Parse the options; a wrong one is a UserError."""
    parser = CommandParser(prog, __doc__)
    parser.add_argument("list", metavar="LIST.yaml", help="what to run")
    parser.add_shared("--dataset", "--device")
    parser.add_shared("--weights", help="checkpoint that all runs start from (default: the list's)")
    parser.add_argument("--output", default="", metavar="FOLDER", help="of runs and report (output/ablations/LIST)")
    parser.add_argument("--report-only", action="store_true", help="train nothing")
    return parser.parse_args(arguments)

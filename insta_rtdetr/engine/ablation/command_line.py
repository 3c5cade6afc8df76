"""Train the runs of a list, one after the other, and write a table and plots of their results.

    insta-rtdetr ablate tools/ablations/nuclei_224.yaml --dataset path/to/nuclei --weights mobilenetv2_100_imagenet.pth

Started again, the command resumes an interrupted run from its last checkpoint and skips complete runs.  The report is
written after every run: ablation.md, ablation.json, ablation.png and, if a run was evaluated more than once,
curves.png.  insta_rtdetr/engine/ablation/runs.py describes the format of a list.  Bad input ends in one line on stderr
and exit code 1, and a failed run in exit code 1.
"""

import argparse
import logging
import sys
from pathlib import Path

from insta_rtdetr.command_line import CommandParser, run_command

from .report import write_report
from .runs import Run, read_list, read_result, run_one

# Each run is a separate process of the same Python interpreter.
TRAIN = [sys.executable, "-m", "insta_rtdetr", "train"]


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: ablate(parse(arguments, prog)))


def ablate(args: argparse.Namespace) -> int:
    """Train the runs of a list and write the report; return 1 if one of them failed, else 0."""
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
    """Write the report of the results so far, if there are any."""
    results = [result for result in map(read_result, runs) if result is not None]
    if results:
        write_report(results, folder)


def parse(arguments: list[str] | None, prog: str | None = None) -> argparse.Namespace:
    """Parse the options.

    Raises:
        UserError: an option is wrong.
    """
    parser = CommandParser(prog, __doc__)
    parser.add_argument("list", metavar="LIST.yaml", help="what to run")
    parser.add_shared("--dataset", "--device")
    parser.add_shared("--weights", help="checkpoint that all runs start from (default: the list's)")
    parser.add_argument("--output", default="", metavar="FOLDER", help="of runs and report (output/ablations/LIST)")
    parser.add_argument("--report-only", action="store_true", help="train nothing")
    return parser.parse_args(arguments)

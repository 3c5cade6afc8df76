#!/usr/bin/env python3
"""Train what a list names, one run after the other, and write the table and the plots of what was measured.

    python tools/ablate.py tools/ablations/nuclei_224.yaml --dataset path/to/nuclei --weights imagenet.pth

A run that was ended goes on from its last checkpoint, one that is complete is left as it is; so the same command is
started again until nothing is left.  The report is written after every run: ablation.md, ablation.json, ablation.png
and curves.png.  insta_rtdetr/engine/ablation.py says what a list looks like.  Bad input ends in one line on stderr and
exit code 1, as does a run that failed.
"""

import argparse
import logging
import sys
from pathlib import Path

from insta_rtdetr.engine.ablation import Run, read_list, read_result, run_one
from insta_rtdetr.engine.ablation_report import write_report
from insta_rtdetr.engine.dataset_flag import DATASET_HELP
from insta_rtdetr.errors import UserError, report, wrong_option

TRAIN = [sys.executable, str(Path(__file__).resolve().parents[1] / "train_net.py")]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        args = parse(arguments)
        folder = Path(args.output or f"output/ablations/{Path(args.list).stem}")
        settings = {"dataset": args.dataset, "overrides": {"MODEL.WEIGHTS": args.weights} if args.weights else {}}
        runs = read_list(args.list, folder, settings)
        failed = [run for run in runs if not (args.report_only or trained(run, runs, folder))]
        write_results(runs, folder)
    except UserError as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    return 1 if failed else 0


def trained(run: Run, runs: list[Run], folder: Path) -> bool:
    """Train one run and write the report; whether it succeeded."""
    succeeded = run_one(run, TRAIN)
    write_results(runs, folder)
    return succeeded


def write_results(runs: list[Run], folder: Path) -> None:
    """The report on what has been measured so far."""
    results = [result for result in map(read_result, runs) if result is not None]
    if results:
        write_report(results, folder)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options; a wrong one is a UserError."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("list", metavar="LIST.yaml", help="what to run")
    option("--dataset", default="", metavar="DIR", help=DATASET_HELP)
    option("--weights", default="", metavar="FILE", help="MODEL.WEIGHTS of all runs")
    option("--output", default="", metavar="DIR", help="where runs and report go (default: output/ablations/LIST)")
    option("--report-only", action="store_true", help="train nothing")
    parser.error = wrong_option("tools/ablate.py")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

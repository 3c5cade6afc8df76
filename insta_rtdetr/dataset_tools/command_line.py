"""Check, convert and split datasets for instance segmentation.

    insta-rtdetr dataset check datasets/toy --output output/check_toy
    insta-rtdetr dataset convert --from labelme my_labels datasets/mine
    insta-rtdetr dataset split datasets/mine datasets/mine_split --train 80 --val 10 --test 10 --stratify

check exits with 0 only if the dataset can be trained on.  datasets/README.md says what each command reads and writes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from insta_rtdetr.command_line import CommandParser, run_subcommand

from .check import check_folder
from .convert import READERS, convert
from .report import write_report
from .split import split_dataset


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run a command and return the exit code, 0 on success."""
    return run_subcommand(_parser(prog), arguments)


def _parser(prog: str | None) -> CommandParser:
    parser = CommandParser(prog, __doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="read every image and mask; exit code 0 only if it can be trained on")
    check.add_argument("dataset", type=Path, metavar="DIR", help="the dataset's folder")
    check.add_argument("--output", type=Path, default=Path("output/dataset_check"), metavar="REPORT",
                       help="folder for check_dataset_result.json and report.html (%(default)s)")  # fmt: skip
    check.add_argument("--workers", type=int, default=0, metavar="N", help="processes (one for each core)")
    check.set_defaults(run=_check)

    converting = commands.add_parser("convert", help="convert another format to COCO's layout")
    converting.add_argument("--from", dest="source_format", required=True, choices=READERS, help="format of SRC")
    converting.add_argument("source", type=Path, metavar="SRC", help="it is only read")
    converting.add_argument("destination", type=Path, metavar="DST", help="a new folder")
    converting.set_defaults(run=_convert)

    splitting = commands.add_parser("split", help="divide into training, validation and test images")
    splitting.add_argument("dataset", type=Path, metavar="DIR", help="it is only read")
    splitting.add_argument("destination", type=Path, nargs="?", metavar="DST", help="a new folder (DIR_split)")
    for name in ("train", "val", "test"):
        splitting.add_argument(f"--{name}", type=float, default=0.0, metavar="PERCENT")
    splitting.add_argument("--stratify", action="store_true", help="share out each class in these proportions too")
    splitting.add_argument("--seed", type=int, default=0, help="the same seed gives the same splits (%(default)s)")
    splitting.set_defaults(run=_split)
    return parser


def _check(options: argparse.Namespace) -> int:
    check = check_folder(options.dataset, num_workers=options.workers)
    for finding in check.findings():
        print(finding)
    result_file, page_file = write_report(check, options.output)
    print(f"{'can be trained on' if check.passes else 'needs mending'}: {page_file}, {result_file}")
    return 0 if check.passes else 1


def _convert(options: argparse.Namespace) -> int:
    print(convert(options.source_format, options.source, options.destination))
    return 0


def _split(options: argparse.Namespace) -> int:
    folder = options.dataset.absolute()
    destination = options.destination or folder.with_name(f"{folder.name}_split")
    shares = {name: getattr(options, name) for name in ("train", "val", "test")}
    print(split_dataset(folder, destination, shares, options.stratify, options.seed))
    return 0

#!/usr/bin/env python3
"""Predict images, folders and videos: drawn images, COCO's json, or both.

    python tools/predict.py --model quickstart_MNV2_D3_256 --input photos/ --output found/

A run that was stopped goes on when the same command is given again.  Inputs that cannot be read are named, and the
others are done all the same; the exit code is then 1, as for any bad input.
"""

import errno
import logging
import sys
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from insta_rtdetr.errors import UserError, report
from insta_rtdetr.predict.command_line import ModelParser
from insta_rtdetr.predict.offline import JOURNAL_NAME, SAVE_CHOICES, Job, predict_offline
from insta_rtdetr.predict.recorder import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    # What the checkpointer warns of (a head left untrained) belongs before the user's eyes.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        job = parse(arguments)
        num_unreadable = predict_offline(job)
    except UserError as error:
        return report(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        advice = f"Free some disk space for {job.output}; the same command goes on from here."
        sys.stderr.write(f"error: {error.strerror}.  {advice}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.  The same command goes on from here.\n")
        return 130
    sys.stdout.write(f"Done: {job.output}\n")
    if num_unreadable:
        sys.stderr.write(f"error: {num_unreadable} inputs could not be read, see above.\n")
    return 1 if num_unreadable else 0


def parse(arguments: list[str] | None) -> Job:
    """Parse; a wrong option is a UserError."""
    parser = ModelParser("python tools/predict.py", __doc__, fromfile_prefix_chars="@")
    option = parser.add_argument
    option(
        "--input", nargs="+", required=True, metavar="PATH",
        help="images, videos, folders of images, 'quoted' patterns, addresses; @FILE for a file of one a line",
    )  # fmt: skip
    option("--output", required=True, type=Path, metavar="FOLDER", help=f"made if there is none; see {JOURNAL_NAME}")
    option("--save", choices=SAVE_CHOICES, default="both", help="drawn images, COCO's json, or both (default)")
    option("--threshold", type=float, default=0.5, metavar="P", help="lowest score (default 0.5)")
    option("--batch-size", type=int, default=1, metavar="N", help="images the network is given at a time (default 1)")
    option("--workers", type=int, default=0, metavar="N", help="workers of Ray (default 0: this process, no Ray)")
    args = parser.parse_args(arguments)
    settings = Settings(
        args.model, args.weights, args.device, tuple(args.opts), args.threshold, args.batch_size, args.save != "img"
    )
    return Job(settings, args.input, args.output, args.save, args.workers)


if __name__ == "__main__":
    sys.exit(main())

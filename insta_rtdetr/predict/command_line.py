"""Predict images, folders and videos: drawn images, COCO's json, or both.

    insta-rtdetr predict --model quickstart_MNV2_D3_256 --input photos/ --output found/

A run that was stopped goes on when the same command is given again.  Inputs that cannot be read are named, and the
others are done all the same; the exit code is then 1, as for any bad input.
"""

import errno
import sys
from pathlib import Path

from insta_rtdetr.command_line import CommandParser, run_command, use_threads
from insta_rtdetr.views.tiling import Tiling

from .offline import JOURNAL_NAME, SAVE_CHOICES, Job, predict_offline
from .recorder import Settings


def main(arguments: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: _run(parse(arguments, prog)))


def _run(job: Job) -> int:
    try:
        num_unreadable = predict_offline(job)
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


def parse(arguments: list[str] | None, prog: str | None = None) -> Job:
    """Parse the command line.

    Raises:
        UserError: an option is wrong.
    """
    parser = CommandParser(prog, __doc__, fromfile_prefix_chars="@")
    parser.add_model()
    option = parser.add_argument
    option(
        "--input", nargs="+", required=True, metavar="PATH",
        help="images, videos, folders of images, 'quoted' patterns, addresses; @FILE for a file of one a line",
    )  # fmt: skip
    option("--output", required=True, type=Path, metavar="FOLDER", help=f"made if there is none; see {JOURNAL_NAME}")
    option("--save", choices=SAVE_CHOICES, default="both", help="drawn images, COCO's json, or both (default)")
    option("--threshold", type=float, default=0.5, metavar="P", help="lowest score (default 0.5)")
    option("--batch-size", type=int, default=1, metavar="N", help="images or tiles the network is given at a time (1)")
    option(
        "--tile", type=int, default=0, metavar="PIXELS",
        help="cut images into overlapping tiles of this side, to find small objects in large images (default: none)",
    )  # fmt: skip
    option("--overlap", type=float, default=0.2, metavar="P", help="of neighbouring tiles, in sides of one (0.2)")
    option("--augment", action="store_true", help="merge what mirrored and rescaled images show, as TEST.AUG says")
    option("--workers", type=int, default=0, metavar="N", help="workers of Ray (default 0: this process, no Ray)")
    option("--track", action="store_true", help="for videos: an object has one number and one colour in all frames")
    args = parser.parse_args(arguments)
    use_threads(args.threads)
    settings = Settings(
        args.config_file, args.weights, args.device, tuple(args.opts), args.threshold, args.batch_size,
        args.save != "img", Tiling(args.tile, args.overlap) if args.tile else None, args.track, args.augment,
    )  # fmt: skip
    return Job(settings, args.input, args.output, args.save, args.workers)

#!/usr/bin/env python
"""Draw what a model finds in images, in a video, or in front of the webcam.

    python demo/demo.py --config-file configs/... --input street.jpg photos/ 'more/*.png' --output found/ \\
        --opts MODEL.WEIGHTS model.pth

Works for this package's models and for Detectron2's own that find instances.
Images that cannot be read are named, and the others are done all the same; the exit code is then 1, as for any bad
input.
"""

import argparse
import logging
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from tqdm import tqdm

from insta_rtdetr.command_line import CommandParser
from insta_rtdetr.errors import ImageError, UserError, one_line, option_errors, report
from insta_rtdetr.predict import Model
from insta_rtdetr.predict.create import model_config
from insta_rtdetr.predict.inputs import Input, LoadedImage, find_inputs
from insta_rtdetr.predict.outputs import drawing_targets, make_folder
from insta_rtdetr.predict.tracking import Tracker
from insta_rtdetr.predict.video import (
    FIRST_WEBCAM,
    VIDEO_ENDINGS,
    count_frames,
    frames_per_second,
    newest_frames,
    read_video,
    video_writer,
)
from insta_rtdetr.visualization import ColorMemory

WINDOW_NAME = "insta_rtdetr"
ESCAPE_KEY = 27


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        args = parse(arguments)
        if args.input:
            return run_on_images(args)
        return run_on_video(args)
    except UserError as error:
        return report(error)
    except KeyboardInterrupt:
        return 130


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line, which has the options of Detectron2's demo.

    Raises:
        UserError: an option is wrong.
    """
    parser = build_parser()
    args = parser.parse_args(arguments)
    if sum((bool(args.input), bool(args.video_input), args.webcam)) != 1:
        parser.error("Wanted one of --input, --video-input and --webcam")
    if not 0 <= args.confidence_threshold <= 1:
        parser.error(f"--confidence-threshold is {args.confidence_threshold}, wanted 0 to 1")
    if args.track and args.input:
        parser.error("--track is for --video-input and --webcam")
    if args.webcam and args.output:
        parser.error("--webcam shows a window and cannot write to --output")
    return args


def build_parser() -> CommandParser:
    """Build the parser of the command line."""
    summary, _, details = __doc__.partition("\n\n")
    parser = CommandParser("python demo/demo.py", summary, epilog=details)
    parser.add_shared("--config-file", required=True)
    parser.add_shared("--dataset")
    parser.add_argument("--input", nargs="+", metavar="PATH", help="images, folders of images, 'quoted' patterns")
    parser.add_argument("--video-input", metavar="FILE", help="a video")
    parser.add_argument("--webcam", action="store_true", help="the first webcam, shown in a window")
    parser.add_argument("--track", action="store_true", help="an object of a video has one number and colour")
    parser.add_argument(
        "--output", metavar="PATH",
        help="file, or folder for files named like the input (several images need one); made if there is none, files "
        "in it of the same name are replaced.  Default: a window; Esc ends it",
    )  # fmt: skip
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, metavar="P", help="lowest score to draw (default 0.5)"
    )
    parser.add_shared(
        "--opts", nargs=argparse.REMAINDER,
        help="config keys to change, and their values, such as MODEL.WEIGHTS model.pth; to be the last option",
    )  # fmt: skip
    return parser


def build_model(args: argparse.Namespace) -> Model:
    """Build the model that the command line names, with its weights.

    Raises:
        UserError, CheckpointError: a config value or the weights are missing or wrong.
    """
    # The user must see the checkpointer's warnings, for example that a head was left untrained.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    with option_errors("--config-file and --opts"):
        return Model(model_config(args.config_file, "", args.opts, args.dataset))


def run_on_images(args: argparse.Namespace) -> int:
    """Handle --input, and return the exit code."""
    with option_errors("--input"):
        inputs = find_inputs(args.input)
        if videos := [one.name for one in inputs if one.is_video]:
            raise UserError(f"{videos[0]} is a video.  Use --video-input.")
    targets = find_targets(inputs, args.output)
    model = build_model(args)
    num_unreadable = 0
    for one, target in zip(tqdm(inputs, unit="image", disable=None), targets):
        try:
            (image,) = one.read()
        except ImageError as error:
            num_unreadable += 1
            tqdm.write(f"error: {one_line(error)}", file=sys.stderr)
            continue
        start = time.perf_counter()
        (found,) = model.predict_batch([image], args.confidence_threshold)
        seconds = time.perf_counter() - start
        if target:
            with option_errors("--output"):
                found.save_to_img(target)
        where = f" -> {target}" if target else ""
        tqdm.write(f"{one.name}: {len(found)} objects in {seconds:.2f} s{where}")
        if not target and not show(found.draw(), wait_ms=0):
            break
    if num_unreadable and len(inputs) > 1:
        sys.stderr.write(f"error: {num_unreadable} of {len(inputs)} images could not be read, see above.\n")
    return 1 if num_unreadable else 0


def find_targets(inputs: list[Input], output: str | None) -> list[Path | None]:
    """Return the file that each input is drawn into; None for a window.

    Raises:
        UserError: the output cannot take the drawings, or there is no window.
    """
    if not output:
        require_window()
        return [None] * len(inputs)
    with option_errors("--output"):
        return drawing_targets(inputs, output)


def run_on_video(args: argparse.Namespace) -> int:
    """Handle --video-input or --webcam, and return the exit code."""
    with option_errors("--video-input"):
        video = find_video(args.video_input) if args.video_input else FIRST_WEBCAM
    (target,) = find_targets([Input(str(video))], args.output)
    fps, total = frames_per_second(video), count_frames(video) if args.video_input else 0
    model = build_model(args)
    memory = ColorMemory()
    tracker = Tracker(args.confidence_threshold, fps) if args.track else None
    lowest_score = tracker.lowest_score if tracker else args.confidence_threshold
    frames = read_video(video) if args.video_input else newest_frames(read_video(video))
    if target:
        with option_errors("--output"):
            make_folder(target.parent)
    with video_writer(target, fps) if target else nullcontext() as write:
        for frame in tqdm(frames, total=total or None, unit="frame", disable=None):
            (found,) = model.predict_batch([LoadedImage(frame, str(video))], lowest_score)
            drawn = (tracker.update(found) if tracker else found).draw(memory=memory)
            if target:
                write(drawn)
            elif not show(drawn, wait_ms=1):
                break
    if target:
        sys.stdout.write(f"{video} -> {target}\n")
    return 0


def find_video(file: str) -> str:
    """Return the path of a video file after checking that it exists and has a video's ending.

    Raises:
        UserError: it does not exist or is no video.
    """
    (one, *others) = find_inputs(file)
    if others or not one.is_video:
        raise UserError(f"{file} is no video.  Wanted one of {', '.join(VIDEO_ENDINGS)}.")
    return one.name


def require_window() -> None:
    """Check that a window can be opened, before the model is loaded.

    Raises:
        UserError: there is no display, or OpenCV was built without windows.
    """
    has_display = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    try:
        if not has_display:
            raise UserError("There is no display to open a window on.  Add --output FILE_OR_FOLDER.")
        cv2.namedWindow(WINDOW_NAME, cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise UserError(
            "This OpenCV cannot open windows (opencv-python-headless).  Add --output FILE_OR_FOLDER."
        ) from error


def show(image_rgb: np.ndarray, wait_ms: int) -> bool:
    """Show an image in the window, and return False if Esc was pressed; wait_ms 0 waits for a key."""
    cv2.imshow(WINDOW_NAME, np.ascontiguousarray(image_rgb[:, :, ::-1]))
    return cv2.waitKey(wait_ms) != ESCAPE_KEY


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""Draw what a model finds in pictures, in a video, or in front of the webcam.

    python demo/demo.py --config-file configs/... --input street.jpg photos/ 'more/*.png' --output found/ \\
        --opts MODEL.WEIGHTS model.pth

Works for this package's models and for Detectron2's own that find instances.
Pictures that cannot be read are named, and the others are done all the same; the exit code is then 1, as for any bad
input.
"""

import argparse
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# FFmpeg would add lines of its own about a broken video; read when OpenCV is loaded.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from demo_files import find_pictures, make_folder, picture_targets, video_target
from detectron2.config import CfgNode
from detectron2.structures import Instances
from detectron2.utils.video_visualizer import VideoVisualizer
from tqdm import tqdm

import insta_rtdetr  # noqa: F401  (registers the models)
from insta_rtdetr.engine import UserError, setup_cfg
from insta_rtdetr.engine.dataset_flag import DATASET_HELP
from insta_rtdetr.engine.errors import one_line, report, user_error_types
from insta_rtdetr.visualization import PictureError, Predictor, above, draw, read_picture, write_picture

WINDOW_NAME = "insta_rtdetr"
ESCAPE_KEY = 27
VIDEO_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
# For videos that do not say how many frames a second they have.
DEFAULT_FPS = 25.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        args = parse(arguments)
        if args.input:
            return run_on_pictures(args)
        return run_on_video(args)
    except user_error_types() as error:
        return report(error)
    except KeyboardInterrupt:
        return 130


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options of Detectron2's demo; a wrong one is a UserError."""
    parser = build_parser()

    def fail(message: str) -> None:
        raise UserError(f"{message}.  See python demo/demo.py --help.")

    parser.error = fail
    args = parser.parse_args(arguments)
    if sum((bool(args.input), bool(args.video_input), args.webcam)) != 1:
        fail("Wanted one of --input, --video-input and --webcam")
    if not 0 <= args.confidence_threshold <= 1:
        fail(f"--confidence-threshold is {args.confidence_threshold}, wanted 0 to 1")
    if args.webcam and args.output:
        fail("--webcam shows a window and cannot write to --output")
    return args


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="the model's yaml file")
    parser.add_argument("--dataset", default="", metavar="DIR", help=DATASET_HELP)
    parser.add_argument("--input", nargs="+", metavar="PATH", help="pictures, folders of pictures, 'quoted' patterns")
    parser.add_argument("--video-input", metavar="FILE", help="a video")
    parser.add_argument("--webcam", action="store_true", help="the first webcam, shown in a window")
    parser.add_argument(
        "--output", metavar="PATH",
        help="file, or folder for files named like the input (several pictures need one); made if there is none, files "
        "in it of the same name are replaced.  Default: a window; Esc ends it",
    )  # fmt: skip
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.5, metavar="P", help="lowest score to draw (default 0.5)"
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE",
        help="config values, such as MODEL.WEIGHTS model.pth; to be the last option",
    )  # fmt: skip
    return parser


def build_predictor(args: argparse.Namespace) -> Predictor:
    """The model of the command line, with its weights.

    Raises:
        UserError, CheckpointError: a config value or the weights are missing or wrong.
    """
    # What the checkpointer warns of (a head left untrained) belongs before the user's eyes.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    cfg = setup_cfg(args.config_file, args.opts, args.dataset)
    if not cfg.MODEL.WEIGHTS:
        raise UserError("MODEL.WEIGHTS is empty.  Add --opts MODEL.WEIGHTS path/to/model.pth at the end.")
    set_threshold(cfg, args.confidence_threshold)
    return Predictor(cfg)


def set_threshold(cfg: CfgNode, threshold: float) -> None:
    """Let models leave out what will not be drawn, which saves them the masks."""
    cfg.TEST.SCORE_THRESHOLD = threshold
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = threshold
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = threshold
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = threshold


def find_objects(predictor: Predictor, image_bgr: np.ndarray, threshold: float) -> Instances:
    """What a model finds in a picture.

    Raises:
        UserError: the model does not find instances.
    """
    prediction = predictor(image_bgr)
    if "instances" not in prediction:
        architecture = predictor.cfg.MODEL.META_ARCHITECTURE
        raise UserError(f"{architecture} gives {', '.join(prediction)}, wanted instances.  Change --config-file.")
    return above(prediction["instances"], threshold)


def run_on_pictures(args: argparse.Namespace) -> int:
    """--input; the exit code."""
    files = find_pictures(args.input)
    targets = picture_targets(files, args.output) if args.output else []
    if not args.output:
        require_window()
    predictor = build_predictor(args)
    num_unreadable = 0
    for index, file in enumerate(tqdm(files, unit="picture", disable=None)):
        try:
            image = read_picture(file)
        except PictureError as error:
            num_unreadable += 1
            tqdm.write(f"error: {one_line(error)}", file=sys.stderr)
            continue
        start = time.perf_counter()
        found = find_objects(predictor, image, args.confidence_threshold)
        seconds = time.perf_counter() - start
        drawn = draw(image, found, predictor.metadata)
        where = ""
        if args.output:
            make_folder(targets[index].parent)
            write_picture(drawn, targets[index])
            where = f" -> {targets[index]}"
        tqdm.write(f"{file}: {len(found)} objects in {seconds:.2f} s{where}")
        if not args.output and not show(drawn, wait_ms=0):
            break
    if num_unreadable and len(files) > 1:
        sys.stderr.write(f"error: {num_unreadable} of {len(files)} pictures could not be read, see above.\n")
    return 1 if num_unreadable else 0


def run_on_video(args: argparse.Namespace) -> int:
    """--video-input or --webcam; the exit code."""
    target = video_target(args.video_input, args.output, VIDEO_CODECS) if args.output else None
    if target is None:
        require_window()
    video = open_video(args.video_input)
    fps = video.get(cv2.CAP_PROP_FPS)
    fps = fps if math.isfinite(fps) and fps > 0 else DEFAULT_FPS
    predictor = build_predictor(args)
    visualizer = VideoVisualizer(predictor.metadata)
    num_frames = 0
    with video_writer(target, fps) as write:
        total = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if args.video_input else 0
        for frame in tqdm(frames_of(video), total=max(total, 0) or None, unit="frame", disable=None):
            found = find_objects(predictor, frame, args.confidence_threshold)
            drawn = visualizer.draw_instance_predictions(np.ascontiguousarray(frame[:, :, ::-1]), found).get_image()
            num_frames += 1
            if target is not None:
                write(drawn)
            elif not show(drawn, wait_ms=1):
                break
        if num_frames == 0:
            raise UserError(f"{args.video_input or 'The webcam'} gave no frame.  Give another --video-input.")
    video.release()
    if target is not None:
        sys.stdout.write(f"{args.video_input}: {num_frames} frames -> {target}\n")
    return 0


def open_video(file: str | None) -> cv2.VideoCapture:
    """A video file, or the first webcam.

    Raises:
        UserError: there is none, or it is no video.
    """
    if file is not None and not os.path.isfile(file):
        raise UserError(f"--video-input {file} not found.  Give an existing video.")
    video = cv2.VideoCapture(0 if file is None else file)
    if not video.isOpened():
        if file is None:
            raise UserError("No webcam found.  Use --video-input or --input.")
        raise UserError(f"--video-input {file} is no video that OpenCV can read.  Give another file.")
    return video


def frames_of(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """BGR pictures, to the end."""
    while True:
        is_read, frame = video.read()
        if not is_read:
            return
        yield frame


@contextmanager
def video_writer(target: Path | None, fps: float):
    """Gives a function that takes RGB frames; the file appears whole at the end, and not at all after an error."""
    if target is None:
        yield None
        return
    make_folder(target.parent)
    temporary = target.with_name(f".{target.stem}.unfinished-{os.getpid()}{target.suffix}")
    writer = cv2.VideoWriter()

    def write(frame_rgb: np.ndarray) -> None:
        if not writer.isOpened():
            height, width = frame_rgb.shape[:2]
            codec = cv2.VideoWriter_fourcc(*VIDEO_CODECS[target.suffix.lower()])
            if not writer.open(str(temporary), codec, fps, (width, height)):
                raise UserError(f"OpenCV cannot write {target}.  Try another ending: {', '.join(VIDEO_CODECS)}.")
        writer.write(np.ascontiguousarray(frame_rgb[:, :, ::-1]))

    try:
        yield write
        writer.release()
        os.replace(temporary, target)
    finally:
        writer.release()
        temporary.unlink(missing_ok=True)


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
    """Show a picture in the window; False when Esc was pressed.  wait_ms 0 waits for any key."""
    cv2.imshow(WINDOW_NAME, np.ascontiguousarray(image_rgb[:, :, ::-1]))
    return cv2.waitKey(wait_ms) != ESCAPE_KEY


if __name__ == "__main__":
    sys.exit(main())

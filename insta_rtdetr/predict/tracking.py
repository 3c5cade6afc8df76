"""Tracks: the same number for an object in all frames of a video, with ByteTrack of the package trackers.

Source: ByteTrack, https://arxiv.org/abs/2110.06864
"""

from collections import Counter

import numpy as np
import torch

from insta_rtdetr.extras import import_extra
from insta_rtdetr.modeling.postprocessing import without_duplicates

from .result import Result

# ByteTrack goes on with a track in objects down to this score, which alone begin no track.
LOWEST_SCORE = 0.1
# An object that is not found for this long and then found again keeps its number.
SECONDS_LOST = 1.0
# IoU of two boxes of a frame from which they are taken to be around one object.
SAME_OBJECT = 0.7


class Tracker:
    """Tracker of the objects of one video.

    Attributes:
        lowest_score: lowest score of the objects that `update` wants.
        totals: number of tracks so far, by the class name with which they began.
    """

    def __init__(self, threshold: float, frames_per_second: float) -> None:
        """Begin a video.

        Args:
            threshold: lowest score of an object with which a track begins.
            frames_per_second: of the video.

        Raises:
            UserError: the package trackers is not installed.
        """
        self.lowest_score = min(LOWEST_SCORE, threshold)
        self.totals: Counter[str] = Counter()
        self._supervision = import_extra("supervision", "track")
        self._num_tracks = 0
        self._tracker = import_extra("trackers", "track").ByteTrackTracker(
            frame_rate=frames_per_second,
            # The package counts this buffer in frames of a video of 30 frames per second.
            lost_track_buffer=round(30 * SECONDS_LOST),
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
            minimum_consecutive_frames=1,
        )

    def update(self, result: Result) -> Result:
        """Return the tracked objects of the next frame, with their numbers as `track_ids`.

        Args:
            result: all objects of the frame down to `lowest_score`.
        """
        found = result.instances
        # An object that is found twice, or as two classes, has one track.
        every_class = torch.zeros_like(found.pred_classes)
        found = found[without_duplicates(found.pred_boxes.tensor, found.scores, every_class, SAME_OBJECT)]
        detections = self._supervision.Detections(
            xyxy=found.pred_boxes.tensor.numpy(), confidence=found.scores.numpy(), data={"index": np.arange(len(found))}
        )
        tracked = self._tracker.update(detections)
        track_ids = torch.full((len(found),), -1)
        if len(tracked):
            track_ids[tracked.data["index"]] = torch.from_numpy(tracked.tracker_id)
        instances = found[track_ids >= 0]
        instances.track_ids = track_ids[track_ids >= 0] + 1  # The package counts from 0.
        numbered = Result(result.image, instances, result.categories, result.source, result.frame)
        self._count(numbered)
        return numbered

    def _count(self, result: Result) -> None:
        for name, track_id in zip(result.class_names, result.track_ids.tolist()):
            if track_id > self._num_tracks:
                self.totals[name] += 1
        self._num_tracks = max([self._num_tracks, *result.track_ids.tolist()])

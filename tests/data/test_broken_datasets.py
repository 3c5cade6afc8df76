"""Training on broken and unusual datasets: a clear error, a counted skip, or the right pixels under the right masks."""

import logging

import pytest
import torch

from insta_rtdetr.data import InstanceMapper, find_dataset, load_datasets, register_found
from insta_rtdetr.data.datasets import register_coco_json
from insta_rtdetr.errors import DatasetError

from ..dataset_tools.broken import BROKEN, COLORS, UNUSUAL, annotation_file, sound_dataset

NAME = "broken_test_train"


@pytest.fixture
def dataset(tmp_path):
    folder = sound_dataset(tmp_path / "dataset")
    register_coco_json(NAME, annotation_file(folder), folder / "train")
    return folder


def load_all():
    """What a training run reads in an epoch."""
    mapper = InstanceMapper(True)
    return [mapper(item) for item in load_datasets((NAME,), num_classes=2, filter_empty=True)]


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_dataset_is_an_error_a_counted_skip_or_harmless(dataset, name, caplog):
    damage, _, wanted = BROKEN[name]
    damage(dataset)
    outcome, _, text = wanted.partition(": ")
    if outcome == "error":
        with pytest.raises(DatasetError) as error:
            load_all()
        assert text in str(error.value) and "\n" not in str(error.value)
        return
    with caplog.at_level(logging.WARNING):
        mapped = load_all()
    assert sum(len(item["instances"]) for item in mapped) == (5 if outcome == "skip" else 6)
    assert [text in message for message in caplog.messages] == ([True] if outcome in ("skip", "warn") else [])


@pytest.mark.parametrize("name", ["annotation id twice", "category id twice"])
def test_ids_are_checked_too_where_a_copy_would_get_new_ones(dataset, name):
    BROKEN[name][0](dataset)
    with pytest.raises(DatasetError, match=r"instances_train.json.*used 2"):
        register_found(find_dataset(dataset))


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_files_have_their_pixels_under_their_masks(dataset, name):
    unusual, keeps_color = UNUSUAL[name]
    unusual(dataset)
    mapped = load_all()[0]
    instances = mapped["instances"]
    assert instances.gt_classes.tolist() == [0, 1]
    everywhere = instances.gt_masks.tensor.any(dim=0)
    for color, mask in zip(COLORS, instances.gt_masks.tensor):
        wanted = torch.tensor(color if keeps_color else [color[0]] * 3).float()
        inside = mapped["image"][:, mask].float().mean(dim=1)
        assert (inside - wanted).abs().max() < 30, (inside, wanted)
    assert ((mapped["image"][:, ~everywhere].float().mean(dim=1) - 93).abs() < 12).all()

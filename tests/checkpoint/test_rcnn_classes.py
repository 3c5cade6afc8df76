"""The rows of classes in the heads of Detectron2's R-CNNs."""

import pytest
import torch
from detectron2.modeling import build_model

from insta_rtdetr.checkpoint import Checkpointer
from tests.checkpoint.test_classes import NEW, OLD
from tests.tiny import tiny_paddlex_rcnn_config

CASCADE = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)


def transferred(folder, old, new, *overrides):
    """State dicts of a model of the old classes, of one of the new, and of that one once it has loaded the first."""
    models = [
        build_model(tiny_paddlex_rcnn_config("MODEL.ROI_HEADS.NUM_CLASSES", len(names), *overrides))
        for names in (old, new)
    ]
    Checkpointer(models[0], str(folder), class_names=old).save("first")
    before = {name: value.clone() for name, value in models[1].state_dict().items()}
    Checkpointer(models[1], class_names=new).load(str(folder / "first.pth"))
    return models[0].state_dict(), before, models[1].state_dict()


@pytest.mark.parametrize("new", [NEW, ["nut"]])
def test_rows_of_classes_boxes_and_masks_go_by_name(new, tmp_path):
    old, before, found = transferred(tmp_path, OLD, new)
    for layer, rows in (("box_predictor.cls_score", 1), ("box_predictor.bbox_pred", 4), ("mask_head.predictor", 1)):
        name = f"roi_heads.{layer}.weight"
        for i, class_name in enumerate(new):
            k = OLD.index(class_name) if class_name in OLD else None
            wanted = before[name][i * rows : (i + 1) * rows] if k is None else old[name][k * rows : (k + 1) * rows]
            assert torch.equal(found[name][i * rows : (i + 1) * rows], wanted), (layer, class_name)
    # The background comes last.
    name = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(found[name][-1], old[name][-1])


@pytest.mark.parametrize("new", [NEW, OLD[::-1], ["nut"]])
def test_boxes_that_are_the_same_for_all_classes_are_kept(new, tmp_path):
    old, _, found = transferred(tmp_path, OLD, new, *CASCADE)
    for stage in range(3):
        boxes, classes = (f"roi_heads.box_predictor.{stage}.{layer}.weight" for layer in ("bbox_pred", "cls_score"))
        assert torch.equal(found[boxes], old[boxes])
        assert torch.equal(found[classes][new.index("nut")], old[classes][OLD.index("nut")])

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks

from insta_rtdetr.modeling.postprocessing import (
    ImageSize,
    MaskScoringPostprocessor,
    Postprocessor,
    SoftmaxMaskScoringPostprocessor,
    boxes_in_pixels,
)
from insta_rtdetr.structures import Prediction


def postprocessor(**changes):
    options = {"max_objects": 100, "score_threshold": 0.0, "mask_threshold": 0.5, "resize": "probability"}
    return Postprocessor(**options | changes)


def prediction(num_queries=6, num_classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Prediction(
        torch.randn(1, num_queries, num_classes, generator=generator),
        torch.rand(1, num_queries, 4, generator=generator),
        torch.randn(1, num_queries, 3, generator=generator),
        torch.randn(1, 3, 8, 8, generator=generator) * 3,
    )


SQUARE = ImageSize(output=(30, 50), resized=(32, 32), padded=(32, 32))


def test_the_best_pairs_of_query_and_class_are_kept():
    answer = prediction()
    (instances,) = postprocessor(max_objects=7)(answer, [SQUARE])
    scores = answer.class_logits[0].sigmoid()
    assert len(instances) == 7
    torch.testing.assert_close(instances.scores, scores.flatten().sort(descending=True).values[:7])
    best = divmod(int(scores.argmax()), 4)
    assert instances.pred_classes[0] == best[1]
    whole = F.interpolate(answer.mask_logits.sigmoid(), size=(30, 50), mode="bilinear") > 0.5
    assert torch.equal(instances.pred_masks[0], whole[0, best[0]])


def test_objects_below_the_score_threshold_are_left_out():
    answer = prediction()
    (instances,) = postprocessor(score_threshold=0.6)(answer, [SQUARE])
    assert len(instances) == int((answer.class_logits.sigmoid() >= 0.6).sum())
    (none,) = postprocessor(score_threshold=1.1)(answer, [SQUARE])
    assert len(none) == 0
    assert none.pred_masks.shape == (0, 30, 50)


def test_objects_on_a_better_one_of_their_class_are_left_out():
    answer = prediction(num_queries=3, num_classes=2)
    # The IoU of the first two boxes is 36 / 44 = 0.82; the third box is the first with the other class.
    answer.boxes_cxcywh[0] = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.54, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4]])
    answer.class_logits[0] = torch.tensor([[3.0, -9], [4, -9], [-9, 2]])
    sure = {"score_threshold": 0.5}
    for threshold, scores in ((0.81, [4.0, 2]), (0.83, [4.0, 3, 2]), (1.0, [4.0, 3, 2])):
        (instances,) = postprocessor(nms_threshold=threshold, **sure)(answer, [SQUARE])
        torch.testing.assert_close(instances.scores, torch.tensor(scores).sigmoid())
        assert len(instances.pred_masks) == len(instances.pred_boxes) == len(scores)
    (instances,) = postprocessor(nms_threshold=0.81, **sure)(answer, [SQUARE])
    (alone,) = postprocessor(**sure)(answer, [SQUARE])
    assert torch.equal(instances.pred_masks, alone.pred_masks[[0, 2]])
    assert torch.equal(instances.pred_boxes.tensor, alone.pred_boxes.tensor[[0, 2]])


def test_masks_that_nearly_agree_are_left_out_where_boxes_are_those_of_masks():
    answer = prediction(num_queries=2, num_classes=1)
    answer.mask_embeddings[:, 1] = answer.mask_embeddings[:, 0] * 1.01
    answer = dataclasses.replace(answer, class_logits=torch.tensor([[[3.0, 0], [2.0, 0]]]), boxes_cxcywh=None)
    (both,) = mask_scoring()(answer, [SQUARE])
    (one,) = mask_scoring(nms_threshold=0.7)(answer, [SQUARE])
    assert len(both) == 2 and len(one) == 1
    assert torch.equal(one.pred_masks, both.pred_masks[:1]) and one.scores[0] == both.scores[0]


def test_a_threshold_that_is_no_iou_is_refused():
    with pytest.raises(ValueError, match="NMS_THRESHOLD must be from 0 to 1"):
        postprocessor(nms_threshold=1.5)


def test_boxes_are_scaled_to_the_result():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    whole = boxes_in_pixels(boxes, ImageSize((100, 200), (64, 64), (64, 64)))
    torch.testing.assert_close(whole, torch.tensor([[80.0, 30, 120, 70]]))
    # Half of the input is padding, so that the image's centre is at a quarter of it.
    halved = boxes_in_pixels(torch.tensor([[0.25, 0.5, 0.1, 0.2]]), ImageSize((100, 200), (64, 32), (64, 64)))
    torch.testing.assert_close(halved, torch.tensor([[80.0, 40, 120, 60]]))


def test_probabilities_are_resized_unless_logits_are_wanted():
    answer = prediction()
    (probs,) = postprocessor()(answer, [SQUARE])
    (logits,) = postprocessor(resize="logit")(answer, [SQUARE])
    query = int(answer.class_logits[0].sigmoid().argmax()) // 4
    expected = F.interpolate(answer.mask_logits, size=(30, 50), mode="bilinear")[0, query] > 0
    assert torch.equal(logits.pred_masks[0], expected)
    assert not torch.equal(probs.pred_masks, logits.pred_masks)


def test_padding_is_cut_off_at_the_very_pixel():
    """A mask that ends with the image, of 24 x 20 in an input of 32 x 32 at stride 4, fills the image."""
    size = ImageSize(output=(24, 20), resized=(24, 20), padded=(32, 32))
    answer = prediction(num_queries=1, num_classes=1)
    answer.mask_embeddings = torch.ones(1, 1, 3)
    answer.mask_features = -torch.ones(1, 3, 8, 8)
    answer.mask_features[..., :3] = 1.0  # up to input column 12
    (instances,) = postprocessor()(answer, [size])
    assert instances.pred_masks[0, :, :12].all()
    assert not instances.pred_masks[0, :, 12:].any()


def mask_scoring(kind=SoftmaxMaskScoringPostprocessor, **changes):
    options = {"max_objects": 100, "score_threshold": 0.0, "mask_threshold": 0.5, "resize": "logit_twice"}
    return kind(**options | changes)


def without_boxes(**options):
    """Return the prediction of a model that predicts no boxes."""
    return dataclasses.replace(prediction(**options), boxes_cxcywh=None)


@pytest.mark.parametrize("kind", [MaskScoringPostprocessor, SoftmaxMaskScoringPostprocessor])
@pytest.mark.parametrize("has_boxes", [True, False])
def test_a_score_is_the_class_probability_times_the_mean_probability_of_the_mask(kind, has_boxes):
    answer = prediction() if has_boxes else without_boxes()
    (instances,) = mask_scoring(kind)(answer, [SQUARE])
    probs = answer.class_logits[0].sigmoid()
    if kind is SoftmaxMaskScoringPostprocessor:
        probs = answer.class_logits[0].softmax(-1)[:, :-1]  # the last class is "no object"
    in_input = F.interpolate(answer.mask_logits, size=(32, 32), mode="bilinear")
    logits = F.interpolate(in_input, size=(30, 50), mode="bilinear")[0]
    certainty = torch.stack([mask[mask > 0].sigmoid().mean() for mask in logits])
    scores, order = (probs * certainty[:, None]).flatten().sort(descending=True)
    num_classes = probs.shape[1]
    assert len(instances) == 6 * num_classes
    torch.testing.assert_close(instances.scores, scores, rtol=1e-4, atol=1e-5)
    assert instances.pred_classes.tolist() == (order % num_classes).tolist()
    assert torch.equal(instances.pred_masks, logits[order // num_classes] > 0)
    expected = BitMasks(instances.pred_masks).get_bounding_boxes().tensor
    if has_boxes:
        expected = boxes_in_pixels(answer.boxes_cxcywh[0, order // num_classes], SQUARE)
    torch.testing.assert_close(instances.pred_boxes.tensor, expected)


def test_probabilities_are_resized_to_the_input_first_if_wanted():
    answer = without_boxes()
    (instances,) = mask_scoring(resize="probability_twice", mask_threshold=0.45)(answer, [SQUARE])
    in_input = F.interpolate(answer.mask_logits.sigmoid(), size=(32, 32), mode="bilinear")
    probs = F.interpolate(in_input, size=(30, 50), mode="bilinear")[0]
    wanted = {tuple(mask.flatten().tolist()) for mask in probs > 0.45}
    assert {tuple(mask.flatten().tolist()) for mask in instances.pred_masks} == wanted


def test_without_masks_a_score_is_the_class_probability():
    answer = prediction().without_masks()
    (instances,) = mask_scoring(MaskScoringPostprocessor)(answer, [SQUARE])
    (expected,) = postprocessor()(answer, [SQUARE])
    assert torch.equal(instances.scores, expected.scores) and not instances.has("pred_masks")


def test_an_empty_mask_has_score_0_and_no_box():
    answer = without_boxes(num_queries=2)
    answer.mask_features = -torch.ones(1, 3, 8, 8)
    answer.mask_embeddings = torch.ones(1, 2, 3) * torch.tensor([1.0, -1.0])[:, None]
    (instances,) = mask_scoring()(answer, [SQUARE])
    assert (instances.scores[-3:] == 0).all() and (instances.scores[:-3] > 0).all()
    assert instances.pred_boxes.tensor[-3:].abs().sum() == 0
    assert instances.pred_boxes.tensor[0].tolist() == [0, 0, 50, 30]
    (kept,) = mask_scoring(score_threshold=1e-3)(answer, [SQUARE])
    assert len(kept) == 3
    (none,) = mask_scoring(score_threshold=1.0)(answer, [SQUARE])
    assert none.pred_masks.shape == (0, 30, 50) and none.pred_boxes.tensor.shape == (0, 4)


def test_another_resize_is_refused():
    choices = "probability, probability_twice, logit, logit_twice"
    with pytest.raises(ValueError, match=rf"TEST.MASK_RESIZE must be one of {choices}, got 'x'"):
        postprocessor(resize="x")

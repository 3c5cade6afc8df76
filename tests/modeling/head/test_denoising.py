import torch

from insta_rtdetr.modeling.head.denoising import Denoising, attention_mask
from insta_rtdetr.modeling.loss.criterion import denoising_match
from insta_rtdetr.structures import DenoisingPredictions, Prediction, Target


def target(num_objects):
    boxes = torch.full((num_objects, 4), 0.5)
    boxes[:, 2:] = 0.2
    return Target(torch.arange(num_objects) % 5, boxes)


def denoise(targets, **changes):
    options = {"dim": 8, "num_classes": 5, "num_queries": 10, "label_noise": 0.0, "box_noise": 0.0} | changes
    return Denoising(**options)(targets, num_matching_queries=3)


def test_objects_share_the_queries_in_whole_groups():
    noised = denoise([target(3), target(1)])
    assert noised.groups == 3
    assert noised.content.shape == (2, 9, 8)


def test_an_image_with_more_objects_than_queries_gets_one_group():
    noised = denoise([target(25)])
    assert noised.groups == 1
    assert noised.content.shape == (1, 25, 8)


def test_a_batch_without_objects_gets_one_padded_query():
    noised = denoise([target(0), target(0)])
    assert noised.content.shape == (2, 1, 8)
    assert noised.content.abs().sum() == 0
    assert noised.content.requires_grad  # every process of a distributed run uses the label embedding


def test_slots_hold_their_object_and_padding_is_zero():
    torch.manual_seed(0)
    denoising = Denoising(dim=8, num_classes=5, num_queries=4, label_noise=0.0, box_noise=0.0)
    noised = denoising([target(2), target(1)], num_matching_queries=3)
    embedding = denoising.label_embedding.weight
    torch.testing.assert_close(noised.content[0], embedding[[0, 1, 0, 1]])
    torch.testing.assert_close(noised.content[1, [0, 2]], embedding[[0, 0]])
    assert noised.content[1, [1, 3]].abs().sum() == 0
    torch.testing.assert_close(noised.reference_logits[0].sigmoid(), target(1).boxes_cxcywh.expand(4, -1))


def test_box_noise_is_bounded_by_the_box():
    torch.manual_seed(0)
    noised = denoise([target(500)], box_noise=0.4)
    boxes = noised.reference_logits.sigmoid()[0]
    assert (boxes[:, :2] - 0.5).abs().max() <= 0.4 * 0.1 + 1e-6
    assert (boxes[:, 2:] - 0.2).abs().max() <= 0.4 * 0.2 + 1e-6
    assert (boxes[:, :2] - 0.5).abs().max() > 0.03


def test_label_noise_is_a_probability():
    torch.manual_seed(0)
    denoising = Denoising(dim=8, num_classes=5, num_queries=4, label_noise=0.5, box_noise=0.0)
    classes = torch.zeros(1, 10000, dtype=torch.long)
    # A fifth of the random labels are the right ones by chance.
    share = (denoising._noise_labels(classes) != 0).float().mean().item()
    assert abs(share - 0.5 * 0.8) < 0.02


def test_attention_mask_by_hand():
    blocked = attention_mask(groups=2, group_size=1, num_matching_queries=2, device=torch.device("cpu"))
    assert blocked.int().tolist() == [
        [0, 1, 0, 0],  # group 0 sees itself and the matching queries
        [1, 0, 0, 0],
        [1, 1, 0, 0],  # a matching query does not see the groups
        [1, 1, 0, 0],
    ]


def test_contrastive_groups_end_with_copies_that_are_farther_off_and_belong_to_no_object():
    torch.manual_seed(0)
    noised = denoise([target(40), target(3)], num_queries=160, box_noise=0.4, contrastive=True)
    assert noised.groups == 2 and noised.content.shape == (2, 160, 8)
    shift = ((noised.reference_logits.sigmoid()[0, :, 0] - 0.5).abs() / 0.1).unflatten(0, (2, 2, 40))
    assert shift[:, 0].max() <= 0.4 + 1e-5 < shift[:, 1].min() + 2e-5 and shift[:, 1].max() <= 0.8 + 1e-5
    # The second image has three objects, in slots 0 to 2 of each group; their far copies are in slots 40 to 42.
    is_used = noised.content[1].abs().sum(-1) > 0
    assert is_used.nonzero()[:, 0].tolist() == [0, 1, 2, 40, 41, 42, 80, 81, 82, 120, 121, 122]
    match = denoising_match([target(40), target(3)], DenoisingPredictions([answer_of(noised)], noised.groups))
    assert match.query[match.image == 1].tolist() == [0, 1, 2, 80, 81, 82]


def answer_of(noised) -> Prediction:
    return Prediction(noised.content[..., :5], noised.reference_logits.sigmoid())

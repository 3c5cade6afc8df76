import torch

from insta_rtdetr.modeling.loss.functions import mask_iou, matchability_aware_loss, reduce_masks, varifocal_loss


def test_a_reduced_mask_is_set_where_more_than_half_is():
    masks = torch.zeros(40, 4, 4, dtype=torch.bool)
    masks[0, :2, :2] = True
    masks[0, 2, 2:] = True  # half of the last cell
    masks[39, 1:, 1:] = True
    reduced = reduce_masks(masks, (2, 2))
    assert reduced[0].tolist() == [[True, False], [False, False]]
    assert reduced[39].tolist() == [[False, False], [False, True]]
    assert reduce_masks(masks[:0], (2, 2)).shape == (0, 2, 2)


def test_mask_iou_by_hand():
    a = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]]]).bool()
    b = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 0]]]).bool()
    torch.testing.assert_close(mask_iou(a, b), torch.tensor([1.01 / 3.01, 1.0]))


def test_the_weight_of_negatives_learns_only_when_not_detached():
    logits = torch.tensor([[[0.3, -1.0]]], dtype=torch.float64, requires_grad=True)
    nothing = torch.zeros_like(logits)
    gradients = []
    for detach in (True, False):
        loss = varifocal_loss(logits, nothing.detach(), nothing.bool(), 0.75, 2.0, detach)
        gradients.append(torch.autograd.grad(loss, logits)[0])
    probs = logits.detach().sigmoid()
    # The loss of a negative is 0.75 p^2 softplus(x).
    constant = 0.75 * probs**3
    torch.testing.assert_close(gradients[0], constant)
    torch.testing.assert_close(
        gradients[1], constant + 1.5 * probs**2 * (1 - probs) * torch.nn.functional.softplus(logits.detach())
    )


def test_matchability_teaches_a_poor_match_as_strongly_as_a_good_one():
    """DEIM's equation is -q^g log p - (1 - q^g) log(1 - p) for a match, and -p^g log(1 - p) for all else."""
    logits = torch.tensor([[[0.0, 1.0, -2.0]]], dtype=torch.float64)
    overlap = torch.tensor([[[0.25, 1.0, 0.0]]], dtype=torch.float64)
    is_positive = torch.tensor([[[True, True, False]]])
    p = logits.sigmoid()[0, 0]
    expected = -0.125 * p[0].log() - 0.875 * (1 - p[0]).log() - p[1].log() - p[2] ** 1.5 * (1 - p[2]).log()
    torch.testing.assert_close(matchability_aware_loss(logits, overlap, is_positive, 1.0, 1.5, True), expected)

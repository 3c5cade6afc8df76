import pytest
import torch

from insta_rtdetr.modeling.loss.criterion import SetCriterion, denoising_match
from insta_rtdetr.structures import DenoisingPredictions, ModelOutput, Prediction, Target
from tests.tiny import tiny_mask_rtdetr_config, tiny_model, training_input


@pytest.mark.parametrize("num_objects", [(0, 0), (0, 3), (30, 1)])
def test_every_parameter_gets_a_finite_gradient_from_any_batch(num_objects):
    """Without this, DDP would hang unless find_unused_parameters were set."""
    model = tiny_model()
    losses = model([training_input(n, seed=n) for n in num_objects])
    assert len(losses) == 3 * 5 + 3 + 3 * 5  # layers, encoder without masks, denoising
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_without_objects_only_the_class_loss_of_matching_queries_is_left():
    losses = tiny_model()([training_input(0)])
    positive = {name for name, loss in losses.items() if loss > 0}
    assert positive == {"loss_vfl", "loss_vfl_aux_0", "loss_vfl_aux_1", "loss_vfl_enc"}


def test_training_on_one_image_lowers_every_kind_of_loss():
    """Gradients are clipped as in the recipe, because training would be unstable with some seeds otherwise."""
    model = tiny_model("MODEL.RESNETS.NORM", "FrozenBN")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batch = [training_input(3)]
    history = []
    for _ in range(90):
        losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    for name in ("loss_bbox", "loss_giou", "loss_mask_bce", "loss_mask_dice"):
        last = sum(losses[name] for losses in history[-10:]) / 10
        assert last < 0.7 * history[0][name], name


def test_denoising_slots_belong_to_their_objects():
    targets = [Target(torch.zeros(n).long(), torch.zeros(n, 4)) for n in (2, 1)]
    layer = Prediction(torch.zeros(2, 6, 1), torch.zeros(2, 6, 4))
    match = denoising_match(targets, DenoisingPredictions([layer], groups=3))
    assert match.image.tolist() == [0] * 6 + [1] * 3
    assert match.query.tolist() == [0, 1, 2, 3, 4, 5, 0, 2, 4]
    assert match.object.tolist() == [0, 1, 0, 1, 0, 1, 0, 0, 0]


def test_data_without_masks_trains_the_boxes_alone():
    inputs = training_input(2)
    inputs["instances"].remove("gt_masks")
    losses = tiny_model()([inputs])
    assert not any("mask" in name for name in losses)
    assert losses["loss_bbox"] > 0


def test_with_mask_quality_the_last_layers_score_is_the_mask_iou_and_the_others_is_the_box_iou():
    """The box is right and the mask covers half of its object; the loss is lowest at the score of that quality."""
    criterion = SetCriterion(tiny_mask_rtdetr_config())
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 8:24, 8:24] = True
    target = Target(torch.tensor([2]), torch.tensor([[0.5, 0.5, 0.5, 0.5]]), mask)
    features = torch.full((1, 1, 8, 8), -9.0)
    features[:, :, 2:6, 2:4] = 9.0
    logits = torch.full((1, 1, 5), -20.0)
    logits[..., 2] = 0.0  # a probability of 0.5
    answer = Prediction(logits.requires_grad_(), target.boxes_cxcywh[None], torch.ones(1, 1, 1), features)
    other = Prediction(
        logits.detach().clone().requires_grad_(), answer.boxes_cxcywh, answer.mask_embeddings, features
    )
    losses = criterion(ModelOutput([other, answer]), [target])
    last, before = (
        torch.autograd.grad(losses[name], p.class_logits)[0][0, 0, 2]
        for name, p in (("loss_vfl", answer), ("loss_vfl_aux_0", other))
    )
    # weight * quality * (probability - quality)
    assert last.item() == pytest.approx(0.0, abs=0.05)
    assert before.item() == pytest.approx(4 * 1.0 * (0.5 - 1.0), abs=0.05)


def test_mask_quality_everywhere_reaches_the_layers_before_the_last():
    options = ("MODEL.LOSS.QUALITY", "mask", "MODEL.LOSS.QUALITY_EVERYWHERE")
    inputs = [training_input(3)]
    losses = []
    for everywhere in (False, True):
        torch.manual_seed(1)
        losses.append(tiny_model(*options, everywhere)(inputs))
    differing = {name for name in losses[0] if not torch.equal(losses[0][name], losses[1][name])}
    assert differing == {"loss_vfl_aux_0", "loss_vfl_aux_1", "loss_vfl_dn_0", "loss_vfl_dn_1"}


def test_a_class_loss_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="CLASS_LOSS must be one of varifocal, matchability, got 'focal'"):
        tiny_model("MODEL.LOSS.CLASS_LOSS", "focal")

import pytest
import torch

from insta_rtdetr.modeling.head import BoxPrior
from insta_rtdetr.structures import Prediction
from tests.tiny import tiny_model, training_input

BOXES = torch.tensor([[[0.5, 0.5, 0.5, 0.25], [0.25, 0.75, 0.1, 0.2]]])


def prior_logits(prior, boxes, embeddings=None, features=None):
    features = torch.zeros(1, 3, 32, 64) if features is None else features
    embeddings = torch.zeros(1, boxes.shape[1], 3) if embeddings is None else embeddings
    extended, biases = prior(embeddings, None, boxes)
    return Prediction(torch.zeros(1, 2, 1), boxes, extended, prior.extend_features(features), biases).mask_logits


def test_a_mask_starts_as_the_ellipse_in_its_box():
    logits = prior_logits(BoxPrior(strength=2.0), BOXES)[0]
    y, x = torch.meshgrid((torch.arange(32) + 0.5) / 32, (torch.arange(64) + 0.5) / 64, indexing="ij")
    for logit, (cx, cy, width, height) in zip(logits, BOXES[0], strict=True):
        wanted = 2 * (1 - ((x - cx) / (width / 2)) ** 2 - ((y - cy) / (height / 2)) ** 2)
        torch.testing.assert_close(logit, wanted, atol=1e-3, rtol=1e-4)
        assert logit.max() > 1.5 and logit.min() < -15


def test_features_and_embeddings_still_speak():
    generator = torch.Generator().manual_seed(0)
    features, embeddings = torch.randn(1, 3, 32, 64, generator=generator), torch.randn(1, 2, 3, generator=generator)
    prior = BoxPrior()
    spoken = prior_logits(prior, BOXES, embeddings, features) - prior_logits(prior, BOXES)
    torch.testing.assert_close(spoken, (embeddings @ features.flatten(2)).unflatten(2, (32, 64)), atol=1e-3, rtol=1e-4)


def test_masks_teach_the_strength_and_not_the_boxes():
    prior, boxes = BoxPrior(), BOXES.clone().requires_grad_()
    prior_logits(prior, boxes).sum().backward()
    assert prior.strength.grad != 0 and boxes.grad is None


def test_an_empty_box_makes_no_nan():
    assert prior_logits(BoxPrior(), torch.zeros(1, 2, 4)).isfinite().all()


def test_mixed_precision_does_not_reach_the_prior():
    prior = BoxPrior()
    full = prior_logits(prior, BOXES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = prior_logits(prior, BOXES)
    torch.testing.assert_close(mixed, full)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_trains_with_it_and_folding_changes_nothing(seed):
    model = tiny_model("MODEL.MASK_HEAD.BOX_PRIOR", True, seed=seed)
    losses = model([training_input(3)])
    sum(losses.values()).backward()
    assert model.decoder.box_prior.strength.grad.isfinite()
    model.double().eval()
    image = [{"image": training_input(3)["image"]}]
    model.fuse_on_eval = False
    plain = model.forward_raw(image)["mask_logits"]
    torch.testing.assert_close(model.fuse().forward_raw(image)["mask_logits"], plain, atol=1e-6, rtol=1e-6)

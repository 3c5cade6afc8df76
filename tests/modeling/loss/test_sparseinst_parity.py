"""SparseInst's matches, losses and gradients equal those that the original computes from the same network outputs.

sparse_inst_losses.npz was made by tests/parity/make_sparseinst_reference.py.
"""

import pytest
import torch

from insta_rtdetr.modeling.loss import InstanceActivationCriterion
from insta_rtdetr.structures import ModelOutput, Prediction, Target
from tests.parity.reference import reference_outputs
from tests.tiny import tiny_sparseinst_config


@pytest.fixture(scope="module")
def reference():
    return {key: torch.as_tensor(value) for key, value in reference_outputs("sparse_inst_losses").items()}


@pytest.fixture(scope="module")
def criterion():
    return InstanceActivationCriterion(tiny_sparseinst_config("MODEL.NUM_CLASSES", 80))


@pytest.fixture(scope="module")
def targets(reference):
    boxes = torch.zeros(0, 4)  # Nothing depends on them.
    return [Target(reference[f"target{i}/labels"], boxes, reference[f"target{i}/masks"]) for i in range(2)]


@pytest.fixture
def outputs(reference):
    """What the original's network gave: class logits (B, Q, K), masks (B, Q, h, w), objectness (B, Q, 1)."""
    names = ("pred_logits", "pred_masks", "pred_scores")
    return {name: reference[name].double().requires_grad_() for name in names}


def prediction(outputs):
    """The features are the masks of all queries, of which each query picks its own."""
    batch, num_queries = outputs["pred_masks"].shape[:2]
    own = torch.eye(num_queries, dtype=torch.float64).expand(batch, -1, -1)
    return Prediction(
        outputs["pred_logits"],
        mask_embeddings=own,
        mask_features=outputs["pred_masks"],
        objectness_logits=outputs["pred_scores"][..., 0],
    )


def test_matches_equal_the_originals(reference, criterion, targets, outputs):
    (match,) = criterion.matcher([prediction(outputs)], targets)
    for image in range(2):
        of_image = match.image == image
        assert match.query[of_image].tolist() == reference[f"match/{image}/query"].tolist()
        assert match.object[of_image].tolist() == reference[f"match/{image}/target"].tolist()


def test_losses_and_their_gradients_equal_the_originals(reference, criterion, targets, outputs):
    losses = criterion(ModelOutput([prediction(outputs)]), targets)
    expected = {key.removeprefix("loss/"): value for key, value in reference.items() if key.startswith("loss/")}
    assert set(losses) == set(expected) and len(losses) == 4
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-6), name
    gradients = torch.autograd.grad(sum(losses.values()), list(outputs.values()))
    for name, gradient in zip(outputs, gradients, strict=True):
        torch.testing.assert_close(gradient.float(), reference[f"gradient/{name}"], rtol=1e-4, atol=1e-8, msg=name)

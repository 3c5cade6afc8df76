import pytest
import torch
from torchvision.ops import batched_nms

from insta_rtdetr.layers import suppression
from insta_rtdetr.layers.suppression import suppress


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    low, size = torch.rand(2, count, 2, dtype=torch.float64, generator=generator)
    classes = torch.randint(3, (count,), generator=generator)
    return torch.cat([low, low + 0.3 + size], dim=1), classes


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_what_is_left_equals_that_of_suppression_one_by_one(threshold):
    images = [random_boxes(200, seed) for seed in range(3)]
    boxes, classes = (torch.stack(values) for values in zip(*images))
    for i, is_left in enumerate(suppress(boxes, classes, threshold)):
        scores = torch.linspace(1, 0, 200, dtype=torch.float64)
        expected = batched_nms(boxes[i], scores, classes[i], threshold).sort().values
        assert is_left.nonzero()[:, 0].tolist() == expected.tolist() and len(expected) < 200


def test_too_few_rounds_leave_more_than_they_should_and_nothing_less(monkeypatch):
    """Each of these boxes overlaps the next one, so that every second one is left."""
    starts = 0.3 * torch.arange(80, dtype=torch.float64)
    boxes = torch.stack([starts, starts * 0, starts + 1, starts * 0 + 1], dim=1)[None]
    classes = torch.zeros(1, 80, dtype=torch.long)
    one_by_one = [i % 2 == 0 for i in range(80)]
    found = suppress(boxes, classes, 0.5)[0].tolist()
    assert found != one_by_one and all(found[i] for i in range(0, 80, 2))
    monkeypatch.setattr(suppression, "ROUNDS", 80)
    assert suppress(boxes, classes, 0.5)[0].tolist() == one_by_one

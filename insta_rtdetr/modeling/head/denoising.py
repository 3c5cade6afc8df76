"""Denoising queries: noised copies of the targets as extra queries in training.

Shapes: B images, T the largest number of objects in an image of the batch, G groups, C channels.
Source: DN-DETR, https://arxiv.org/abs/2203.01305; with masks as in Mask DINO, https://arxiv.org/abs/2206.02777
"""

import torch
from torch import Tensor, nn

from ...layers.boxes import inverse_sigmoid
from ...structures import NoisedQueries, Target


class Denoising(nn.Module):
    """Makes denoising queries from embedded noised labels and noised boxes."""

    def __init__(
        self, dim: int, num_classes: int, num_queries: int, label_noise: float, box_noise: float,
        contrastive: bool = False,
    ):  # fmt: skip
        """Build the label embedding.

        Args:
            dim: width of a query.
            num_classes: number of classes.
            num_queries: number of denoising queries, which the groups share; there is at least one group, even if it
                needs more.
            label_noise: probability that a label is replaced by a random one.
            box_noise: largest shift of a centre in units of half a box side, and largest change of a side in sides.
            contrastive: whether each group has a second copy of the objects with one to two times that noise, which is
                trained as background.
        """
        super().__init__()
        self.num_classes, self.num_queries = num_classes, num_queries
        self.label_noise, self.box_noise, self.contrastive = label_noise, box_noise, contrastive
        self.label_embedding = nn.Embedding(num_classes + 1, dim, padding_idx=num_classes)

    def forward(self, targets: list[Target], num_matching_queries: int) -> NoisedQueries:
        """Make the denoising queries.

        A batch without objects gets one padded query, so that every process of a distributed run uses the same
        parameters.

        Args:
            targets: objects of each image.
            num_matching_queries: number of the other queries, for the attention mask.

        Returns:
            G * T queries of each image.  Query t of each group belongs to object t; the queries after an image's last
            object are padded with zeros.  Contrastive groups have T more queries, which belong to no object.
        """
        largest = max(1, max(len(target) for target in targets))
        copies = 2 if self.contrastive else 1
        groups = max(1, self.num_queries // (copies * largest)) if any(map(len, targets)) else 1
        classes, boxes, is_real = (
            values.repeat(1, groups * copies, *[1] * (values.ndim - 2))
            for values in _pad(targets, largest, self.num_classes)
        )
        content = self.label_embedding(self._noise_labels(classes)) * is_real[..., None]
        logits = inverse_sigmoid(self._noise_boxes(boxes, self._is_second_copy(largest, boxes))) * is_real[..., None]
        mask = attention_mask(groups, copies * largest, num_matching_queries, boxes.device)
        return NoisedQueries(content, logits, mask, groups)

    def _noise_labels(self, classes: Tensor) -> Tensor:
        is_flipped = torch.rand(classes.shape, device=classes.device) < self.label_noise
        return torch.where(is_flipped, torch.randint_like(classes, self.num_classes), classes)

    def _is_second_copy(self, num_objects: int, boxes: Tensor) -> Tensor | None:
        """Return which of N queries with boxes (B, N, 4) are second copies: (N,), or None if not contrastive."""
        slots = torch.arange(boxes.shape[1], device=boxes.device)
        return slots // num_objects % 2 == 1 if self.contrastive else None

    def _noise_boxes(self, boxes: Tensor, is_far: Tensor | None = None) -> Tensor:
        """Change centres and sides of boxes (B, N, 4) by up to `box_noise`, or 1 to 2 times it where is_far (N,)."""
        reach = torch.cat([boxes[..., 2:] / 2, boxes[..., 2:]], dim=-1)
        noise = torch.rand_like(boxes) * 2 - 1
        if is_far is not None:
            noise = noise + noise.sign() * is_far.to(noise)[:, None]
        return (boxes + noise * reach * self.box_noise).clamp(0, 1)


def _pad(targets: list[Target], size: int, padding_class: int) -> tuple[Tensor, Tensor, Tensor]:
    boxes = targets[0].boxes_cxcywh.new_zeros(len(targets), size, 4)
    classes = torch.full(boxes.shape[:2], padding_class, device=boxes.device)
    is_real = torch.zeros_like(classes, dtype=torch.bool)
    for i, target in enumerate(targets):
        classes[i, : len(target)] = target.classes
        boxes[i, : len(target)] = target.boxes_cxcywh
        is_real[i, : len(target)] = True
    return classes, boxes, is_real


def attention_mask(groups: int, group_size: int, num_matching_queries: int, device: torch.device) -> Tensor:
    """Return the mask (N + Q, N + Q), N = groups * group_size, which is True where a query (row) must not attend.

    Groups do not see each other, and the Q matching queries do not see the groups.  Groups see the matching queries.
    """
    group = torch.arange(groups, device=device).repeat_interleave(group_size)
    group = torch.cat([group, group.new_full((num_matching_queries,), -1)])
    is_matching = group == -1
    return (group[:, None] != group[None]) & ~is_matching[None]

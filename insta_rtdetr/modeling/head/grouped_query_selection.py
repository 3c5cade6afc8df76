"""Query selection in groups: boxes come from the positions with the highest class scores, contents are learned.

Shapes: B images, S positions of all levels, G groups, Q queries of a group, K classes, C channels.
Source: LW-DETR, https://arxiv.org/abs/2406.03459; Group DETR, https://arxiv.org/abs/2207.13085
"""

import torch
from torch import Tensor, nn

from ...layers.boxes import shift_and_scale
from ...structures import GroupedQueries, Memory
from .query_selection import QuerySelection, anchor_boxes


class GroupedQuerySelection(nn.Module):
    """Selects the queries of each group with heads of its own.  Only the first group is used in eval mode."""

    def __init__(
        self, dim: int, num_classes: int, num_queries: int, anchor_sizes: tuple[float, ...], num_groups: int
    ):
        """Build the heads and the learned contents.

        Args:
            dim: width of a query.
            num_classes: number of classes.
            num_queries: queries of a group.
            anchor_sizes: side of each level's anchors as a fraction of the image.
            num_groups: groups in training.

        Raises:
            ValueError: the number of queries or of groups is not positive.
        """
        super().__init__()
        if num_groups < 1:
            raise ValueError(f"MODEL.DECODER.NUM_GROUPS must be at least 1, got {num_groups}.")
        self.num_queries, self.anchor_sizes = num_queries, tuple(anchor_sizes)
        self.groups = nn.ModuleList(
            QuerySelection(dim, num_classes, num_queries=num_queries, anchor_sizes=anchor_sizes)
            for _ in range(num_groups)
        )
        self.content = nn.Embedding(num_groups * num_queries, dim)
        self.box_deltas = nn.Embedding(num_groups * num_queries, 4)
        nn.init.zeros_(self.box_deltas.weight)

    def forward(self, memory: Memory) -> tuple[GroupedQueries, Tensor, Tensor, Tensor]:
        """Select the queries.

        Args:
            memory: the pyramid's tokens.

        Returns:
            the queries, whose boxes send no gradient to the encoder, and the embeddings (B, G * Q, C), class logits
            (B, G * Q, K) and boxes (B, G * Q, 4) of the selected positions.  If there are fewer positions than Q,
            there are fewer queries.
        """
        # Boxes are computed in at least float32.
        dtype = torch.promote_types(memory.tokens.dtype, torch.float32)
        anchors, is_usable = anchor_boxes(
            tuple(memory.level_sizes), self.anchor_sizes, memory.tokens.device, dtype
        )
        anchors, usable_tokens = anchors * is_usable, memory.tokens * is_usable
        running = self.groups if self.training else self.groups[:1]
        chosen = [group.choose(usable_tokens, group.class_head, memory.level_sizes) for group in running]
        found = torch.cat(
            [
                shift_and_scale(anchors[best], group.box_head(tokens))
                for group, (tokens, _, best) in zip(running, chosen, strict=True)
            ],
            dim=1,
        )
        num_found = chosen[0][2].shape[1]
        content, deltas = (
            learned.weight.unflatten(0, (-1, self.num_queries))[: len(running), :num_found].flatten(0, 1)
            for learned in (self.content, self.box_deltas)
        )
        boxes = shift_and_scale(found.detach(), deltas)
        queries = GroupedQueries(content.repeat(found.shape[0], 1, 1), boxes, len(running))
        tokens, class_logits = (torch.cat([group[i] for group in chosen], dim=1) for i in (0, 1))
        return queries, tokens, class_logits, found

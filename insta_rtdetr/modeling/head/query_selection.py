"""Query selection: the positions of the pyramid with the highest class scores become queries.

Shapes: S positions of all levels together, Q queries, K classes, C channels.
Source: RT-DETR, https://arxiv.org/abs/2304.08069, uncertainty-minimal query selection
"""

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.boxes import inverse_sigmoid, shift_and_scale
from ...layers.mlp import MLP
from ...layers.point_sampling import cell_centres
from ...layers.tokens import TokenLinear
from ...structures import Memory, Prediction, Queries

# Anchors whose centre or side is nearer than this to 0 or 1, as fractions of the image, are not used.
ANCHOR_MARGIN = 0.01
OBJECT_PRIOR = 0.01
# The first is subtracted from the score of a position that is no local maximum of its level, so that it ranks after all
# local maxima.  The second is subtracted from the score of a position next to a better one of another level, so that
# local maxima of this kind rank between the two.
NEIGHBOUR_PENALTY = 100.0
LEVEL_PENALTY = 50.0

EmbedMasks = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


class TokenSelection(nn.Module):
    """Scores every position and selects the best ones."""

    def __init__(
        self, dim: int, num_queries: int, anchor_sizes: tuple[float, ...], local_maxima: bool = False,
        across_levels: bool = False,
    ):  # fmt: skip
        """Build the projection of the tokens.

        Args:
            dim: width of a token and of a query.
            num_queries: number of positions that become queries.
            anchor_sizes: side of each level's anchors as a fraction of the image.
            local_maxima: whether positions next to a better one of their level rank after all others.
            across_levels: whether, besides, positions next to a better one of another level rank after those that are
                not; needs `local_maxima`.

        Raises:
            ValueError: `num_queries` is not positive.
        """
        super().__init__()
        if num_queries < 1:
            raise ValueError(f"MODEL.DECODER.NUM_QUERIES must be at least 1, got {num_queries}.")
        self.num_queries, self.anchor_sizes = num_queries, tuple(anchor_sizes)
        self.local_maxima, self.across_levels = local_maxima, across_levels
        self.token_projection = TokenLinear(dim, dim)
        self.token_norm = nn.LayerNorm(dim)
        nn.init.xavier_uniform_(self.token_projection.weight)

    def select(self, memory: Memory, class_head: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Select the positions with the highest class scores.

        Args:
            memory: the pyramid's tokens.
            class_head: module that maps tokens (B, S, C) to class logits (B, S, K).

        Returns:
            embeddings (B, Q, C), class logits (B, Q, K) and anchors (B, Q, 4), cxcywh before sigmoid, of the positions.
        """
        anchor_logits, is_usable = anchors(
            tuple(memory.level_sizes), self.anchor_sizes, memory.tokens.device, memory.tokens.dtype
        )
        tokens, class_logits, best = self.choose(
            memory.tokens * is_usable, class_head, memory.level_sizes
        )
        return tokens, class_logits, anchor_logits[best]

    def choose(
        self, tokens: Tensor, class_head: nn.Module, level_sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings (B, Q, C), class logits (B, Q, K) and indices (B, Q) of the best of S tokens (B, S, C)."""
        tokens = self.token_norm(self.token_projection(tokens))
        class_logits = class_head(tokens)
        num_queries = min(self.num_queries, tokens.shape[1])
        scores = class_logits.detach().amax(-1)
        if self.local_maxima:
            scores = penalise_neighbours(scores, level_sizes, self.across_levels)
        best = scores.topk(num_queries, dim=1).indices
        return take(tokens, best), take(class_logits, best), best

    def move_anchors(self, anchor_logits: Tensor, deltas: Tensor) -> Tensor:
        """Return the logits of the boxes that positions predict; all tensors are (B, N, 4)."""
        return deltas + anchor_logits

    def predict_dense(self, memory: Memory, class_head: nn.Module, box_head: nn.Module) -> Prediction:
        """Predict classes and boxes for all S positions, for the dense loss in training."""
        anchor_logits, is_usable = anchors(
            tuple(memory.level_sizes), self.anchor_sizes, memory.tokens.device, memory.tokens.dtype
        )
        tokens = self.token_norm(self.token_projection(memory.tokens * is_usable))
        return Prediction(class_head(tokens), self.move_anchors(anchor_logits, box_head(tokens)).sigmoid())


    def select_one_to_many(
        self, memory: Memory, class_head: nn.Module, box_head: nn.Module, num_queries: int
    ) -> Queries:
        """Make one-to-many queries for training from the positions with the highest scores, without any penalty."""
        anchor_logits, is_usable = anchors(
            tuple(memory.level_sizes), self.anchor_sizes, memory.tokens.device, memory.tokens.dtype
        )
        tokens = self.token_norm(self.token_projection(memory.tokens * is_usable))
        scores = class_head(tokens).detach().amax(-1)
        best = scores.topk(min(num_queries, tokens.shape[1]), dim=1).indices
        tokens = take(tokens, best)
        return Queries(tokens.detach(), self.move_anchors(anchor_logits[best], box_head(tokens)))


class QuerySelection(TokenSelection):
    """Makes a query from each selected position, with the box that the position predicts."""

    def __init__(self, dim: int, num_classes: int, relative_boxes: bool = False, **selection):
        """Build the heads.

        Args:
            dim: width of a token and of a query.
            num_classes: number of classes.
            relative_boxes: whether boxes are predicted in units of the anchors' sides instead of in logits.
            selection: more arguments of `TokenSelection`.
        """
        super().__init__(dim, **selection)
        self.relative_boxes = relative_boxes
        self.class_head = TokenLinear(dim, num_classes)
        self.box_head = MLP(dim, dim, 4, num_layers=3)
        init_class_head(self.class_head)
        init_box_head(self.box_head)

    def forward(
        self, memory: Memory, embed_masks: EmbedMasks | None = None, mask_features: Tensor | None = None
    ) -> tuple[Queries, Prediction]:
        """Select the queries.

        Args:
            memory: the pyramid's tokens.
            embed_masks: function of embeddings (B, Q, C) and boxes (B, Q, 4) that returns mask embeddings
                (B, Q, C_mask) and biases (B, Q) or None; None if the positions predict no masks.
            mask_features: (B, C_mask, h, w), for these mask embeddings.

        Returns:
            Q queries, whose content is detached, and the predictions of their positions.
        """
        tokens, class_logits, anchor_logits = self.select(memory, self.class_head)
        reference_logits = self.move_anchors(anchor_logits, self.box_head(tokens))
        boxes = reference_logits.sigmoid()
        queries = Queries(tokens.detach(), reference_logits)
        if embed_masks is None:
            return queries, Prediction(class_logits, boxes)
        embeddings, biases = embed_masks(tokens, boxes)
        return queries, Prediction(class_logits, boxes, embeddings, mask_features, biases)

    def move_anchors(self, anchor_logits: Tensor, deltas: Tensor) -> Tensor:
        """Return the logits of the boxes that positions predict; see `TokenSelection`."""
        if self.relative_boxes:
            return inverse_sigmoid(shift_and_scale(anchor_logits.sigmoid(), deltas))
        return super().move_anchors(anchor_logits, deltas)


def penalise_neighbours(scores: Tensor, level_sizes: list[tuple[int, int]], across_levels: bool = False) -> Tensor:
    """Subtract `NEIGHBOUR_PENALTY` from each score that one of the eight positions around it exceeds.

    An object that covers many positions then gets one or two queries of each level, which leaves the other queries to
    other objects.

    Args:
        scores: (B, S).
        level_sizes: (height, width) of each level.
        across_levels: whether `LEVEL_PENALTY` is subtracted from each score that a nearby one on another level exceeds.

    Returns:
        (B, S).

    Source: the local maxima of FastInst, https://arxiv.org/abs/2303.08594
    """
    levels = scores.split([height * width for height, width in level_sizes], dim=1)
    maps = [level.unflatten(1, size)[:, None] for level, size in zip(levels, level_sizes, strict=True)]
    best_around = [F.max_pool2d(level, 3, stride=1, padding=1) for level in maps]
    penalties = NEIGHBOUR_PENALTY * (scores < _join(best_around))
    if across_levels:
        best_near = [torch.stack([_best_near(other, own.shape[2:]) for other in maps]).amax(0) for own in maps]
        penalties = penalties + LEVEL_PENALTY * (scores < _join(best_near))
    return scores - penalties


def _join(maps: list[Tensor]) -> Tensor:
    """Flatten and join the maps (B, 1, h, w) of all levels: (B, S)."""
    return torch.cat([level.flatten(1) for level in maps], dim=1)


def _best_near(level: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a level's best score near each position of another level of this size: in 3 x 3 cells of the coarser one.

    Args:
        level: (B, 1, h, w).
        size: (height, width) of the other level.

    Returns:
        (B, 1, height, width).
    """
    ratio = level.shape[2] // size[0]
    if ratio > 1:
        level = F.max_pool2d(level, ratio)
    best = F.max_pool2d(level, 3, stride=1, padding=1)
    return best if ratio >= 1 else F.interpolate(best, size=size)


def take(values: Tensor, index: Tensor) -> Tensor:
    """Gather along the second axis: values (B, S, C) at the indices (B, Q) -> (B, Q, C)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def init_class_head(head: nn.Linear | nn.Conv2d) -> None:
    """Set the bias so that every output starts with the probability `OBJECT_PRIOR`."""
    nn.init.constant_(head.bias, -torch.tensor(1 / OBJECT_PRIOR - 1).log().item())


def init_box_head(head: MLP) -> None:
    """Set the last layer to zero so that the head starts by leaving the reference box unchanged."""
    nn.init.zeros_(head.layers[-1].weight)
    nn.init.zeros_(head.layers[-1].bias)


def check_anchors(sides: tuple[float, ...], num_levels: int) -> None:
    """Check that there is one anchor side for each level.

    Raises:
        ValueError: there is not.
    """
    if len(sides) != num_levels:
        raise ValueError(
            f"MODEL.DECODER.ANCHOR_SIZES has {len(sides)} values for {num_levels} levels; "
            "give one for each of MODEL.ENCODER.IN_FEATURES, and of MODEL.ENCODER.NUM_EXTRA_LEVELS."
        )


@lru_cache(maxsize=32)
def anchors(
    level_sizes: tuple[tuple[int, int], ...], sides: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the logits of `anchor_boxes` (S, 4), infinite where not usable, and (S, 1), 1 where usable, else 0.

    The result is cached.
    """
    with torch.inference_mode(False), torch.no_grad():
        boxes, usable = anchor_boxes(level_sizes, sides, torch.device("cpu"), torch.float32)
        logits = torch.where(usable, torch.log(boxes / (1 - boxes)), torch.inf)
        return logits.to(device, dtype), usable.to(device, dtype)


@lru_cache(maxsize=32)
def anchor_boxes(
    level_sizes: tuple[tuple[int, int], ...], sides: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return one anchor box, square in relative units, at the centre of every position.

    Args:
        level_sizes: (height, width) of each level.
        sides: side of each level's anchors as a fraction of the image.

    Returns:
        boxes (S, 4), cxcywh, and (S, 1), bool, True where centre and side are at least `ANCHOR_MARGIN` from 0 and 1.
        Both are cached.

    Raises:
        ValueError: there is not one side for each level.
    """
    check_anchors(sides, len(level_sizes))
    # A tensor made in inference mode could not take part in a later training step.
    with torch.inference_mode(False), torch.no_grad():
        boxes = torch.cat([_level_anchors(*size, side) for size, side in zip(level_sizes, sides, strict=True)])
        usable = ((boxes > ANCHOR_MARGIN) & (boxes < 1 - ANCHOR_MARGIN)).all(-1, keepdim=True)
        return boxes.to(device, dtype), usable.to(device)


def _level_anchors(height: int, width: int, side: float) -> Tensor:
    centres = cell_centres(height, width)
    return torch.cat([centres, torch.full_like(centres, side)], dim=1)

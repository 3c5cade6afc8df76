"""The positions of the pyramid that look most like an object become queries.

Shapes: S positions of all levels together, Q queries, K classes, C channels.
Source: uncertainty-minimal query selection of RT-DETR, https://arxiv.org/abs/2304.08069
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

# Anchors whose centre or side is nearer than this to 0 or 1 are not used; a fraction of the image.
ANCHOR_MARGIN = 0.01
OBJECT_PRIOR = 0.01
# Taken from the logit of a position next to a better one, so that it comes after all local maxima; and of a local
# maximum next to a better one of another level, so that it comes between the two.
NEIGHBOUR_HANDICAP = 100.0
LEVEL_HANDICAP = 50.0

EmbedMasks = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


class TokenSelection(nn.Module):
    """Scores every position and takes the best ones."""

    def __init__(
        self, dim: int, num_queries: int, anchor_sizes: tuple[float, ...], local_maxima: bool = False,
        across_levels: bool = False,
    ):  # fmt: skip
        """Build.

        Args:
            dim: width of a token and of a query.
            num_queries: positions that become queries.
            anchor_sizes: side of each level's anchors, a fraction of the image.
            local_maxima: whether positions next to a better one of their level come after all others.
            across_levels: whether those next to a better one of another level do, too.

        Raises:
            ValueError: no query.
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
        """Take the positions with the highest class score.

        Args:
            memory: (B, S, C) tokens.
            class_head: (B, S, C) -> (B, S, K).

        Returns:
            Their projected tokens (B, Q, C), class logits (B, Q, K) and anchors (B, Q, 4), cxcywh before sigmoid.
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
        """(B, S, C) -> embeddings (B, Q, C) and class logits (B, Q, K) of the best positions, and which (B, Q)."""
        tokens = self.token_norm(self.token_projection(tokens))
        class_logits = class_head(tokens)
        num_queries = min(self.num_queries, tokens.shape[1])
        scores = class_logits.detach().amax(-1)
        if self.local_maxima:
            scores = handicap_neighbours(scores, level_sizes, self.across_levels)
        best = scores.topk(num_queries, dim=1).indices
        return take(tokens, best), take(class_logits, best), best

    def move_anchors(self, anchor_logits: Tensor, deltas: Tensor) -> Tensor:
        """Logits of the boxes that positions predict; all (B, N, 4)."""
        return deltas + anchor_logits

    def predict_everywhere(self, memory: Memory, class_head: nn.Module, box_head: nn.Module) -> Prediction:
        """Classes and boxes of all S positions, of which `select` takes the best; for training."""
        anchor_logits, is_usable = anchors(
            tuple(memory.level_sizes), self.anchor_sizes, memory.tokens.device, memory.tokens.dtype
        )
        tokens = self.token_norm(self.token_projection(memory.tokens * is_usable))
        return Prediction(class_head(tokens), self.move_anchors(anchor_logits, box_head(tokens)).sigmoid())


    def select_crowd(self, memory: Memory, class_head: nn.Module, box_head: nn.Module, num_queries: int) -> Queries:
        """Queries from the positions of the highest scores, neighbours or not; for training."""
        anchor_logits, is_usable = anchors(
            tuple(memory.level_sizes), self.anchor_sizes, memory.tokens.device, memory.tokens.dtype
        )
        tokens = self.token_norm(self.token_projection(memory.tokens * is_usable))
        scores = class_head(tokens).detach().amax(-1)
        best = scores.topk(min(num_queries, tokens.shape[1]), dim=1).indices
        tokens = take(tokens, best)
        return Queries(tokens.detach(), self.move_anchors(anchor_logits[best], box_head(tokens)))


class QuerySelection(TokenSelection):
    """Starts a query from each of the best positions, with the box it predicts."""

    def __init__(self, dim: int, num_classes: int, relative_boxes: bool = False, **selection):
        """Build.

        Args:
            dim: width of a token and of a query.
            num_classes: number of classes.
            relative_boxes: whether anchors are moved in units of their sides, not in logits.
            selection: see `TokenSelection`.
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
        """Select.

        Args:
            memory: (B, S, C) tokens.
            embed_masks: tokens (B, Q, C) and their boxes -> mask embeddings (B, Q, C_mask) and biases (B, Q) or None,
                if the positions predict masks too.
            mask_features: (B, C_mask, h, w) that belong to them.

        Returns:
            Q queries (their content detached), and what their positions predict by themselves.
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
        """Logits of the boxes that positions predict; all (B, N, 4)."""
        if self.relative_boxes:
            return inverse_sigmoid(shift_and_scale(anchor_logits.sigmoid(), deltas))
        return super().move_anchors(anchor_logits, deltas)


def handicap_neighbours(scores: Tensor, level_sizes: list[tuple[int, int]], across_levels: bool = False) -> Tensor:
    """Scores (B, S), with `NEIGHBOUR_HANDICAP` taken from those that one of the eight positions around them exceeds.

    An object of many positions then gets one query or two of each level, and leaves the others to its neighbours.
    Source: the local maxima of FastInst, https://arxiv.org/abs/2303.08594

    Args:
        across_levels: whether `LEVEL_HANDICAP` is taken from those that one around them on another level exceeds.
    """
    levels = scores.split([height * width for height, width in level_sizes], dim=1)
    maps = [level.unflatten(1, size)[:, None] for level, size in zip(levels, level_sizes, strict=True)]
    best_around = [F.max_pool2d(level, 3, stride=1, padding=1) for level in maps]
    handicaps = NEIGHBOUR_HANDICAP * (scores < _join(best_around))
    if across_levels:
        best_near = [torch.stack([_best_near(other, own.shape[2:]) for other in maps]).amax(0) for own in maps]
        handicaps = handicaps + LEVEL_HANDICAP * (scores < _join(best_near))
    return scores - handicaps


def _join(maps: list[Tensor]) -> Tensor:
    """(B, 1, h, w) of each level -> (B, S)."""
    return torch.cat([level.flatten(1) for level in maps], dim=1)


def _best_near(level: Tensor, size: tuple[int, int]) -> Tensor:
    """The best score of a level (B, 1, h, w) near each position of another one of this size: 3 x 3 coarser cells."""
    ratio = level.shape[2] // size[0]
    if ratio > 1:
        level = F.max_pool2d(level, ratio)
    best = F.max_pool2d(level, 3, stride=1, padding=1)
    return best if ratio >= 1 else F.interpolate(best, size=size)


def take(values: Tensor, index: Tensor) -> Tensor:
    """(B, S, C) and (B, Q) -> (B, Q, C)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def init_class_head(head: nn.Linear | nn.Conv2d) -> None:
    """Start with a probability of `OBJECT_PRIOR` for every output."""
    nn.init.constant_(head.bias, -torch.tensor(1 / OBJECT_PRIOR - 1).log().item())


def init_box_head(head: MLP) -> None:
    """Start with the reference box unchanged."""
    nn.init.zeros_(head.layers[-1].weight)
    nn.init.zeros_(head.layers[-1].bias)


def check_anchors(sides: tuple[float, ...], num_levels: int) -> None:
    """Check the anchors' sides.

    Raises:
        ValueError: not one side for each level.
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
    """`anchor_boxes` before sigmoid: (S, 4), infinite where not usable, and (S, 1), 1 where usable, else 0.  Cached."""
    with torch.inference_mode(False), torch.no_grad():
        boxes, usable = anchor_boxes(level_sizes, sides, torch.device("cpu"), torch.float32)
        logits = torch.where(usable, torch.log(boxes / (1 - boxes)), torch.inf)
        return logits.to(device, dtype), usable.to(device, dtype)


@lru_cache(maxsize=32)
def anchor_boxes(
    level_sizes: tuple[tuple[int, int], ...], sides: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """One square (in relative units) anchor box at the centre of every position.

    Args:
        level_sizes: (height, width) of each level.
        sides: side of each level's anchors, a fraction of the image.

    Returns:
        (S, 4), cxcywh, and (S, 1), bool, whether it is far enough from the border of the image.  Cached.
    Raises:
        ValueError: not one side for each level.
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

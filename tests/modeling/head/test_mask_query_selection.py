import torch

from insta_rtdetr.modeling.head import MaskQuerySelection, PrototypeMaskHead, SharedHeadDecoder
from insta_rtdetr.modeling.head.mask_query_selection import boxes_of_masks
from insta_rtdetr.structures import Memory, Prediction

DIM = 8


def test_boxes_of_masks_by_hand_for_any_shape_of_the_map():
    features = torch.full((1, 2, 4, 8), -1.0)
    features[0, 0, 1:3, 2:7] = 1.0
    embeddings = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # the first mask is a rectangle, the second empty
    prediction = Prediction(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), embeddings, features)
    boxes = boxes_of_masks(prediction)
    torch.testing.assert_close(boxes[0, 0], torch.tensor([4.5 / 8, 2 / 4, 5 / 8, 2 / 4]))
    assert boxes[0, 1].tolist() == [0, 0, 0, 0]
    without_last = boxes_of_masks(prediction, last_cell=False)
    torch.testing.assert_close(without_last[0, 0], torch.tensor([4 / 8, 1.5 / 4, 4 / 8, 1 / 4]))
    assert without_last[0, 1].tolist() == [1, 1, 0, 0]


def test_queries_are_the_best_positions_and_start_around_their_masks():
    torch.manual_seed(0)
    selection = MaskQuerySelection(DIM, num_queries=4, anchor_sizes=(0.1, 0.2))
    decoder = SharedHeadDecoder(
        dim=DIM, num_classes=3, num_layers=1, eval_layers=0, num_heads=2, num_levels=2, num_points=2,
        feedforward_dim=8, dropout=0.0, mask_head=PrototypeMaskHead(DIM, 5, 6),
    )  # fmt: skip
    memory = Memory(torch.randn(2, 20, DIM), [(4, 4), (2, 2)])
    queries, prediction = selection(memory, torch.randn(2, 6, 4, 4), decoder)
    tokens = selection.token_norm(selection.token_projection(memory.tokens))
    best = decoder.class_head(tokens).amax(-1).topk(4, dim=1).indices
    torch.testing.assert_close(queries.content, tokens.gather(1, best[..., None].expand(-1, -1, DIM)))
    torch.testing.assert_close(prediction.class_logits, decoder.class_head(decoder.norm(queries.content)))
    torch.testing.assert_close(
        queries.reference_logits.sigmoid(), boxes_of_masks(prediction).clamp(1e-5, 1 - 1e-5), atol=1e-5, rtol=0
    )
    assert not queries.content.requires_grad and not queries.reference_logits.requires_grad
    assert prediction.boxes_cxcywh.requires_grad and prediction.mask_embeddings.requires_grad

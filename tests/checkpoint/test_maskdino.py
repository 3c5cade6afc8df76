"""Mask DINO's names, and its two orders of levels."""

import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.formats import name_format
from insta_rtdetr.checkpoint.maskdino import from_original, is_original
from insta_rtdetr.errors import CheckpointError
from tests.parity.maskdino_recipe import maskdino_weight_for
from tests.parity.reference import original_state_dict
from tests.tiny import tiny_maskdino

# Of the original's small model: the widths of the config it was made with.
SIZES = (
    "MODEL.ENCODER.NUM_LAYERS", 1, "MODEL.ENCODER.HIDDEN_DIM", 256, "MODEL.ENCODER.FEEDFORWARD_DIM", 1024,
    "MODEL.DECODER.NUM_LAYERS", 3, "MODEL.DECODER.FEEDFORWARD_DIM", 2048, "MODEL.MASK_HEAD.DIM", 256,
    "MODEL.RESNETS.NORM", "FrozenBN",
)  # fmt: skip
ENCODER = "sem_seg_head.pixel_decoder."
ATTENTION = "sem_seg_head.{}.layers.0.{}.attention_weights.bias"


@pytest.fixture(scope="module")
def state():
    """The original's state dict, on three levels, of which the encoder begins with the coarsest."""
    return original_state_dict("maskdino_training", "maskdino_training", maskdino_weight_for)


def test_a_published_file_gives_every_tensor_a_value_and_uses_all_of_its_own(state, tmp_path, caplog):
    assert is_original(state)
    assert name_format({"model": state}) == "Mask DINO's original code"
    torch.save({"model": state, "iteration": 368749}, tmp_path / "original.pth")
    model = tiny_maskdino(*SIZES)
    checkpointer = Checkpointer(model)
    checkpointer.load(str(tmp_path / "original.pth"))
    assert checkpointer.unloaded == set()
    assert not any("not in the checkpoint" in message or "not used" in message for message in caplog.messages)
    embedding = model.denoising.label_embedding.weight
    assert torch.equal(embedding[:-1], state["sem_seg_head.predictor.label_enc.weight"].float())
    assert not embedding[-1].any()


def renamed_levels(state):
    """What each level, finest first, has: its projection, its embedding, its rows in the encoder and in the decoder."""
    ours = from_original(state)
    num_levels = len(ours["encoder.level_embedding"])
    encoder, decoder = (
        ours[f"{part}.attention_weights.bias"].view(8, num_levels, 4)
        for part in ("encoder.layers.0.self_attn", "decoder.layers.0.cross_attn")
    )
    return [
        (ours[f"encoder.input_projections.{i}.bias"], ours["encoder.level_embedding"][i], encoder[:, i], decoder[:, i])
        for i in range(num_levels)
    ]


def original_levels(state, encoder_order, decoder_order):
    """The same of the original's, by the levels' numbers in its encoder and in its decoder."""
    num_levels = len(encoder_order)
    encoder = state[ATTENTION.format("pixel_decoder.transformer.encoder", "self_attn")].view(8, num_levels, 4)
    decoder = state[ATTENTION.format("predictor.decoder", "cross_attn")].view(8, num_levels, 4)
    embedding = state[f"{ENCODER}transformer.level_embed"]
    return [
        (state[f"{ENCODER}input_proj.{i}.0.bias"], embedding[i], encoder[:, i], decoder[:, j])
        for i, j in zip(encoder_order, decoder_order, strict=True)
    ]


def test_levels_are_put_from_the_finest_to_the_coarsest_from_either_order(state):
    coarsest_first = original_levels(state, (2, 1, 0), (0, 1, 2))
    kernels = {name: f"{ENCODER}input_proj.{name}.0.weight" for name in (0, 2)}
    other = state | {kernels[0]: state[kernels[2]], kernels[2]: state[kernels[0]]}
    finest_first = original_levels(other, (0, 1, 2), (2, 1, 0))
    for found, expected in ((renamed_levels(state), coarsest_first), (renamed_levels(other), finest_first)):
        for ours, theirs in zip(found, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_file_of_another_number_of_levels_is_refused(state, tmp_path):
    torch.save({"model": state}, tmp_path / "original.pth")
    model = tiny_maskdino(
        *SIZES, "MODEL.ENCODER.NUM_EXTRA_LEVELS", 1, "MODEL.DECODER.ANCHOR_SIZES", (0.4, 0.2, 0.1, 0.05)
    )
    with pytest.raises(CheckpointError, match=r"another architecture: \d+ tensors have another shape"):
        Checkpointer(model).load(str(tmp_path / "original.pth"))

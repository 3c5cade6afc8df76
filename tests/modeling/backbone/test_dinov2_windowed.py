import pytest
import torch
from timm.layers import resample_abs_pos_embed

from tests.tiny import tiny_rfdetr_seg

# The blocks that attend over the whole image are those after outputs 2 and 4 of the tiny model.
GLOBAL_BLOCKS = {2, 4}


@pytest.mark.parametrize("size", [(48, 48), (48, 72)])
def test_a_block_sees_its_window_unless_it_sees_everything(size):
    """Compare with timm's own blocks, run on windows that are cut out by hand."""
    backbone = tiny_rfdetr_seg().double().backbone
    body, images = backbone.body, torch.randn(2, 3, *size, dtype=torch.float64)
    found = backbone(images)
    assert {name: spec.stride for name, spec in backbone.output_shape().items()} == dict.fromkeys(found, 12)

    patches = body.patch_embed(images)
    height, width = patches.shape[1:3]
    codes = resample_abs_pos_embed(body.pos_embed, [height, width])
    patches = patches + codes[:, 1:].view(1, height, width, -1)
    windows = [
        (slice(i * height // 2, (i + 1) * height // 2), slice(j * width // 2, (j + 1) * width // 2))
        for i in range(2)
        for j in range(2)
    ]
    first = (body.cls_token + codes[:, :1]).expand(2, -1, -1)
    tokens = [torch.cat([first, patches[:, rows, columns].flatten(1, 2)], dim=1) for rows, columns in windows]
    for i, block in enumerate(body.blocks):
        if i in GLOBAL_BLOCKS:
            tokens = list(block(torch.cat(tokens, dim=1)).chunk(4, dim=1))
        else:
            tokens = [block(window) for window in tokens]
        if i + 1 in (2, 4, 6):
            expected = torch.zeros(2, height, width, 32, dtype=torch.float64)
            for (rows, columns), window in zip(windows, tokens, strict=True):
                expected[:, rows, columns] = body.norm(window)[:, 1:].unflatten(1, (height // 2, -1))
            torch.testing.assert_close(found[f"block{i + 1}"], expected.permute(0, 3, 1, 2))


def test_an_input_that_cannot_be_cut_into_windows_is_refused():
    with pytest.raises(ValueError, match=r"sides must be multiples of 24.*INPUT.MULTI_SCALE"):
        tiny_rfdetr_seg().backbone(torch.zeros(1, 3, 48, 60))

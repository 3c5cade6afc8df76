"""The 24 coins of scikit-image's photograph `skimage.data.coins()`, and the number of them that masks find."""

import numpy as np

# Centre (y, x) and area of each coin, in pixels of the 303 x 384 photograph, from a watershed segmentation that was
# checked by eye.
COINS = (
    (54, 44, 1355), (56, 100, 1103), (51, 155, 1653), (51, 215, 1622), (52, 276, 1225), (44, 335, 2604),
    (124, 45, 1298), (126, 102, 1111), (127, 154, 1077), (124, 205, 1209), (119, 271, 1920), (125, 336, 1175),
    (197, 44, 1124), (196, 102, 1471), (198, 154, 1152), (193, 212, 1737), (194, 274, 1496), (187, 347, 3141),
    (260, 46, 2461), (266, 114, 1416), (261, 172, 2350), (263, 244, 1765), (263, 301, 1993), (268, 358, 1485),
)  # fmt: skip


def count_coins(masks: np.ndarray, min_iou: float = 0.5) -> int:
    """Count the coins whose disc is covered by a mask with an IoU above `min_iou`.

    The discs do not touch one another, so a mask counts for one coin, and a coin with two masks counts once.

    Args:
        masks: (N, 303, 384), bool.
        min_iou: the IoU that is to be exceeded.
    """
    if len(masks) == 0:
        return 0
    discs = coin_discs(masks.shape[1:]).reshape(len(COINS), -1).astype(np.float32)
    pixels = masks.reshape(len(masks), -1).astype(np.float32)
    overlap = discs @ pixels.T  # (24, N)
    union = discs.sum(axis=1)[:, None] + pixels.sum(axis=1) - overlap
    return int((overlap > min_iou * union).any(axis=1).sum())


def coin_discs(size_hw: tuple[int, int]) -> np.ndarray:
    """Draw each coin as a disc: (24, height, width), bool."""
    y, x, area = np.array(COINS, dtype=np.float64).T[:, :, None, None]
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= area / np.pi

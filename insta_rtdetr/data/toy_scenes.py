"""Drawing the toy dataset's images: random scenes of coins, cells and shapes, with the visible mask of each object.

Everything is drawn with numpy from one random generator, so that a seed gives the same bytes on every run.  Images are
float32 (H, W, 3) in [0, 1] until the end; lengths are pixels.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

CATEGORIES = ("coin", "cell", "triangle", "square")
# Objects of which a smaller fraction of the area, or fewer pixels, can be seen are not annotated.
MIN_VISIBLE_FRACTION = 0.15
MIN_VISIBLE_PIXELS = 16


@dataclass
class Sprite:
    """An object before it is drawn into the scene.

    Attributes:
        category: index into CATEGORIES.
        top, left: position of the patch's corner in the scene; may be negative.
        alpha: (h, w) in [0, 1], opacity of each pixel; 0.5 is the object's edge.
        color: (h, w, 3) in [0, 1].
        is_crowd: whether it is part of the scene's one crowd region instead of an object of its own.
    """

    category: int
    top: int
    left: int
    alpha: np.ndarray
    color: np.ndarray
    is_crowd: bool = False


@dataclass
class SceneObject:
    """An annotated object of a scene.

    Attributes:
        category: index into CATEGORIES.
        mask: (H, W) bool, its visible pixels.
        is_crowd: whether the mask is a region of many objects.
    """

    category: int
    mask: np.ndarray
    is_crowd: bool


def draw_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[SceneObject]]:
    """Draw one random scene.

    Args:
        rng: source of all randomness.
        size: typical side of the image; each side is drawn from 0.8 to 1.2 of it.

    Returns:
        the image, uint8 (H, W, 3) RGB, and its visible objects, of which there may be none.
    """
    draw = rng.choice([_coin_photograph, _cell_microscopy, _mixed_scene], p=[0.35, 0.15, 0.5])
    image, sprites, is_grey = draw(rng, size)
    objects = _compose(image, sprites, shadow=float(rng.uniform(0.0, 0.5)))
    return _photograph(rng, image, is_grey), objects


def smooth_noise(rng: np.random.Generator, height: int, width: int, grain: float) -> np.ndarray:
    """Draw noise (height, width), float32, of about zero mean and unit deviation, with blobs `grain` pixels wide."""
    grid = rng.standard_normal((int(height / grain) + 3, int(width / grain) + 3), dtype=np.float32)
    noise = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(noise) * np.float32(1.4)


# The three kinds of scene.  Each function returns the background, the sprites from back to front, and whether the image
# is grey.


def _coin_photograph(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[Sprite], bool]:
    """Draw a grey photograph of worn old coins, in loose rows or scattered, on an unevenly lit cloth."""
    height, width = _image_size(rng, size)
    image = np.repeat(_uneven_cloth(rng, height, width)[..., None], 3, axis=2)
    radius = rng.uniform(0.055, 0.1) * size
    if rng.random() < 0.65:
        centres = _loose_rows(rng, height, width, pitch=radius * rng.uniform(2.3, 3.4))
    else:
        centres = _strewn(rng, height, width, int(rng.integers(4, 28)), distance=radius * rng.uniform(1.4, 2.6))
    brightness = rng.uniform(0.4, 0.7)
    sprites = [
        _coin(rng, y, x, radius * rng.choice([1, 1, 1, 1.35]) * rng.uniform(0.8, 1.1), np.full(3, brightness))
        for y, x in centres
    ]
    return image, sprites, True


def _cell_microscopy(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[Sprite], bool]:
    """Draw bright cells on dark or dark ones on bright, sometimes with a patch of tiny cells that counts as a crowd."""
    height, width = _image_size(rng, size)
    is_fluorescent = rng.random() < 0.5
    background = rng.uniform(0.02, 0.2, 3) if is_fluorescent else rng.uniform(0.65, 0.95, 3)
    image = _textured(rng, height, width, background, strength=rng.uniform(0.01, 0.05))
    color = rng.uniform(0.4, 0.9, 3) if is_fluorescent else rng.uniform(0.15, 0.5, 3)
    radius = rng.uniform(0.025, 0.09) * size
    sprites = []
    if rng.random() < 0.15:
        sprites += _crowd_of_cells(rng, height, width, color)
    for y, x in _strewn(rng, height, width, int(rng.integers(3, 40)), distance=radius * rng.uniform(0.9, 2.2)):
        sprites.append(_cell(rng, y, x, radius * rng.uniform(0.7, 1.3), color))
    return image, sprites, bool(rng.random() < 0.4)


def _mixed_scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[Sprite], bool]:
    """Draw overlapping objects of all classes and many sizes, or none, on a coloured and textured background."""
    height, width = _image_size(rng, size)
    image = _textured(rng, height, width, rng.uniform(0.1, 0.9, 3), strength=rng.uniform(0.02, 0.15))
    sprites = []
    for y, x in _strewn(rng, height, width, int(rng.integers(0, 16)), distance=0.06 * size):
        radius = float(np.exp(rng.uniform(np.log(0.03), np.log(0.2)))) * size
        color = _contrasting_color(rng, image, y, x)
        category = int(rng.choice(len(CATEGORIES), p=[0.15, 0.15, 0.35, 0.35]))
        if category == 0:
            metal = np.array([[0.75, 0.6, 0.25], [0.7, 0.42, 0.25], [0.65, 0.65, 0.65]])[rng.integers(3)]
            sprites.append(_coin(rng, y, x, radius, metal * rng.uniform(0.6, 1.25)))
        elif category == 1:
            sprites.append(_cell(rng, y, x, radius, color))
        else:
            sprites.append(_polygon(rng, y, x, radius, color, sides=category + 1))
    return image, sprites, bool(rng.random() < 0.3)


# Positions of the objects.


def _image_size(rng: np.random.Generator, size: int) -> tuple[int, int]:
    return int(size * rng.uniform(0.8, 1.2)), int(size * rng.uniform(0.8, 1.2))


def _loose_rows(rng: np.random.Generator, height: int, width: int, pitch: float) -> list[tuple[float, float]]:
    margin = pitch * rng.uniform(0.4, 0.65)
    ys = np.linspace(margin, height - margin, max(1, int((height - 2 * margin) / (pitch * 1.1)) + 1))
    xs = np.linspace(margin, width - margin, max(1, int((width - 2 * margin) / pitch) + 1))
    jitter = 0.09 * pitch
    return [
        (float(y + rng.normal(0, jitter)), float(x + rng.normal(0, jitter)))
        for y in ys
        for x in xs
        if rng.random() < 0.93
    ]


def _strewn(
    rng: np.random.Generator, height: int, width: int, count: int, distance: float
) -> list[tuple[float, float]]:
    """Draw up to `count` random positions (y, x) that lie at least `distance` pixels from one another."""
    places: list[tuple[float, float]] = []
    for y, x in rng.uniform(0, 1, (count * 4, 2)) * (height, width):
        if len(places) == count:
            break
        if all((y - other_y) ** 2 + (x - other_x) ** 2 >= distance**2 for other_y, other_x in places):
            places.append((float(y), float(x)))
    return places


# Backgrounds.


def _uneven_cloth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw grey cloth (H, W), dark on one side and, on the other, up to almost as bright as a coin."""
    dark, bright = rng.uniform(0.06, 0.25), rng.uniform(0.2, 0.55)
    ramp = _ramp(rng, height, width) ** rng.uniform(0.7, 2.0)
    cloth = dark + (bright - dark) * ramp + 0.05 * smooth_noise(rng, height, width, 0.5 * height)
    cloth += rng.uniform(0.0, 0.03) * smooth_noise(rng, height, width, rng.uniform(2, 12))
    if rng.random() < 0.3:  # The cloth ends, and white paper is visible in one corner.
        cloth[_ramp(rng, height, width) > rng.uniform(0.92, 0.99)] = rng.uniform(0.6, 0.95)
    return cloth


def _textured(rng: np.random.Generator, height: int, width: int, color: np.ndarray, strength: float) -> np.ndarray:
    """Draw a background (H, W, 3) of one colour with a gradient, blobs and grain."""
    light = strength * smooth_noise(rng, height, width, rng.uniform(3, 30))
    light += strength * smooth_noise(rng, height, width, 0.4 * height)
    light += rng.uniform(-0.3, 0.3) * (_ramp(rng, height, width) - 0.5)
    if rng.random() < 0.2:  # Some backgrounds have stripes.
        light += strength * np.sign(np.sin(_ramp(rng, height, width) * rng.uniform(20, 120))).astype(np.float32)
    return color.astype(np.float32) + light[..., None]


def _ramp(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a gradient (H, W) from 0 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    ramp = ys * np.float32(np.sin(angle) / height) + xs * np.float32(np.cos(angle) / width)
    return (ramp - ramp.min()) / (ramp.max() - ramp.min())


def _contrasting_color(rng: np.random.Generator, image: np.ndarray, y: float, x: float) -> np.ndarray:
    """Draw a colour that differs from the background at (y, x).

    A colour too close to the background is replaced by a lighter shade of a dark background, or a darker one of a
    bright background.
    """
    behind = image[int(np.clip(y, 0, len(image) - 1)), int(np.clip(x, 0, image.shape[1] - 1))]
    color = rng.uniform(0.05, 0.95, 3)
    return color if np.abs(color - behind).max() > 0.25 else np.where(behind > 0.5, behind - 0.4, behind + 0.4)


# Objects.


def _patch(y: float, x: float, reach: float) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Return a square patch around (y, x): its corner (top, left), and its pixels' offsets (dy, dx) from that point."""
    side = int(2 * reach) + 5
    top, left = int(y - side / 2), int(x - side / 2)
    rows, columns = np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32)
    return top, left, (rows + top - y)[:, None], (columns + left - x)[None, :]


def _outline(rng: np.random.Generator, angle: np.ndarray, wobble: float) -> np.ndarray:
    """Return the radius of a random, irregular closed curve at each angle, as a factor around 1."""
    factor = np.ones_like(angle)
    for frequency in range(2, 7):
        amplitude = wobble * rng.normal() / frequency
        factor += np.float32(amplitude) * np.cos(frequency * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    return factor


def _coin(rng: np.random.Generator, y: float, x: float, radius: float, color: np.ndarray) -> Sprite:
    """Draw a struck coin: an uneven disc whose relief (figures and rim) is lit from one side."""
    radius = max(radius, 4.0)
    top, left, dy, dx = _patch(y, x, radius * 1.15)
    rho = np.hypot(dy, dx) / (radius * _outline(rng, np.arctan2(dy, dx), wobble=rng.uniform(0.0, 0.05)))
    side = len(rho)
    relief = _relief(rng, dy, dx, rho, radius)
    slope_y, slope_x = np.gradient(relief)
    # Light falls from one side.  Grooves collect dirt, so steep places look dark whichever way they face.
    light_angle = rng.uniform(0, 2 * np.pi)
    facing = (slope_y * np.sin(light_angle) + slope_x * np.cos(light_angle)) * radius / 20
    dirt = np.hypot(slope_y, slope_x) * radius / 20
    tone = 1.1 + rng.uniform(0.1, 0.5) * np.tanh(2.0 * facing) - rng.uniform(0.1, 0.6) * np.tanh(1.5 * dirt)
    tone += rng.uniform(0.03, 0.12) * smooth_noise(rng, side, side, max(2.0, 0.5 * radius))
    tone *= 1 - rng.uniform(0.0, 0.5) * np.clip((rho - 0.85) / 0.15, 0, 1)  # Worn edges turn away from the light.
    alpha = np.clip((1 - rho) * radius + 0.5, 0, 1)
    return Sprite(0, top, left, alpha, tone[..., None] * (color * rng.uniform(0.85, 1.2)))


def _relief(rng: np.random.Generator, dy: np.ndarray, dx: np.ndarray, rho: np.ndarray, radius: float) -> np.ndarray:
    """Return the height (h, w) of a coin's face: a few overlapping figures, fine wear, and a rim at rho near 1."""
    relief = rng.uniform(0.05, 0.3) * smooth_noise(rng, *rho.shape, max(1.5, 0.12 * radius))
    relief += rng.uniform(0.3, 0.7) * smooth_noise(rng, *rho.shape, max(2.0, 0.35 * radius))
    for _ in range(rng.integers(1, 5)):
        figure_y, figure_x = dy - radius * rng.normal(0, 0.25), dx - radius * rng.normal(0, 0.25)
        figure = np.hypot(figure_y, figure_x) / (
            radius * rng.uniform(0.15, 0.6) * _outline(rng, np.arctan2(figure_y, figure_x), wobble=0.5)
        )
        relief += rng.uniform(0.5, 2.5) / (1 + np.exp(np.clip((figure - 1) * 10, -20, 20)))
    return relief + rng.uniform(0.0, 2.0) * np.exp(-(((rho - rng.uniform(0.86, 0.96)) / 0.06) ** 2))


def _cell(rng: np.random.Generator, y: float, x: float, radius: float, color: np.ndarray) -> Sprite:
    """Draw a blob with a soft edge and a nucleus."""
    radius = max(radius, 2.5)
    top, left, dy, dx = _patch(y, x, radius * 1.7)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.5)
    along = (dy * np.sin(angle) + dx * np.cos(angle)) / stretch
    across = (dx * np.sin(angle) - dy * np.cos(angle)) * np.sqrt(stretch)
    rho = np.hypot(along, across) / (radius * _outline(rng, np.arctan2(across, along), wobble=0.12))
    tone = 1 - rng.uniform(0.0, 0.35) * np.clip(rho, 0, 1) ** 2
    if rng.random() < 0.6:
        tone += rng.uniform(-0.35, 0.35) * (rho < rng.uniform(0.3, 0.6))
    tone += 0.06 * smooth_noise(rng, *rho.shape, max(1.5, radius * 0.25))
    alpha = np.clip((1 - rho) * radius * rng.uniform(0.4, 1.0) + 0.5, 0, 1)
    return Sprite(1, top, left, alpha, tone[..., None] * color * rng.uniform(0.8, 1.2))


def _crowd_of_cells(rng: np.random.Generator, height: int, width: int, color: np.ndarray) -> list[Sprite]:
    centre = rng.uniform(0.2, 0.8, 2) * (height, width)
    places = rng.normal(0, 0.06, (60, 2)) * (height, width) + centre
    sprites = [_cell(rng, y, x, 0.012 * height, color) for y, x in places]
    for sprite in sprites:
        sprite.is_crowd = True
    return sprites


def _polygon(rng: np.random.Generator, y: float, x: float, radius: float, color: np.ndarray, sides: int) -> Sprite:
    """Draw a triangle (3 sides) or square (4), rotated and slightly stretched; plain, striped or shaded."""
    radius = max(radius, 5.0)
    top, left, dy, dx = _patch(y, x, radius * 1.3)
    turn, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.15)
    u, v = (dx * np.cos(turn) + dy * np.sin(turn)) * stretch, (dy * np.cos(turn) - dx * np.sin(turn)) / stretch
    normals = 2 * np.pi * np.arange(sides) / sides
    inner_radius = radius * np.cos(np.pi / sides)
    distance = np.max([u * np.cos(n) + v * np.sin(n) - inner_radius for n in normals], axis=0)
    tone = 1 + rng.uniform(-0.3, 0.3) * u / radius
    if rng.random() < 0.3:
        tone += 0.2 * np.sign(np.sin(v * rng.uniform(0.3, 1.5)))
    tone += rng.uniform(0, 0.08) * smooth_noise(rng, *distance.shape, rng.uniform(1.5, 6))
    alpha = np.clip(0.5 - distance, 0, 1)
    return Sprite(sides - 1, top, left, alpha, tone[..., None] * color)


# Composition of the scene.


def _compose(image: np.ndarray, sprites: list[Sprite], shadow: float) -> list[SceneObject]:
    """Draw the sprites over the image, in place, the last one on top, and return the visible part of each."""
    height, width = image.shape[:2]
    owner = np.full((height, width), -1, dtype=np.int32)
    full_areas = []
    for index, sprite in enumerate(sprites):
        full_areas.append(int((sprite.alpha > 0.5).sum()))
        rows, columns, inside = _overlap(sprite, height, width)
        alpha = sprite.alpha[inside].astype(np.float32)
        if alpha.size == 0:
            continue
        cast = ndimage.gaussian_filter(sprite.alpha.astype(np.float32), 2.0)[inside]
        image[rows, columns] *= 1 - shadow * (cast * (1 - alpha))[..., None]
        image[rows, columns] += alpha[..., None] * (sprite.color[inside] - image[rows, columns])
        owner[rows, columns][alpha > 0.5] = index
    return _visible_objects(sprites, owner, full_areas)


def _overlap(sprite: Sprite, height: int, width: int) -> tuple[slice, slice, tuple[slice, slice]]:
    """Return the rows and columns of the scene under a sprite's patch, and the part of the patch inside the scene."""
    side_y, side_x = sprite.alpha.shape
    top, left = max(sprite.top, 0), max(sprite.left, 0)
    bottom, right = max(min(sprite.top + side_y, height), top), max(min(sprite.left + side_x, width), left)
    inside = (slice(top - sprite.top, bottom - sprite.top), slice(left - sprite.left, right - sprite.left))
    return slice(top, bottom), slice(left, right), inside


def _visible_objects(sprites: list[Sprite], owner: np.ndarray, full_areas: list[int]) -> list[SceneObject]:
    objects, crowd = [], np.zeros(owner.shape, dtype=bool)
    for index, (sprite, full_area) in enumerate(zip(sprites, full_areas)):
        mask = owner == index
        if sprite.is_crowd:
            crowd |= mask
        elif mask.sum() >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_FRACTION * full_area):
            objects.append(SceneObject(sprite.category, mask, is_crowd=False))
    if crowd.sum() >= MIN_VISIBLE_PIXELS:
        objects.append(SceneObject(CATEGORIES.index("cell"), crowd, is_crowd=True))
    return objects


def _photograph(rng: np.random.Generator, image: np.ndarray, is_grey: bool) -> np.ndarray:
    """Turn the composed scene into uint8 RGB, with uneven light, blur, noise and gamma."""
    height, width = image.shape[:2]
    light = 1 + rng.uniform(0, 0.3) * (_ramp(rng, height, width) - 0.5)
    image = np.clip(image * light[..., None], 0, 1) ** rng.uniform(0.8, 1.25)
    if is_grey:
        image = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    blur = rng.uniform(0, 1.0)
    if blur > 0.4:
        image = ndimage.gaussian_filter(image, (blur, blur, 0))
    grain = rng.standard_normal((height, width, 1 if is_grey else 3), dtype=np.float32)
    image = image + rng.uniform(0.005, 0.05) * grain
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)

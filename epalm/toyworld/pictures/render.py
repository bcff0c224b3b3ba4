"""Draws a scene of the toy world as a picture of 96 x 96 points."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from epalm.toyworld.pictures.world import COLORS, FOREIGN_COLORS, Group, Scene

SIDE = 96
_ZOOM = 2  # drawn larger, then reduced: smooth edges
_LIGHT = ((236, 232, 222), (222, 232, 240), (232, 224, 238), (226, 238, 224), (242, 240, 236), (238, 226, 220))
_DARK = ((52, 56, 66), (62, 52, 58), (46, 62, 60), (58, 58, 48), (40, 44, 72), (66, 60, 66))


def draw_picture(scene: Scene, rng: random.Random) -> Image.Image:
    """The scene as an RGB picture; places within a quarter, exact sizes, turns, tints and the ground are at random."""
    return draw_with_owners(scene, rng)[0]


def draw_with_owners(scene: Scene, rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """The picture, and which group owns each point: 0 the ground, g + 1 the scene's group g."""
    canvas = draw_ground(scene.ground, rng)
    owners = Image.new("L", canvas.size, 0)
    rimmed = rng.random() < 0.7
    for number, group in enumerate(scene.groups, start=1):
        tint = mix_tint(group.color, rng)
        for center, radius in _stand(group, rng):
            mask, corner = _paint(canvas, group, tint, rimmed, center, radius, rng)
            owners.paste(number, corner, mask)
    side = (SIDE, SIDE)
    return canvas.resize(side, Image.Resampling.BOX), owners.resize(side, Image.Resampling.NEAREST)


def draw_ground(kind: str, rng: random.Random) -> Image.Image:
    """A tinted ground: flat, graded, clouded or ruled."""
    side = SIDE * _ZOOM
    first, second = rng.sample(_LIGHT if kind == "light" else _DARK, 2)
    manner = rng.choice(("flat", "graded", "clouded", "ruled"))
    base = Image.new("RGB", (side, side), first)
    if manner == "flat":
        return base
    other = Image.new("RGB", (side, side), second)
    if manner == "graded":
        mask = Image.linear_gradient("L").resize((side, side)).rotate(90 * rng.randrange(4))
    elif manner == "clouded":
        grains = Image.frombytes("L", (8, 8), rng.randbytes(64))
        mask = grains.resize((side, side), Image.Resampling.BICUBIC)
    else:
        mask = Image.new("L", (side, side), 0)
        pen = ImageDraw.Draw(mask)
        gap = rng.randrange(18, 40)
        for at in range(rng.randrange(gap), side, gap):
            pen.line((at, 0, at, side) if gap % 2 else (0, at, side, at), fill=150, width=2)
    return Image.composite(other, base, mask)


def _stand(group: Group, rng: random.Random) -> list[tuple[tuple[float, float], float]]:
    """Centres and radii of a group's members, in points of the large canvas, without overlap inside the quarter."""
    quarter = SIDE * _ZOOM / 2
    if group.size == "small":
        radius = rng.uniform(6.0, 7.6) * _ZOOM
    elif group.count == 1:
        radius = rng.uniform(11.0, 20.0) * _ZOOM
    else:
        radius = rng.uniform(10.2, 11.4) * _ZOOM
    left, top = group.at[0] * quarter, group.at[1] * quarter
    if group.count == 1:
        slack = quarter / 2 - radius - 2
        return [
            ((left + quarter / 2 + rng.uniform(-slack, slack), top + quarter / 2 + rng.uniform(-slack, slack)), radius)
        ]
    cells = rng.sample([(0, 0), (0, 1), (1, 0), (1, 1)], group.count)
    cell = quarter / 2
    slack = max(0.0, cell / 2 - radius)
    return [
        (
            (left + (x + 0.5) * cell + rng.uniform(-slack, slack), top + (y + 0.5) * cell + rng.uniform(-slack, slack)),
            radius,
        )
        for x, y in cells
    ]


def mix_tint(color: str, rng: random.Random) -> tuple[int, ...]:
    """A mixture of the colour's shades, a little off."""
    first, second = rng.sample((COLORS | FOREIGN_COLORS)[color], 2)
    share = rng.random()
    mixed = (share * a + (1 - share) * b + rng.uniform(-6, 6) for a, b in zip(first, second, strict=True))
    return tuple(round(min(255.0, max(0.0, channel))) for channel in mixed)


def _paint(
    canvas: Image.Image,
    group: Group,
    tint: tuple[int, ...],
    rimmed: bool,
    center: tuple[float, float],
    radius: float,
    rng: random.Random,
) -> tuple[Image.Image, tuple[int, int]]:
    """One thing: its fill with a texture, often a thin rim that sets it off the ground. Gives its mask and corner."""
    size = math.ceil(2 * radius) + 4
    middle = size / 2
    mask = Image.new("L", (size, size), 0)
    fill_outline(ImageDraw.Draw(mask), group.shape, middle, radius, rng)
    fill = Image.new("RGB", (size, size), tint)
    if group.texture != "plain":
        _texture(ImageDraw.Draw(fill), group.texture, size, sum(tint) > 420, rng)
    corner = (round(center[0] - middle), round(center[1] - middle))
    ground = canvas.getpixel((int(center[0]), int(center[1])))
    assert isinstance(ground, tuple)
    too_alike = sum(abs(a - b) for a, b in zip(ground, tint, strict=True)) < 120
    if rimmed or too_alike:
        rim = ImageChops.subtract(mask, mask.filter(ImageFilter.MinFilter(3)))
        fill.paste((215, 215, 215) if sum(ground) < 300 else (60, 60, 60), mask=rim)
    canvas.paste(fill, corner, mask)
    return mask, corner


def fill_outline(pen: ImageDraw.ImageDraw, shape: str, middle: float, radius: float, rng: random.Random) -> None:
    """Fill the outline of `shape` around the middle of its own small mask."""
    box = (middle - radius, middle - radius, middle + radius, middle + radius)
    turn = rng.uniform(-0.2, 0.2)
    if shape == "circle":
        pen.ellipse(box, fill=255)
    elif shape == "ring":
        pen.ellipse(box, fill=255)
        inner = radius * 0.5
        pen.ellipse((middle - inner, middle - inner, middle + inner, middle + inner), fill=0)
    elif shape == "moon":
        pen.ellipse(box, fill=255)
        side = rng.choice((-1, 1)) * 0.6 * radius
        pen.ellipse((box[0] + side, box[1], box[2] + side, box[3]), fill=0)
    elif shape == "heart":
        half = radius * 0.54
        for side in (-1, 1):
            x, y = middle + side * half * 0.86, middle - radius * 0.34
            pen.ellipse((x - half, y - half, x + half, y + half), fill=255)
        lower = [(-0.96, -0.1), (0.96, -0.1), (0.0, 0.95)]
        pen.polygon([(middle + x * radius, middle + y * radius) for x, y in lower], fill=255)
    else:
        if shape == "rectangle":
            flat = rng.uniform(0.45, 0.6)
            points = [(-1.0, -flat), (1.0, -flat), (1.0, flat), (-1.0, flat)]
            if rng.random() < 0.5:
                points = [(y, x) for x, y in points]
        elif shape == "square":
            points = [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
        elif shape == "triangle":
            points = [(0, -0.95), (0.95, 0.75), (-0.95, 0.75)]
        elif shape == "star":
            points = [
                (
                    math.sin(math.pi * k / 5) * (1.0 if k % 2 == 0 else 0.42),
                    -math.cos(math.pi * k / 5) * (1.0 if k % 2 == 0 else 0.42),
                )
                for k in range(10)
            ]
        elif shape == "hexagon":
            points = [(math.sin(math.pi * k / 3), -math.cos(math.pi * k / 3)) for k in range(6)]
        elif shape == "arrow":
            points = [(-0.3, 1), (-0.3, 0), (-0.9, 0), (0, -1), (0.9, 0), (0.3, 0), (0.3, 1)]
        else:  # cross
            arm = 0.32
            points = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)]
            points += [(-x, -y) for x, y in points]
        sine, cosine = math.sin(turn), math.cos(turn)
        pen.polygon(
            [(middle + radius * (x * cosine - y * sine), middle + radius * (x * sine + y * cosine)) for x, y in points],
            fill=255,
        )


def _texture(pen: ImageDraw.ImageDraw, texture: str, size: int, bright: bool, rng: random.Random) -> None:
    """Stripes, dots or checks, a little different every time, in black or white, whichever shows on the fill.

    Ink covers less than half of it: the colour of a thing is the one that most of it has.
    """
    shade = rng.randrange(0, 50)
    ink = (shade, shade, shade) if bright else (255 - shade, 255 - shade, 255 - shade)
    step = rng.randrange(8, 12)
    offset = rng.randrange(step)
    if texture == "striped":
        lean = rng.choice((-1.0, -0.5, 0.0, 0.5, 1.0))
        spacing = step * math.hypot(1.0, lean)  # along a row, so that it is `step` across the stripes
        for number in range(math.ceil(3 * size / spacing)):
            at = offset - size + number * spacing
            pen.line((at, size, at + lean * size, 0), fill=ink, width=3)
    elif texture == "dotted":
        for row, y in enumerate(range(offset - step, size + step, step)):
            for x in range(offset - step + (row % 2) * (step // 2), size + step, step):
                pen.ellipse((x, y, x + 4, y + 4), fill=ink)
    elif texture == "crossed":
        for at in range(offset, size, step):
            pen.line((at, 0, at, size), fill=ink, width=2)
            pen.line((0, at, size, at), fill=ink, width=2)
    elif texture == "ringed":
        for inset in range(offset // 2 + 2, size // 2, step // 2 + 1):
            pen.ellipse((inset, inset, size - inset, size - inset), outline=ink, width=2)
    else:
        cell = step // 2 + 2
        for row, y in enumerate(range(offset - 2 * cell, size, cell)):
            for x in range(offset - 2 * cell + (row % 2) * cell, size, 2 * cell):
                pen.rectangle((x, y, x + cell - 2, y + cell - 2), fill=ink)

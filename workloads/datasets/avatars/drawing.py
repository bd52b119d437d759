"""Draws a face from the traits of a person and the circumstances of a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
"""Red, green and blue, each in [0, 255]."""
Point = tuple[float, float]
"""Right and down, from the middle of the face, as fractions of the picture's side."""

SKINS: tuple[Colour, ...] = (
    (255, 224, 196), (241, 194, 155), (224, 172, 125), (198, 134, 90), (160, 104, 66), (122, 76, 48), (88, 54, 36),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (28, 22, 20), (64, 42, 30), (110, 72, 42), (168, 120, 66), (220, 188, 120), (150, 58, 32), (176, 176, 178),
)  # fmt: skip
IRISES: tuple[Colour, ...] = ((70, 44, 24), (110, 76, 36), (52, 110, 70), (60, 110, 176), (120, 130, 138))
STYLES = ("bald", "short", "fringe", "parted", "long", "curly", "bun")
BEARDS = ("none", "moustache", "goatee", "full")
GLASSES = ("none", "round", "square")
SUPERSAMPLING = 3
"""Pixels drawn for each pixel of the picture, along each side; their mean is kept."""


@dataclass(frozen=True)
class Traits:
    """What stays the same in all pictures of a person. Lengths are fractions of the picture's side."""

    head_width: float
    """Half of the width; so are the height of the head, and the width of nose and mouth."""
    head_height: float
    jaw: float
    """Exponent of the face's outline: 2 is an ellipse, more is squarer."""
    skin: int
    """Index into SKINS."""
    hair: int
    """Index into HAIRS."""
    style: int
    """Index into STYLES."""
    iris: int
    """Index into IRISES."""
    eye_distance: float
    """From the middle of the face to the middle of an eye."""
    eye_size: float
    brow_weight: float
    brow_slope: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lips: float
    glasses: int
    """Index into GLASSES."""
    beard: int
    """Index into BEARDS."""

    @staticmethod
    def draw(generator: np.random.Generator) -> Traits:
        """Draw the traits of a person."""
        uniform, choice = generator.uniform, generator.integers
        return Traits(
            head_width=uniform(0.25, 0.34),
            head_height=uniform(0.33, 0.41),
            jaw=uniform(1.8, 3.2),
            skin=int(choice(len(SKINS))),
            hair=int(choice(len(HAIRS))),
            style=int(choice(len(STYLES))),
            iris=int(choice(len(IRISES))),
            eye_distance=uniform(0.105, 0.15),
            eye_size=uniform(0.034, 0.052),
            brow_weight=uniform(0.010, 0.028),
            brow_slope=uniform(-0.35, 0.35),
            nose_length=uniform(0.09, 0.16),
            nose_width=uniform(0.03, 0.065),
            mouth_width=uniform(0.085, 0.15),
            lips=uniform(0.012, 0.034),
            glasses=int(generator.choice(len(GLASSES), p=(0.6, 0.2, 0.2))),
            beard=int(generator.choice(len(BEARDS), p=(0.55, 0.15, 0.15, 0.15))),
        )


@dataclass(frozen=True)
class Circumstances:
    """What differs from picture to picture of a person: pose, expression, light and background."""

    turn: float
    """How far features shift when the head turns to a side, as a fraction of the picture's side."""
    nod: float
    tilt_degrees: float
    scale: float
    smile: float
    open_mouth: float
    open_eyes: float
    raised_brows: float
    light_angle: float
    light: float
    brightness: float
    background: Colour

    @staticmethod
    def draw(generator: np.random.Generator) -> Circumstances:
        """Draw the circumstances of a picture."""
        uniform = generator.uniform
        return Circumstances(
            turn=uniform(-0.035, 0.035),
            nod=uniform(-0.02, 0.02),
            tilt_degrees=uniform(-9, 9),
            scale=uniform(0.94, 1.06),
            smile=uniform(-0.4, 1.0),
            open_mouth=max(uniform(-0.6, 0.6), 0.0),
            open_eyes=uniform(0.65, 1.1),
            raised_brows=uniform(-0.008, 0.016),
            light_angle=uniform(0, 2 * math.pi),
            light=uniform(0.0, 0.35),
            brightness=uniform(0.85, 1.1),
            background=_background_colour(generator),
        )


def _background_colour(generator: np.random.Generator) -> Colour:
    red, green, blue = (int(level) for level in generator.integers(50, 220, 3))
    return red, green, blue


def draw_face(traits: Traits, circumstances: Circumstances, size: int) -> Image.Image:
    """Draw a picture of a person: an antialiased RGB image of `size` x `size` pixels."""
    canvas = _Canvas(size * SUPERSAMPLING, circumstances)
    hair, skin = HAIRS[traits.hair], SKINS[traits.skin]
    canvas.background()
    _hair_behind(canvas, traits, hair)
    _neck_and_shoulders(canvas, traits, skin)
    canvas.polygon(_outline(traits), skin)
    _ears(canvas, traits, skin)
    _beard(canvas, traits, hair)
    _eyes(canvas, traits, circumstances)
    _brows(canvas, traits, circumstances, hair)
    _nose(canvas, traits, skin)
    _mouth(canvas, traits, circumstances, skin)
    _hair_before(canvas, traits, hair)
    _glasses(canvas, traits)
    return canvas.finished(size)


class _Canvas:
    """A picture that is drawn on in coordinates of the face, wherever the head turns."""

    def __init__(self, side: int, circumstances: Circumstances) -> None:
        self._side, self._circumstances = side, circumstances
        self._image = Image.new("RGB", (side, side))
        self._draw = ImageDraw.Draw(self._image)

    def background(self) -> None:
        first = np.array(self._circumstances.background, dtype=np.float32)
        ramp = np.linspace(0.75, 1.15, self._side, dtype=np.float32)[:, None, None]
        rows = np.broadcast_to(first * ramp, (self._side, self._side, 3))
        self._image.paste(Image.fromarray(rows.clip(0, 255).astype(np.uint8)))

    def place(self, point: Point, depth: float) -> Point:
        """Pixel coordinates of a point; the more `depth` it has, the further it moves when the head turns."""
        x, y = point[0] + self._circumstances.turn * depth, point[1] + self._circumstances.nod * depth
        angle = math.radians(self._circumstances.tilt_degrees)
        right, down = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
        scale, side = self._circumstances.scale, self._side
        return (right * scale + 0.5) * side, (down * scale + 0.5) * side

    def polygon(self, points: list[Point], colour: Colour, depth: float = 0.0) -> None:
        self._draw.polygon([self.place(point, depth) for point in points], fill=colour)

    def ellipse(self, centre: Point, radii: Point, colour: Colour, depth: float = 0.0) -> None:
        self.polygon(_ellipse(centre, radii), colour, depth)

    def line(self, points: list[Point], width: float, colour: Colour, depth: float = 0.0) -> None:
        pixels = max(round(width * self._circumstances.scale * self._side), 1)
        self._draw.line([self.place(point, depth) for point in points], fill=colour, width=pixels, joint="curve")

    def finished(self, size: int) -> Image.Image:
        small = self._image.resize((size, size), Image.Resampling.BOX)
        pixels = np.asarray(small, dtype=np.float32)
        places = np.linspace(-1, 1, size, dtype=np.float32)
        across, down = math.cos(self._circumstances.light_angle), math.sin(self._circumstances.light_angle)
        shade = 1 + self._circumstances.light * (across * places[None, :] + down * places[:, None]) / math.sqrt(2)
        return Image.fromarray(
            (pixels * shade[..., None] * self._circumstances.brightness).clip(0, 255).astype(np.uint8)
        )


def _ellipse(centre: Point, radii: Point, start: float = 0.0, end: float = 2 * math.pi) -> list[Point]:
    angles = np.linspace(start, end, 28)
    return [(centre[0] + radii[0] * math.cos(angle), centre[1] + radii[1] * math.sin(angle)) for angle in angles]


def _trapezium(upper: float, top: float, lower: float, bottom: float) -> list[Point]:
    """Corners of a trapezium, from half the width and the height of its two level sides."""
    return [(-upper, top), (upper, top), (lower, bottom), (-lower, bottom)]


def _outline(traits: Traits) -> list[Point]:
    """Points around the face: round above, as square below as the jaw."""
    points = []
    for angle in np.linspace(0, 2 * math.pi, 60):
        cosine, sine = math.cos(angle), math.sin(angle)
        power = 2 / (traits.jaw if sine > 0 else 2.0)
        x = math.copysign(abs(cosine) ** power, cosine) * traits.head_width * (1 - 0.25 * max(sine, 0) ** 2)
        points.append((x, math.copysign(abs(sine) ** power, sine) * traits.head_height))
    return points


def _shaded(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(int(level * factor), 255) for level in colour)
    return red, green, blue


def _neck_and_shoulders(canvas: _Canvas, traits: Traits, skin: Colour) -> None:
    width = traits.head_width
    canvas.polygon(_trapezium(width * 0.5, 0.15, width * 0.55, 0.6), _shaded(skin, 0.82))
    canvas.ellipse((0, 0.62), (0.42, 0.2), _shaded(HAIRS[(traits.hair + 3) % len(HAIRS)], 0.8))


def _ears(canvas: _Canvas, traits: Traits, skin: Colour) -> None:
    for side in (-1, 1):
        canvas.ellipse((side * traits.head_width * 0.99, 0.01), (0.028, 0.055), _shaded(skin, 0.92), depth=-0.4)


def _eyes(canvas: _Canvas, traits: Traits, circumstances: Circumstances) -> None:
    size = traits.eye_size
    for side in (-1, 1):
        centre = (side * traits.eye_distance, -0.04)
        canvas.ellipse(centre, (size * 1.35, size * 0.85 * circumstances.open_eyes), (60, 40, 36), depth=1)
        canvas.ellipse(centre, (size * 1.2, size * 0.72 * circumstances.open_eyes), (246, 246, 242), depth=1)
        iris = (centre[0], centre[1] + 0.002)
        canvas.ellipse(
            iris, (size * 0.6, size * 0.66 * min(circumstances.open_eyes, 1)), IRISES[traits.iris], depth=1.25
        )
        canvas.ellipse(iris, (size * 0.28, size * 0.3), (14, 12, 12), depth=1.25)


def _brows(canvas: _Canvas, traits: Traits, circumstances: Circumstances, hair: Colour) -> None:
    height = -0.055 - traits.eye_size * 1.1 - circumstances.raised_brows
    reach = traits.eye_size * 1.6
    for side in (-1, 1):
        inner = (side * (traits.eye_distance - reach), height + traits.brow_slope * reach * 0.5)
        outer = (side * (traits.eye_distance + reach), height - traits.brow_slope * reach * 0.5)
        middle = ((inner[0] + outer[0]) / 2, (inner[1] + outer[1]) / 2 - 0.012)
        canvas.line([inner, middle, outer], traits.brow_weight, _shaded(hair, 0.75), depth=1)


def _nose(canvas: _Canvas, traits: Traits, skin: Colour) -> None:
    tip = -0.03 + traits.nose_length
    width = traits.nose_width
    shadow = _shaded(skin, 0.8)
    canvas.polygon(_trapezium(width * 0.3, -0.03, width, tip), _shaded(skin, 0.93), depth=1.8)
    canvas.ellipse((0, tip), (width, 0.022), shadow, depth=1.9)
    canvas.ellipse((0, tip - 0.006), (width * 0.8, 0.018), _shaded(skin, 1.03), depth=1.9)


def _mouth(canvas: _Canvas, traits: Traits, circumstances: Circumstances, skin: Colour) -> None:
    level = traits.head_height * 0.56
    half, lips = traits.mouth_width * (1 + 0.15 * circumstances.smile), traits.lips
    bend = 0.035 * circumstances.smile
    upper = [(x * half, level - bend * x**2 - lips * (1 - x**2)) for x in np.linspace(-1, 1, 15)]
    gap = circumstances.open_mouth * 0.05
    lower = [(x * half, level - bend * x**2 + (lips * 1.2 + gap) * (1 - x**2)) for x in np.linspace(1, -1, 15)]
    red, green, blue = (int(0.55 * level + 0.45 * tint) for level, tint in zip(skin, (190, 60, 70), strict=True))
    canvas.polygon([*upper, *lower], (red, green, blue), depth=1.3)
    inside = [(x * half * 0.85, level - bend * x**2 + gap * (1 - x**2) + 0.003) for x in np.linspace(-1, 1, 15)]
    rim = [(x * half * 0.85, level - bend * x**2 - 0.003) for x in np.linspace(1, -1, 15)]
    canvas.polygon([*inside, *rim], (70, 24, 26), depth=1.3)


def _beard(canvas: _Canvas, traits: Traits, hair: Colour) -> None:
    colour = _shaded(hair, 0.9)
    mouth, width, height = traits.head_height * 0.56, traits.head_width, traits.head_height
    match BEARDS[traits.beard]:
        case "full":
            lower = [point for point in _outline(traits) if point[1] > 0.06]
            inner = _ellipse((0, 0.02), (width * 0.72, height * 0.42), math.pi, 0)
            canvas.polygon([*lower, *inner], colour, depth=0.2)
            canvas.ellipse((0, mouth - 0.02), (traits.mouth_width * 1.1, 0.035), colour, depth=1.1)
        case "goatee":
            canvas.ellipse((0, height * 0.82), (traits.mouth_width * 0.8, height * 0.2), colour, depth=0.8)
        case "moustache":
            canvas.ellipse((0, mouth - traits.lips - 0.012), (traits.mouth_width * 1.05, 0.022), colour, depth=1.4)


def _hair_behind(canvas: _Canvas, traits: Traits, hair: Colour) -> None:
    width, height = traits.head_width, traits.head_height
    match STYLES[traits.style]:
        case "long":
            canvas.ellipse((0, -0.03), (width * 1.3, height * 1.12), hair, depth=-0.5)
            canvas.polygon(_trapezium(width * 1.3, 0, width * 1.35, 0.5), hair, depth=-0.5)
        case "curly":
            for angle in np.linspace(math.pi * 0.9, math.pi * 2.1, 13):
                centre = (width * 1.12 * math.cos(angle), -0.04 + height * 1.02 * math.sin(angle))
                canvas.ellipse(centre, (0.1, 0.1), hair, depth=-0.5)
        case "bun":
            canvas.ellipse((0, -height * 1.12), (0.11, 0.1), hair, depth=-0.8)
            canvas.ellipse((0, -0.03), (width * 1.08, height * 1.05), hair, depth=-0.3)
        case "short" | "fringe" | "parted":
            canvas.ellipse((0, -0.05), (width * 1.08, height * 1.03), hair, depth=-0.3)


def _hair_before(canvas: _Canvas, traits: Traits, hair: Colour) -> None:
    """Draw the hair between the crown and the hairline."""
    style = STYLES[traits.style]
    if style == "bald":
        return
    crown = _ellipse((0, -0.02), (traits.head_width * 1.05, traits.head_height * 1.04), math.pi, 2 * math.pi)
    line = -traits.head_height * {"fringe": 0.38, "curly": 0.55, "long": 0.6}.get(style, 0.66)
    lift = {"parted": 0.16, "fringe": -0.02}.get(style, 0.09)
    middle = -0.5 if style == "parted" else 0.0
    hairline = [
        (x * traits.head_width * 0.98, line - lift * (1 - (x - middle) ** 2 / 2.3)) for x in np.linspace(1, -1, 15)
    ]
    temples = -traits.head_height * 0.12
    canvas.polygon([*crown, (traits.head_width * 0.99, temples), *hairline, (-traits.head_width * 0.99, temples)], hair)


def _glasses(canvas: _Canvas, traits: Traits) -> None:
    shape = GLASSES[traits.glasses]
    if shape == "none":
        return
    frame: Colour = (24, 24, 30)
    reach = min(traits.eye_distance * 0.8, 0.085)
    for side in (-1, 1):
        x, y = side * traits.eye_distance, -0.035
        if shape == "round":
            rim = _ellipse((x, y), (reach, reach))
        else:
            rim = [(x - reach, y - reach * 0.7), (x + reach, y - reach * 0.7), (x + reach, y + reach * 0.75)]
            rim += [(x - reach, y + reach * 0.75), (x - reach, y - reach * 0.7)]
        canvas.line(rim, 0.013, frame, depth=1.5)
        canvas.line([(x + side * reach, y - 0.01), (side * traits.head_width * 0.97, -0.03)], 0.012, frame, depth=0.6)
    canvas.line(
        [(-traits.eye_distance + reach, -0.045), (traits.eye_distance - reach, -0.045)], 0.012, frame, depth=1.5
    )

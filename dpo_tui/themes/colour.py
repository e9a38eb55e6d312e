"""Colour arithmetic for tests of palettes: WCAG contrast, CIEDE2000 differences, and simulated colour blindness."""

from math import atan2, cos, degrees, exp, hypot, radians, sin, sqrt

Rgb = tuple[float, float, float]
"""Three numbers: red, green, blue from 0 to 1, or L*, a*, b*."""

# Machado, Oliveira & Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# table for severity 1.0; the matrices work on linear RGB.
DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)


def parse_hex(text: str) -> Rgb:
    """Read ``#rrggbb`` as three numbers from 0 to 1.

    Raises:
        ValueError: the text is not of that form.
    """
    if len(text) != 7 or text[0] != "#":  # noqa: PLR2004 - "#rrggbb"
        raise ValueError(f"{text!r} is not #rrggbb")
    red, green, blue = (int(text[index : index + 2], 16) / 255 for index in (1, 3, 5))
    return red, green, blue


def linear(colour: Rgb) -> Rgb:
    """Undo the sRGB transfer curve (IEC 61966-2-1)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)  # noqa: PLR2004
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2, relative luminance)."""
    lights = []
    for text in (one, other):
        red, green, blue = linear(parse_hex(text))
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def as_deuteranope(text: str) -> Rgb:
    """The linear RGB of ``#rrggbb`` as seen with deuteranopia (no green cones), clipped to the gamut."""
    colour = linear(parse_hex(text))
    red, green, blue = (
        min(max(sum(weight * c for weight, c in zip(row, colour, strict=True)), 0.0), 1.0) for row in DEUTERANOPIA
    )
    return red, green, blue


def lab(colour: Rgb) -> Rgb:
    """CIE L*a*b* (D65) of a linear RGB colour."""
    red, green, blue = colour
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    fx, fy, fz = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def difference(one: Rgb, other: Rgb) -> float:
    """CIEDE2000 between two linear RGB colours (Sharma, Wu & Dalal 2005); about 2 is just noticeable, 10 is plain."""
    l1, a1, b1 = lab(one)
    l2, a2, b2 = lab(other)
    mean_chroma7 = ((hypot(a1, b1) + hypot(a2, b2)) / 2) ** 7
    g = 0.5 * (1 - sqrt(mean_chroma7 / (mean_chroma7 + 25**7)))
    a1, a2 = a1 * (1 + g), a2 * (1 + g)
    c1, c2 = hypot(a1, b1), hypot(a2, b2)
    h1, h2 = degrees(atan2(b1, a1)) % 360, degrees(atan2(b2, a2)) % 360
    turn = h2 - h1
    if c1 * c2 == 0:
        turn = 0.0
    elif abs(turn) > 180:  # noqa: PLR2004 - half a circle
        turn -= 360 if turn > 0 else -360
    big_h = 2 * sqrt(c1 * c2) * sin(radians(turn / 2))
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    mean_h = h1 + h2
    if c1 * c2:
        mean_h /= 2
        if abs(h1 - h2) > 180:  # noqa: PLR2004 - half a circle
            mean_h += 180 if h1 + h2 < 360 else -180  # noqa: PLR2004 - a circle
    t = (
        1
        - 0.17 * cos(radians(mean_h - 30))
        + 0.24 * cos(radians(2 * mean_h))
        + 0.32 * cos(radians(3 * mean_h + 6))
        - 0.20 * cos(radians(4 * mean_h - 63))
    )
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    rotation = 30 * exp(-(((mean_h - 275) / 25) ** 2))
    r_t = -2 * sqrt(mean_c**7 / (mean_c**7 + 25**7)) * sin(radians(2 * rotation))
    d_l, d_c, d_h = (l2 - l1) / s_l, (c2 - c1) / s_c, big_h / s_h
    return sqrt(d_l**2 + d_c**2 + d_h**2 + r_t * d_c * d_h)

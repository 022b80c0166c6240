"""Frames of a video: the environment's picture next to the policy's action distribution."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pgkeras.evaluation.densities import centre_and_spread, density
from pgkeras.evaluation.panel_layout import HEAD, LEAST_ROW, components, heights, wanted_height
from pgkeras.spaces import Box, Discrete, MultiDiscrete
from pgkeras.spaces.spec import ActionPart, DistributionKind, PolicySpec

__all__ = ["ACCENT", "BAR", "Moment", "Painter", "bar_length"]

Pixels = NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom

# Okabe & Ito's palette, which is safe for color-blind people.
BAR = (0, 114, 178)
ACCENT = (213, 94, 0)
_TRACK, _BACKGROUND, _INK, _FAINT = (228, 232, 236), (247, 248, 250), (32, 36, 40), (112, 120, 128)

_PANEL = 400  # width in pixels
_MARGIN = 28
_TOP = 168  # top of the distribution
_SMALLEST, _LARGEST = 400, 640  # height of the picture
_WIDEST = 1920
_ROW = 44  # maximum height of a bar with its labels
_LABEL, _NUMBER = 44, 56  # widths of the label and the number next to a bar
_TALLEST = 1000  # maximum height of a frame with several parts
_HUMP = 92  # maximum height of a density


@dataclass(frozen=True)
class Moment:
    """The data shown in one frame.

    Args:
        episode: Number of the episode, starting at 1.
        step: Number of steps in the episode so far.
        episode_return: Sum of the episode's rewards so far.
        parameters: Parameters of the action distribution, without a batch axis; None at the end of an episode.
        action: The chosen action; None at the end of an episode.
        ended: "terminated" or "truncated" at the end of an episode, otherwise "".
    """

    episode: int
    step: int
    episode_return: float
    parameters: Mapping[str, NDArray[Any]] | None = None
    action: NDArray[Any] | None = None
    ended: str = ""


def bar_length(probability: float, length: int) -> int:
    """Returns the number of filled pixels in a bar of ``length`` pixels."""
    return round(float(probability) * length)


class Painter:
    """Draws frames of one size.

    Args:
        spec: The policy's specification.
        title: Name of the environment.
        subtitle: Name of the policy.
        picture: The environment's first picture. All others must have the same size.
    """

    def __init__(self, spec: PolicySpec, title: str, subtitle: str, picture: NDArray[Any]) -> None:
        self._spec = spec
        height, width = picture.shape[:2]
        self._scale = _scale(width, height)
        self._size = round(width * self._scale), round(height * self._scale)
        # Video formats require even sizes.
        self.width = (self._size[0] + _PANEL + 1) // 2 * 2
        self.height = (max(self._size[1], _SMALLEST, self._height_of_parts()) + 1) // 2 * 2
        self._left = self.width - _PANEL + _MARGIN
        self._right = self.width - _MARGIN
        self._fonts = {size: _font(size) for size in (11, 13, 15, 22)}
        self._canvas = Image.new("RGB", (self.width, self.height), _BACKGROUND)
        draw = ImageDraw.Draw(self._canvas)
        draw.rectangle((0, 0, self.width - _PANEL - 1, self.height), fill=_TRACK)
        draw.text((self._left, 24), _fit(title, self._fonts[22], self._right - self._left), _INK, self._fonts[22])
        draw.text((self._left, 56), _fit(subtitle, self._fonts[13], self._right - self._left), _FAINT, self._fonts[13])
        for x, label in zip(self._columns(), ("EPISODE", "STEP", "RETURN"), strict=True):
            draw.text((x, 86), label, _FAINT, self._fonts[11])
        self._ranges: dict[int, tuple[float, float]] = {}  # of components without bounds, the widest so far

    def paint(self, picture: NDArray[Any], moment: Moment) -> Pixels:
        """Draws a frame, ``[height, width, 3]``.

        Args:
            picture: The environment's picture ``[h, w, 3]``: integers up to 255, or floats from 0 to 1.
            moment: The data to show next to it.
        """
        canvas = self._canvas.copy()
        self._paste(canvas, picture)
        draw = ImageDraw.Draw(canvas)
        numbers = (str(moment.episode), str(moment.step), f"{moment.episode_return:.5g}")
        for x, number in zip(self._columns(), numbers, strict=True):
            draw.text((x, 100), number, _INK, self._fonts[22])
        box = (self._left, _TOP, self._right, self.height - 24)
        if moment.ended:
            draw.text((self._left, _TOP - 22), f"The episode was {moment.ended}.", _ink(moment.ended), self._fonts[15])
        elif moment.parameters is not None and moment.action is not None:
            caption = self._parts(draw, box, moment.parameters, moment.action)
            draw.text((self._left, _TOP - 22), caption, _FAINT, self._fonts[13])
        return np.asarray(canvas)

    def bar(self, row: int, rows: int, box: Rectangle | None = None) -> Rectangle:
        """Returns the rectangle of one of ``rows`` horizontal bars in a box, by default the whole distribution's."""
        left, upper, right, lower = box or (self._left, _TOP, self._right, self.height - 24)
        height = min(_ROW, (lower - upper) // rows)
        top = upper + row * height
        return left + _LABEL, top + height // 6, right - _NUMBER, top + height - height // 6

    def _height_of_parts(self) -> int:
        """Returns the height needed to draw all parts of an action, up to a maximum."""
        if not self._spec.is_structured:
            return 0
        return min(_TALLEST, _TOP + 24 + sum(HEAD + wanted_height(part) for part in self._spec.parts))

    def _columns(self) -> list[int]:
        return [self._left, self._left + 108, self._left + 196]

    def _paste(self, canvas: Image.Image, picture: NDArray[Any]) -> None:
        most = 255 if picture.dtype.kind in "iu" else 1
        pixels = (np.clip(picture, 0, most) * (255 // most)).astype(np.uint8)
        grey = pixels.shape[-1] < 3
        image = Image.fromarray(np.ascontiguousarray(pixels[..., [0, 0, 0]] if grey else pixels[..., :3]))
        if image.size != self._size:
            # Small pictures consist of square cells, which must stay sharp.
            how = Image.Resampling.NEAREST if self._scale > 1 else Image.Resampling.LANCZOS
            image = image.resize(self._size, how)
        canvas.paste(image, ((self.width - _PANEL - self._size[0]) // 2, (self.height - self._size[1]) // 2))

    def _parts(
        self, draw: ImageDraw.ImageDraw, box: Rectangle, parameters: Mapping[str, NDArray[Any]], action: NDArray[Any]
    ) -> str:
        """Draws the distributions of an action's parts below each other, and returns the caption."""
        left, top, right, bottom = box
        parts = self._spec.parts
        if not self._spec.is_structured:
            return self._distribution(draw, box, parts[0], parameters, action)
        found = heights(parts, bottom - top)
        for part, height in zip(parts, found, strict=False):
            own = {name: parameters[output] for name, output in part.outputs.items()}
            here = (left, top + HEAD, right, top + HEAD + height)
            self._distribution(draw, here, part, own, action[part.start : part.stop])
            count = part.stop - part.start
            shown = components(count, height)
            cut = f", the first {shown} components" if shown < count and not part.kind.is_discrete else ""
            draw.text((left, top + 2), f"{part.name}{cut}", _FAINT, self._fonts[13])
            top += HEAD + height
        return f"distribution of {_each('part', len(found), len(parts))}; orange is taken"

    def _distribution(
        self,
        draw: ImageDraw.ImageDraw,
        box: Rectangle,
        part: ActionPart,
        parameters: Mapping[str, NDArray[Any]],
        action: NDArray[Any],
    ) -> str:
        """Draws a distribution, and returns its caption."""
        space, kind = part.space, part.kind
        if not kind.is_discrete:
            shown = self._densities(draw, box, part, parameters, action)
            return f"density of {_each('component', shown, action.size)}; orange is taken"
        probabilities = parameters["probabilities"].ravel()
        if isinstance(space, Discrete):
            labels = [str(space.start + i) for i in range(space.n)]
            chosen = {int(action.item()) - space.start}
            caption = "probability of each action; orange is taken"
        elif isinstance(space, MultiDiscrete):
            starts, offsets = space.start.ravel(), np.cumsum(space.nvec.ravel()) - space.nvec.ravel()
            sizes = enumerate(zip(space.nvec.ravel(), starts, strict=True))
            labels = [f"{i}: {start + j}" for i, (n, start) in sizes for j in range(n)]
            chosen = {int(o + a - s) for o, a, s in zip(offsets, action.ravel(), starts, strict=True)}
            caption = "probability of each component's values"
        else:
            labels = [str(i) for i in range(len(probabilities))]
            chosen = set(np.flatnonzero(action.ravel()).tolist())
            caption = "probability that each bit is set"
        if len(probabilities) * LEAST_ROW <= box[3] - box[1]:
            self._bars(draw, box, probabilities, labels, chosen)
        else:
            self._columns_of(draw, box, probabilities, labels, chosen)
        return caption

    def _bars(
        self,
        draw: ImageDraw.ImageDraw,
        box: Rectangle,
        probabilities: NDArray[Any],
        labels: Sequence[str],
        chosen: set[int],
    ) -> None:
        for i, (probability, label) in enumerate(zip(probabilities.tolist(), labels, strict=True)):
            left, top, right, bottom = self.bar(i, len(labels), box)
            colour = ACCENT if i in chosen else BAR
            draw.rectangle((left, top, right - 1, bottom - 1), fill=_TRACK)
            if length := bar_length(probability, right - left):
                draw.rectangle((left, top, left + length - 1, bottom - 1), fill=colour)
            middle, font = (top + bottom) // 2, self._fonts[13]
            draw.text((left - 10, middle), label, colour if i in chosen else _INK, font, anchor="rm")
            draw.text((right + _NUMBER, middle), f"{probability:.1%}", _INK, font, anchor="rm")

    def _columns_of(
        self,
        draw: ImageDraw.ImageDraw,
        box: Rectangle,
        probabilities: NDArray[Any],
        labels: Sequence[str],
        chosen: set[int],
    ) -> None:
        """Draws a column per action, for many actions."""
        left, top, right, bottom = box
        count = len(probabilities)
        base, height = bottom - 24, bottom - 24 - top
        edges = np.linspace(left, right, count + 1).astype(int)
        gap = 1 if (right - left) // count >= 4 else 0
        draw.rectangle((left, top, right - 1, base - 1), fill=_TRACK)
        for i, probability in enumerate(probabilities.tolist()):
            x0, x1 = int(edges[i]), max(int(edges[i]), int(edges[i + 1]) - 1 - gap)
            if length := bar_length(probability, height):
                draw.rectangle((x0, base - length, x1, base - 1), fill=ACCENT if i in chosen else BAR)
            if i in chosen:
                draw.rectangle((x0, base + 2, x1, base + 5), fill=ACCENT)
        font = self._fonts[11]
        draw.text((left, base + 8), labels[0], _FAINT, font)
        draw.text((right, base + 8), labels[-1], _FAINT, font, anchor="ra")
        best = int(probabilities.argmax())
        draw.text((left + 6, top + 4), f"{labels[best]}: {probabilities[best]:.1%}", _INK, self._fonts[13])

    def _densities(
        self,
        draw: ImageDraw.ImageDraw,
        box: Rectangle,
        part: ActionPart,
        parameters: Mapping[str, NDArray[Any]],
        action: NDArray[Any],
    ) -> int:
        """Draws the densities of the first components, as many as fit, and returns their number."""
        space, kind = part.space, part.kind
        assert isinstance(space, Box)
        flat = {name: array.ravel() for name, array in parameters.items()}
        shown = components(action.size, box[3] - box[1])
        height = min(_HUMP, (box[3] - box[1]) // shown)
        for i, value in enumerate(action.ravel()[:shown].tolist()):
            bounds = float(space.low.ravel()[i]), float(space.high.ravel()[i])
            own = {name: float(array[i]) for name, array in flat.items()}
            top = box[1] + i * height
            row = (box[0] + _LABEL - 16, top, box[2], top + height)
            self._density(draw, row, part.start + i, kind, own, bounds, value)
        return shown

    def _density(
        self,
        draw: ImageDraw.ImageDraw,
        row: Rectangle,
        index: int,
        kind: DistributionKind,
        parameters: Mapping[str, float],
        bounds: tuple[float, float],
        action: float,
    ) -> None:
        left, top, right, bottom = row
        wide = bottom - top >= 48  # leaves space for numbers below the axis
        base = bottom - (22 if wide else 5)
        centre, lower, upper = centre_and_spread(kind, parameters, bounds)
        low, high = self._range(index, bounds, centre - 2.5 * (centre - lower), centre + 2.5 * (upper - centre))

        def x(value: float) -> int:
            return round(left + (min(max(value, low), high) - low) / (high - low) * (right - 1 - left))

        draw.rectangle((left, top + 4, right - 1, base - 1), fill=_TRACK)
        at = np.linspace(low, high, 2 * (right - left) + 1)[1::2]  # pixels' centres
        curve = density(kind, parameters, bounds, at)
        peak = curve.max()
        for column, share in enumerate(curve / peak if peak > 0 else curve):
            if length := bar_length(share, base - top - 8):
                draw.line((left + column, base - length, left + column, base - 1), fill=_light(BAR))
        thick = 2 if wide else 1
        draw.rectangle((x(lower), base - 2 * thick, x(upper), base - 1), fill=BAR)
        draw.line((x(centre), top + 4, x(centre), base - 1), fill=BAR, width=thick)
        draw.rectangle((x(action) - thick, top + 4, x(action) + thick - 1, base - 1), fill=ACCENT)
        draw.text((left - 10, (top + base) // 2), str(index), _INK, self._fonts[13], anchor="rm")
        if wide:
            font = self._fonts[11]
            draw.text((left, base + 4), f"{low:.3g}", _FAINT, font)
            draw.text((right, base + 4), f"{high:.3g}", _FAINT, font, anchor="ra")
            middle = (left + right) // 2
            draw.text((middle, base + 4), f"{action:+.3g}", ACCENT, self._fonts[13], anchor="ma")

    def _range(self, index: int, bounds: tuple[float, float], lower: float, upper: float) -> tuple[float, float]:
        """Returns the range of the axis: the bounds, or the widest range so far if there are none."""
        if np.isfinite(bounds).all():
            beside = 0.0 if bounds[0] < bounds[1] else max(1.0, 1e-6 * abs(bounds[0]))  # single-valued component
            return bounds[0] - beside, bounds[1] + beside
        known = self._ranges.get(index, (lower, upper))
        low = bounds[0] if np.isfinite(bounds[0]) else min(known[0], lower)
        high = bounds[1] if np.isfinite(bounds[1]) else max(known[1], upper)
        self._ranges[index] = low, high if high > low else low + 1
        return self._ranges[index]


def _scale(width: int, height: int) -> float:
    """Returns the scale of a picture, for a height that is easy to see and a width that fits a screen."""
    if height >= _SMALLEST:
        scale = min(1.0, _LARGEST / height)
    elif height < _SMALLEST // 2:
        scale = float(-(-_SMALLEST // height))
    else:
        scale = _SMALLEST / height
    return min(scale, _WIDEST / width)


def _each(what: str, shown: int, count: int) -> str:
    return f"each {what}" if shown == count else f"the first {shown} {what}s"


def _ink(ended: str) -> tuple[int, int, int]:
    return ACCENT if ended == "terminated" else BAR


def _light(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (round(0.45 * c + 0.55 * 255) for c in colour)
    return red, green, blue


def _fit(text: str, font: Any, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> Any:
    # matplotlib includes a readable font; Pillow's is the fallback.
    found = importlib.util.find_spec("matplotlib")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.exists():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)

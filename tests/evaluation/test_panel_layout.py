"""However many parts and components an action has, a frame shows what fits, and says how many that are."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from PIL import ImageDraw

from pgkeras.evaluation.frames import ACCENT, Moment, Painter
from pgkeras.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec

OBSERVATION = Box(np.zeros(3), np.ones(3), np.dtype(np.float32))
GAUSSIAN = DistributionKind.DIAGONAL_GAUSSIAN
BOUNDED = (GAUSSIAN, DistributionKind.SQUASHED_GAUSSIAN, DistributionKind.KUMARASWAMY)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written into pictures."""
    texts: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def text(self: Any, xy: Any, text: str, *rest: Any, **more: Any) -> None:
        texts.append(text)
        draw(self, xy, text, *rest, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


def box(count: int, low: float = -1.5, high: float = 1.5) -> Box:
    return Box(np.full(count, low), np.full(count, high), np.dtype(np.float32))


def painted(spec: PolicySpec, picture: np.ndarray, **parameters: np.ndarray) -> np.ndarray:
    action = np.zeros(sum(part.stop - part.start for part in spec.parts))
    paint = Painter(spec, "Test-v0", "test", picture)
    frame = paint.paint(picture, Moment(1, 0, 0.0, parameters, action))
    assert frame.shape == (paint.height, paint.width, 3)
    assert len(np.unique(frame[-20:, -370:].reshape(-1, 3), axis=0)) == 1  # nothing runs out of the panel
    return frame


def marks(frame: np.ndarray) -> int:
    """How many actions are marked, below each other: by bars of orange that are higher than a number's digits."""
    orange = (frame[168:, -372:] == ACCENT).all(axis=-1).sum(axis=1) >= 2
    edges = np.flatnonzero(np.diff(np.concatenate([[False], orange, [False]]).astype(int)))
    return int((edges[1::2] - edges[::2] >= 15).sum())


@pytest.mark.parametrize("height", [pytest.param(84, marks=pytest.mark.slow), 480])
def test_any_number_of_components(height: int, written: list[str]) -> None:
    picture = np.full((height, 100, 3), 200, np.uint8)
    for count in range(1, 201):
        written.clear()
        spec = PolicySpec(OBSERVATION, box(count), GAUSSIAN)
        frame = painted(spec, picture, mean=np.zeros(count), stddev=np.ones(count))
        numbers = [int(text) for text in written[written.index("1") + 3 :] if text.isdigit()]
        assert numbers == list(range(len(numbers)))
        if len(numbers) == count:
            assert "density of each component; orange is taken" in written
        else:
            assert len(numbers) > 16
            assert f"density of the first {len(numbers)} components; orange is taken" in written
        if count <= 8:
            assert marks(frame) == count


def test_any_number_of_parts(written: list[str]) -> None:
    kinds = [
        Discrete(2),
        box(2),
        MultiBinary((3,)),
        Discrete(40),
        MultiDiscrete(np.array([2, 3]), np.zeros(2)),
        box(30),
    ]
    picture = np.full((84, 100, 3), 200, np.uint8)
    for count in range(1, 61):
        for spaces in ([Discrete(2)] * count, [kinds[i % len(kinds)] for i in range(count)], [box(1)] * count):
            written.clear()
            spec = PolicySpec.by_default(OBSERVATION, Dict({f"part{i:02d}": space for i, space in enumerate(spaces)}))
            parameters = {}
            for part in spec.parts:
                for name, output in part.outputs.items():
                    values = part.space.n if isinstance(part.space, Discrete) else 5
                    size = values if isinstance(part.space, Discrete | MultiDiscrete) else part.stop - part.start
                    parameters[output] = np.ones(size) if name == "stddev" else np.full(size, 0.5)
            painted(spec, picture, **parameters)
            heads = [text for text in written if text.startswith("part")]
            assert [head[:6] for head in heads] == [f"part{i:02d}" for i in range(len(heads))]
            if len(heads) == count:
                assert "distribution of each part; orange is taken" in written
            else:
                assert len(heads) > 6
                assert f"distribution of the first {len(heads)} parts; orange is taken" in written
            for i, head in enumerate(heads):
                shown = re.fullmatch(r"part\d\d(?:, the first (\d+) components)?", head)
                assert shown is not None
                assert shown[1] is None or (spaces[i].shape == (30,) and int(shown[1]) < 30)


@pytest.mark.parametrize(
    ("space", "labels"),
    [
        (Discrete(40, start=100), ["100", "139", "107: 80.0%"]),
        (MultiDiscrete(np.array([20, 20]), np.array([0, 5])), ["0: 0", "1: 24", "0: 7: 80.0%"]),
    ],
)
def test_columns_are_called_as_the_actions_are(space: Any, labels: list[str], written: list[str]) -> None:
    probabilities = np.full(40, 0.2 / 39)
    probabilities[7] = 0.8
    picture = np.full((84, 100, 3), 200, np.uint8)
    moment = Moment(1, 0, 0.0, {"probabilities": probabilities}, np.array(space.start))
    Painter(PolicySpec.by_default(OBSERVATION, space), "Test-v0", "test", picture).paint(picture, moment)
    assert written[-4:-1] == labels


@pytest.mark.parametrize("kind", BOUNDED)
@pytest.mark.parametrize("value", [0.0, 2.0, -3e38])
def test_a_component_that_can_be_one_value_only(kind: DistributionKind, value: float) -> None:
    spec = PolicySpec(OBSERVATION, Box(np.array([-1.0, value]), np.array([1.0, value]), np.dtype(np.float32)), kind)
    half = {name: np.array([0.5, 0.5]) for name in ("mean", "stddev", "a", "b")}
    assert marks(painted(spec, np.zeros((480, 300, 3), np.uint8), **half)) == 2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_grey_picture_is_shown_in_grey(dtype: type) -> None:
    grey = np.linspace(0, 255 if dtype is np.uint8 else 1, 84 * 84).reshape(84, 84, 1).astype(dtype)
    spec = PolicySpec(OBSERVATION, Discrete(2), DistributionKind.CATEGORICAL)
    half = np.array([0.5, 0.5])
    frames = [painted(spec, picture, probabilities=half) for picture in (grey, grey.repeat(3, axis=-1))]
    np.testing.assert_array_equal(*frames)


@pytest.mark.parametrize("dtype", [np.int64, np.int16])
def test_integers_of_any_size_are_pixels(dtype: type) -> None:
    pixels = np.arange(84 * 84 * 3).reshape(84, 84, 3).astype(np.uint8)
    spec = PolicySpec(OBSERVATION, Discrete(2), DistributionKind.CATEGORICAL)
    half = np.array([0.5, 0.5])
    frames = [painted(spec, picture, probabilities=half) for picture in (pixels, pixels.astype(dtype))]
    np.testing.assert_array_equal(*frames)

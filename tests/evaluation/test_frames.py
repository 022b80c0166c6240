"""Densities against their own integrals, and what is drawn against the numbers that it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pgkeras.evaluation.densities import centre_and_spread, density
from pgkeras.evaluation.frames import ACCENT, BAR, Moment, Painter, bar_length
from pgkeras.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from pgkeras.spaces.spec import DistributionKind, PolicySpec

INF = float("inf")
OBSERVATION = Box(np.zeros(3), np.ones(3), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("kind", "parameters", "bounds"),
    [
        (DistributionKind.DIAGONAL_GAUSSIAN, {"mean": 0.3, "stddev": 0.7}, (-INF, 1.0)),
        (DistributionKind.SQUASHED_GAUSSIAN, {"mean": 0.3, "stddev": 0.7}, (-2.0, 3.0)),
        (DistributionKind.SQUASHED_GAUSSIAN, {"mean": -1.0, "stddev": 0.4}, (-2.0, 3.0)),
        (DistributionKind.SQUASHED_GAUSSIAN, {"mean": 0.3, "stddev": 0.7}, (1.0, INF)),
        (DistributionKind.SQUASHED_GAUSSIAN, {"mean": 0.3, "stddev": 0.7}, (-INF, 1.0)),
        (DistributionKind.SQUASHED_GAUSSIAN, {"mean": 0.3, "stddev": 0.7}, (-INF, INF)),
        (DistributionKind.KUMARASWAMY, {"a": 2.0, "b": 3.5}, (-0.4, 0.4)),
        (DistributionKind.KUMARASWAMY, {"a": 1.2, "b": 1.5}, (0.0, 9.0)),
    ],
)
def test_a_density_integrates_to_the_quantiles(
    kind: DistributionKind, parameters: dict[str, float], bounds: tuple[float, float]
) -> None:
    unbounded = kind is DistributionKind.DIAGONAL_GAUSSIAN  # its actions are clipped, its density is not
    ends = (-INF, INF) if unbounded else bounds
    edges = np.linspace(max(ends[0], -12), min(ends[1], 14), 400_001)
    middles = (edges[1:] + edges[:-1]) / 2
    mass = np.cumsum(density(kind, parameters, bounds, middles)) * (edges[1] - edges[0])
    assert mass[-1] == pytest.approx(1, abs=1e-4)
    centre, lower, upper = centre_and_spread(kind, parameters, bounds)
    quantiles = np.interp([lower, centre, upper], edges[1:], mass)
    np.testing.assert_allclose(quantiles, [0.158655, 0.5, 0.841345], atol=2e-4)
    if not unbounded:
        assert density(kind, parameters, bounds, np.array([bounds[0] - 1, bounds[1] + 1])).tolist() == [0, 0]


def painter(action_space: Any, kind: DistributionKind, height: int = 480) -> tuple[Painter, np.ndarray]:
    picture = np.full((height, 300, 3), 200, np.uint8)
    return Painter(PolicySpec(OBSERVATION, action_space, kind), "Test-v0", "test", picture), picture


def is_colour(frame: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.asarray((frame == colour).all(axis=-1))


@pytest.mark.parametrize("probability", [0.0, 0.001, 0.25, 1 / 3, 1.0])
def test_a_bar_is_as_long_as_the_probability(probability: float) -> None:
    paint, picture = painter(Discrete(3, start=4), DistributionKind.CATEGORICAL)
    rest = (1 - probability) / 2
    moment = Moment(1, 0, 0.0, {"probabilities": np.array([probability, rest, rest])}, np.array(5))
    frame = paint.paint(picture, moment)
    for i, (p, colour) in enumerate(((probability, BAR), (rest, ACCENT), (rest, BAR))):
        left, top, right, bottom = paint.bar(i, 3)
        filled = is_colour(frame[top:bottom, left:right], colour)
        assert filled.sum() == (bottom - top) * round(p * (right - left))
        assert filled[:, : bar_length(p, right - left)].all()


def test_many_actions_are_columns_as_high_as_the_probabilities() -> None:
    paint, picture = painter(Discrete(64), DistributionKind.CATEGORICAL)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(64) * 0.2)
    frame = paint.paint(picture, Moment(1, 0, 0.0, {"probabilities": probabilities}, np.array(7)))
    filled = is_colour(frame, BAR) | is_colour(frame, ACCENT)
    left, right = paint.bar(0, 1)[0] - 44, paint.bar(0, 1)[2] + 56
    edges = np.linspace(left, right, 65).astype(int)
    base, height = paint.height - 48, paint.height - 48 - 168
    heights = [int(filled[:base, edge].sum()) for edge in edges[:-1]]
    assert heights == [round(p * height) for p in probabilities]
    assert is_colour(frame, ACCENT)[:, edges[7]].any()
    assert not is_colour(frame, ACCENT)[:, edges[8]].any()


def test_components_have_their_own_bars() -> None:
    paint, picture = painter(MultiDiscrete(np.array([2, 3]), np.array([0, 5])), DistributionKind.MULTI_CATEGORICAL)
    probabilities = np.array([0.25, 0.75, 0.5, 0.125, 0.375])
    frame = paint.paint(picture, Moment(1, 0, 0.0, {"probabilities": probabilities}, np.array([1, 5])))
    taken = [is_colour(frame[slice(*paint.bar(i, 5)[1::2])], ACCENT).any() for i in range(5)]
    assert taken == [False, True, True, False, False]
    paint, picture = painter(MultiBinary((2, 2)), DistributionKind.MULTI_BERNOULLI)
    bits = Moment(1, 0, 0.0, {"probabilities": np.full((2, 2), 0.5)}, np.array([[1, 0], [0, 1]]))
    frame = paint.paint(picture, bits)
    taken = [is_colour(frame[slice(*paint.bar(i, 4)[1::2])], ACCENT).any() for i in range(4)]
    assert taken == [True, False, False, True]


def test_parts_stand_below_each_other_and_the_frame_is_as_high_as_they_are() -> None:
    aim = Box(np.full(2, -1.0), np.full(2, 1.0), np.dtype(np.float32))
    space = Dict({"aim": aim, "hands": Tuple((MultiBinary((2,)), Discrete(3, start=1))), "move": Discrete(2)})
    spec = PolicySpec.by_default(OBSERVATION, space)
    picture = np.full((200, 300, 3), 200, np.uint8)
    paint = Painter(spec, "Test-v0", "test", picture)
    parameters = {
        "mean_aim": np.array([0.5, -0.5]),
        "stddev_aim": np.array([0.1, 0.1]),
        "probabilities_hands_0": np.array([0.25, 0.75]),
        "probabilities_hands_1": np.array([0.5, 0.125, 0.375]),
        "probabilities_move": np.array([1.0, 0.0]),
    }
    frame = paint.paint(picture, Moment(1, 0, 0.0, parameters, np.array([0.5, -0.5, 0, 1, 3, 0])))
    heights = [22 + rows * 24 for rows in (4, 2, 3, 2)]  # a head each; two rows for a density, one for a probability
    assert frame.shape[0] == paint.height == 168 + sum(heights) + 24
    tops = 168 + np.cumsum([0, *heights[:-1]]) + 22
    left, right = paint.bar(0, 1)[0], paint.bar(0, 1)[2]
    for top, probabilities, chosen in (
        (tops[1], [0.25, 0.75], [1]),
        (tops[2], [0.5, 0.125, 0.375], [2]),
        (tops[3], [1.0, 0.0], [0]),
    ):
        for i, probability in enumerate(probabilities):
            row = frame[top + i * 24 + 12, left:right]
            colour = ACCENT if i in chosen else BAR
            assert is_colour(row, colour).sum() == round(probability * (right - left))


@pytest.mark.parametrize("action", [-2.0, -0.5, 1.25])
def test_a_continuous_action_is_marked_where_it_is(action: float) -> None:
    space = Box(np.full(2, -2.0), np.full(2, 2.0), np.dtype(np.float32))
    paint, picture = painter(space, DistributionKind.DIAGONAL_GAUSSIAN)
    parameters = {"mean": np.array([0.5, 0.0]), "stddev": np.array([0.25, 1.0])}
    frame = paint.paint(picture, Moment(1, 0, 0.0, parameters, np.array([action, 0.0])))
    left, right = paint.bar(0, 1)[0] - 16, paint.bar(0, 1)[2] + 56  # of the axis
    row = frame[168 + 12, left - 2 : right + 2]
    orange = np.flatnonzero(is_colour(row, ACCENT)) - 2
    assert abs(orange.mean() - (action + 2) / 4 * (right - left)) <= 1.5
    blue = np.flatnonzero(is_colour(row, BAR)) - 2
    assert abs(blue.mean() - 2.5 / 4 * (right - left)) <= 1.5
    spread = np.flatnonzero(is_colour(frame[168 + 92 - 22 - 1, left:right], BAR))
    if not np.isclose(abs(action - 0.5), 0.25, atol=0.1):
        assert abs((spread.max() - spread.min()) - 0.5 / 4 * (right - left)) <= 3


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((10, 10), (400, 400)),
        ((400, 600), (400, 600)),
        ((1000, 500), (640, 320)),
        ((300, 601), (400, 801)),
        ((4, 200), (400, 1920)),
    ],
)
def test_pictures_are_brought_to_a_size_that_can_be_seen(shape: tuple[int, int], size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    picture = generator.random((*shape, 3))  # as MinAtar gives them: numbers from 0 to 1
    spec = PolicySpec(OBSERVATION, Discrete(2), DistributionKind.CATEGORICAL)
    paint = Painter(spec, "A" * 100, "B" * 200, picture)
    frame = paint.paint(picture, Moment(1, 10, 3.5, ended="truncated"))
    assert frame.shape == (paint.height, paint.width, 3)
    assert (paint.height % 2, paint.width % 2) == (0, 0)
    assert (paint.height, paint.width) == (size[0] + size[0] % 2, (size[1] + 400 + 1) // 2 * 2)
    if shape == (10, 10):  # squares stay squares
        expected = (np.clip(picture, 0, 1) * 255).astype(np.uint8).repeat(40, axis=0).repeat(40, axis=1)
        np.testing.assert_array_equal(frame[:400, :400], expected)

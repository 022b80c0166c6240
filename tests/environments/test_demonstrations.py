"""Properties of the demonstration environments, verified by enumeration."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import benchmarks.environments  # noqa: F401 - registers them
from benchmarks.environments.masks import KnightsTour
from benchmarks.environments.memory import FORWARD, LEFT, RIGHT, TMaze
from benchmarks.environments.text import Instructed

IDS = [
    "TMaze-v0",
    "MemoryS7-v0",
    "KnightsTour-v0",
    "KnightsTourDict-v0",
    "GoToDoor-v0",
    "Fetch-v0",
    "GoToLocal-v0",
    "MinAtar/Breakout-v1",
]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.filterwarnings("ignore:.*WARN")
def test_observations_are_in_their_spaces_and_depend_on_the_seed(env_id: str) -> None:
    # gymnasium's checker ignores masks, and MinAtar does not use gymnasium's generator.
    if env_id in ("TMaze-v0", "MemoryS7-v0", "GoToDoor-v0", "Fetch-v0", "GoToLocal-v0"):
        check_env(gymnasium.make(env_id, disable_env_checker=True).unwrapped, skip_render_check=True)
    records = [list(play(env_id, seed)) for seed in (3, 3, 4)]
    assert len(records[0]) > 40
    same, other = ([_equal(a, b) for a, b in zip(records[0], record, strict=False)] for record in records[1:])
    assert all(same)
    assert not all(other)


def play(env_id: str, seed: int) -> Any:
    env = gymnasium.make(env_id, disable_env_checker=True)
    generator = np.random.default_rng(0)
    for episode in range(12):
        observation, info = env.reset(seed=seed) if episode == 0 else env.reset()
        done = False
        while not done:
            assert env.observation_space.contains(observation), observation
            yield observation
            mask = observation.get("action_mask") if isinstance(observation, dict) else info.get("action_mask")
            legal = np.arange(env.action_space.n) if mask is None else np.flatnonzero(mask)
            observation, reward, terminated, truncated, info = env.step(int(generator.choice(legal)))
            assert isinstance(reward, float | int)
            done = terminated or truncated
        assert env.observation_space.contains(observation)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(_equal(a[name], b[name]) for name in a)
    return bool(np.array_equal(a, b))


def expected_return(length: int, policy: np.ndarray) -> float:
    """Returns that of a memoryless policy ``[4 observations, 3 actions]``, from the distribution over places."""
    total = 0.0
    for sign in (LEFT, RIGHT):
        place = np.zeros(length + 1)
        place[0] = 0.5
        for _ in range(4 * (length + 1)):
            at_start, at_end = policy[sign], policy[3]
            total += place[-1] * at_end[sign]
            forward = np.full(length, policy[2, FORWARD])
            forward[0] = at_start[FORWARD]
            moved = place[:-1] * forward
            place = np.append(place[:-1] - moved, place[-1] * at_end[FORWARD])
            place[1:] += moved
    return float(total)


@pytest.mark.parametrize("length", [1, 2, 7])
def test_no_memoryless_policy_returns_more_than_one_half_in_the_maze(length: int) -> None:
    returns = [expected_return(length, np.eye(3)[list(choices)]) for choices in itertools.product(range(3), repeat=4)]
    assert len(returns) == 81
    assert max(returns) == 0.5
    random = np.random.default_rng(0).dirichlet(np.ones(3), size=(2000, 4))
    assert max(expected_return(length, policy) for policy in random) <= 0.5


def test_the_enumeration_matches_the_maze() -> None:
    policy = np.array([[0.1, 0.2, 0.7], [0.3, 0.2, 0.5], [0.2, 0.1, 0.7], [0.3, 0.4, 0.3]])
    env = TMaze(length=3)
    generator = np.random.default_rng(0)
    returns = []
    for episode in range(4000):
        observation, _ = env.reset(seed=episode)
        done, total = False, 0.0
        while not done:
            action = generator.choice(3, p=policy[int(observation.argmax())])
            observation, reward, terminated, truncated, _ = env.step(action)
            total += reward
            done = terminated or truncated
        returns.append(total)
    # Returns are 0 or 1, so 4 standard errors of a mean of 4000 are below 0.032.
    assert abs(np.mean(returns) - expected_return(3, policy)) < 0.032


@pytest.mark.parametrize("sign", [LEFT, RIGHT])
def test_remembering_the_sign_returns_1(sign: int) -> None:
    env = TMaze(length=5)
    observation, _ = env.reset(options={"sign": sign})
    remembered = int(observation.argmax())
    for _ in range(5):
        observation, reward, terminated, truncated, _ = env.step(np.int64(FORWARD))
        assert (reward, terminated, truncated) == (0.0, False, False)
    assert observation.tolist() == [0, 0, 0, 1]
    assert env.step(np.int64(remembered))[1:4] == (1.0, True, False)


def test_the_maze_truncates_long_episodes() -> None:
    env = TMaze(length=2)
    env.reset(seed=0)
    ends = [env.step(np.int64(LEFT))[2:4] for _ in range(12)]
    assert ends == [(False, False)] * 11 + [(False, True)]


def leaps(square: int, size: int) -> set[int]:
    """Returns the squares at distance 1 along one axis and 2 along the other: the definition of a knight's move."""
    row, column = divmod(square, size)
    squares = itertools.product(range(size), repeat=2)
    return {r * size + c for r, c in squares if {abs(r - row), abs(c - column)} == {1, 2}}


def test_looking_around_and_remembering_solves_the_hallway() -> None:
    # Uses only the agent's view: the object in the room is visible from the start, or after one turn.
    returns = []
    for seed in range(60):
        env = gymnasium.make("MemoryS7-v0", disable_env_checker=True)
        seen, _ = env.reset(seed=seed)
        x = env.unwrapped.agent_pos[0]
        turns = [] if x == 1 else [0, 1]
        sought = _thing(seen, 2, 6) if x == 1 else None
        for action in [*turns, *[2] * (5 - x)]:
            seen, reward, ended, _, _ = env.step(action)
            if action == 0:
                sought = _thing(seen, 4 - x, 5)
            assert reward == 0
            assert not ended
        left, right = _thing(seen, 1, 6), _thing(seen, 5, 6)
        assert {left, right} == {"key", "ball"}
        env.step(0 if left == sought else 1)
        _, reward, ended, _, _ = env.step(2)
        assert ended
        assert reward > 0
        returns.append(reward)
    assert np.mean(returns) == pytest.approx(0.978, abs=0.001)


def _thing(seen: np.ndarray, column: int, row: int) -> str | None:
    """Returns the object in a square of the view; the agent is at column 3 and row 6, and looks towards row 0."""
    return {5: "key", 6: "ball"}.get(int(seen[column, row, :11].argmax()))


def test_the_end_of_a_hallway_of_size_11_does_not_reveal_the_object_in_the_room() -> None:
    # The last two squares are entered facing ahead. The views from them, in all directions, depend only on the object
    # at the end. Both objects are drawn independently, so no memoryless policy is right more than half of the time.
    views: dict[str, np.ndarray] = {}
    counts = dict.fromkeys(itertools.product(("key", "ball"), repeat=2), 0)
    for seed in range(200):
        first, end, seen = _look_around(11, seed)
        counts[first, end] += 1
        np.testing.assert_array_equal(seen, views.setdefault(end, seen))
    assert all(30 < count < 70 for count in counts.values())  # 50 expected, with a standard deviation of 6


@pytest.mark.parametrize("size", [7, 9])
def test_looking_back_in_a_shorter_hallway_reveals_the_object(size: int) -> None:
    views = {(first, end): seen for first, end, seen in (_look_around(size, seed) for seed in range(30))}
    assert len(views) == 4
    assert len({seen[-2].tobytes() for seen in views.values()}) == 4  # from the last square, facing back


def _look_around(size: int, seed: int) -> tuple[str, str, np.ndarray]:
    """Returns the objects in the room and at the left end, and all views from the hallway's last two squares."""
    env = gymnasium.make("MemoryS7-v0", size=size, disable_env_checker=True)
    env.reset(seed=seed)
    room, middle = env.unwrapped, size // 2
    seen = []
    for x, facing in itertools.product((size - 3, size - 2), range(4)):
        room.agent_pos, room.agent_dir = (x, middle), facing
        seen.append(room.gen_obs()["image"])
    return room.grid.get(1, middle - 1).type, room.grid.get(size - 2, middle - 2).type, np.array(seen)


@pytest.mark.parametrize("size", [5, 8])
def test_hallways_of_other_sizes_are_rejected(size: int) -> None:
    with pytest.raises(ValueError, match=f"size: expected 7 or a larger odd number, got {size}"):
        gymnasium.make("MemoryS7-v0", size=size)


@pytest.mark.parametrize("mask_in", ["info", "observation"])
def test_the_mask_allows_moves_to_unvisited_squares(mask_in: Any) -> None:
    env = KnightsTour(size=6, mask_in=mask_in)
    generator = np.random.default_rng(1)
    for start in range(36):
        observation, info = env.reset(options={"start": start})
        visited, square, terminated = {start}, start, False
        while True:
            board, mask = (
                (observation, info["action_mask"])
                if mask_in == "info"
                else (observation["observation"], observation["action_mask"])
            )
            legal = leaps(square, 6) - visited
            assert set(np.flatnonzero(mask).tolist()) == legal
            assert set(np.flatnonzero(board[:36]).tolist()) == visited
            assert np.flatnonzero(board[36:]).tolist() == [square]
            assert terminated == (not legal)
            if terminated:
                break
            illegal = int(generator.choice(sorted(set(range(36)) - legal)))
            with pytest.raises(ValueError, match=f"illegal action {illegal}"):
                env.step(np.int64(illegal))
            square = int(generator.choice(sorted(legal)))
            visited.add(square)
            observation, reward, terminated, truncated, info = env.step(np.int64(square))
            assert (reward, truncated) == (1.0, False)


def test_a_complete_tour_exists_from_every_square() -> None:
    for start in range(36):
        env = KnightsTour(size=6)
        env.reset(options={"start": start})
        steps = [env.step(np.int64(square)) for square in _tour(start, 6)]
        assert sum(reward for _, reward, *_ in steps) == 35
        assert [terminated for _, _, terminated, *_ in steps] == [False] * 34 + [True]


def _tour(start: int, size: int) -> list[int]:
    """Finds a tour by Warnsdorff's rule (go where the fewest moves lead on) with random tie-breaking and retries."""
    generator = np.random.default_rng(0)
    neighbors = [leaps(square, size) for square in range(size * size)]
    while True:
        path, left = [start], set(range(size * size)) - {start}
        while free := sorted(neighbors[path[-1]] & left):
            onward = np.array([len(neighbors[square] & left) for square in free])
            path.append(int(generator.choice(np.array(free)[onward == onward.min()])))
            left.remove(path[-1])
        if not left:
            return path[1:]


def test_only_the_mission_names_the_door() -> None:
    # The same room with each of its four doors as the target: only the mission differs.
    env = gymnasium.make("GoToDoor-v0", disable_env_checker=True)
    blank = gymnasium.make("GoToDoor-v0", blank=True, disable_env_checker=True)
    colours = set()
    for seed in range(60):
        observation, _ = env.reset(seed=seed)
        room = env.unwrapped
        doors = {cell.color: i for i, cell in enumerate(room.grid.grid) if cell is not None and cell.type == "door"}
        assert len(doors) == 4
        colour = observation["mission"].split()[3]
        assert observation["mission"] == f"go to the {colour} door"
        assert room.target_pos == divmod(doors[colour], room.grid.width)[::-1]
        colours.add(sorted(doors, key=doors.__getitem__).index(colour))
        withheld, _ = blank.reset(seed=seed)
        assert withheld["mission"] == ""
        np.testing.assert_array_equal(withheld["image"], observation["image"])
        beside = [[abs(x - i % 5) + abs(y - i // 5) for i in doors.values()] for x in (1, 2, 3) for y in (1, 2, 3)]
        assert max(distances.count(1) for distances in beside) == 1  # no square is next to two doors
    assert colours == {0, 1, 2, 3}


def test_planes_encode_minigrids_values() -> None:
    env = gymnasium.make("GoToDoor-v0", disable_env_checker=True)
    observation, _ = env.reset(seed=1)
    task = env
    while not isinstance(task, Instructed):
        task = task.env
    raw = task.unwrapped.gen_obs()["image"]
    planes = observation["image"]
    assert planes.dtype == np.uint8
    assert (planes.sum(axis=-1) == 3).all()
    np.testing.assert_array_equal(planes[..., :11].argmax(-1), raw[..., 0])
    np.testing.assert_array_equal(planes[..., 11:17].argmax(-1), raw[..., 1])
    np.testing.assert_array_equal(planes[..., 17:].argmax(-1), raw[..., 2])


def test_done_is_rewarded_next_to_the_right_door_only() -> None:
    paid = []
    for seed in range(400):
        env = gymnasium.make("GoToDoor-v0", disable_env_checker=True)
        env.reset(seed=seed)
        room = env.unwrapped
        beside = sum(abs(a - b) for a, b in zip(room.agent_pos, room.target_pos, strict=True)) == 1
        _, reward, terminated, _, _ = env.step(3)
        assert terminated
        assert reward == pytest.approx(1 - 0.9 / 100 if beside else 0)
        paid.append(beside)
    assert 20 < sum(paid) < 80  # 1/9 of 400: 44 expected


def test_fetching_the_named_object_is_rewarded_and_only_the_mission_names_it() -> None:
    alike = pays = 0
    for seed in range(300):
        env = gymnasium.make("Fetch-v0", disable_env_checker=True)
        withheld = gymnasium.make("Fetch-v0", blank=True, disable_env_checker=True)
        observation, _ = env.reset(seed=seed)
        np.testing.assert_array_equal(withheld.reset(seed=seed)[0]["image"], observation["image"])
        room = env.unwrapped
        things = [
            (i, cell) for i, cell in enumerate(room.grid.grid) if cell is not None and cell.type in ("key", "ball")
        ]
        assert len(things) == 2
        named = [f"{cell.color} {cell.type}" for _, cell in things]
        assert sum(observation["mission"].endswith(name) for name in named) == 1 + (named[0] == named[1])
        alike += named[0] == named[1]
        # The agent stands in front of the first object, faces it, and picks it up.
        place, _ = things[0]
        room.agent_pos, room.agent_dir = (place % 5 - 1, place // 5), 0
        _, reward, terminated, _, _ = env.step(3)
        assert terminated
        right = observation["mission"].endswith(named[0])
        assert reward == pytest.approx(1 - 0.9 / 125 if right else 0)
        pays += right
    assert 8 < alike < 46  # 1/12 of 300: 25 expected
    assert 118 < pays < 206  # 13/24 of 300: 162.5 expected, with a standard deviation of 8.6


@pytest.mark.parametrize("blank", [False, True])
def test_go_to_local_matches_babyais_level(blank: bool) -> None:
    # Compared with BabyAI's environment: rooms, missions, rewards and ends are equal. Squares are equal except those
    # that BabyAI's walls hide, which are empty or walls.
    ours = gymnasium.make("GoToLocal-v0", blank=blank, disable_env_checker=True)
    theirs = gymnasium.make("BabyAI-GoToLocal-v0", disable_env_checker=True)
    generator = np.random.default_rng(0)
    unseen, empty, wall = 0, 1, 2
    returns, hidden = [], 0
    for seed in range(60):
        (seen, _), (raw, _) = ours.reset(seed=seed), theirs.reset(seed=seed)
        ended = False
        while not ended:
            assert seen["mission"] == ("" if blank else raw["mission"])
            kinds = seen["image"][..., :11].argmax(-1)
            colours = seen["image"][..., 11:17].argmax(-1)
            visible = raw["image"][..., 0] != unseen
            np.testing.assert_array_equal(kinds[visible], raw["image"][..., 0][visible])
            np.testing.assert_array_equal(colours[visible], raw["image"][..., 1][visible])
            assert np.isin(kinds[~visible], (empty, wall)).all()
            hidden += (~visible).sum()
            action = int(generator.integers(3))
            seen, *outcome, _ = ours.step(action)
            raw, *expected, _ = theirs.step(action)
            assert outcome == expected
            ended = expected[1] or expected[2]
        returns.append(expected[0])
    assert hidden > 0
    assert 0.1 < np.mean(returns) < 0.4  # with random actions

"""Environments that test what a policy can learn: memory, masks, text, images, many actions, mixtures.

Importing this module registers them. From the project's folder, every command accepts them::

    pgkeras train benchmarks.environments:TMaze-v0

docs/environments.md describes them and the best returns. The MinAtar and MiniGrid environments need the packages
``minatar`` and ``minigrid`` (dependency group ``benchmarks``) when they are created.
"""

from __future__ import annotations

import gymnasium

gymnasium.register("TMaze-v0", "benchmarks.environments.memory:TMaze", reward_threshold=0.95)
gymnasium.register("KnightsTour-v0", "benchmarks.environments.masks:KnightsTour")
gymnasium.register("KnightsTourDict-v0", "benchmarks.environments.masks:KnightsTour", kwargs={"mask_in": "observation"})
gymnasium.register("Fetch-v0", "benchmarks.environments.text:make_fetch")
gymnasium.register("FetchBlank-v0", "benchmarks.environments.text:make_fetch", kwargs={"blank": True})
gymnasium.register("GoToDoor-v0", "benchmarks.environments.text:make_go_to_door")
gymnasium.register("GoToLocal-v0", "benchmarks.environments.text:make_go_to_local")
gymnasium.register("GoToLocalBlank-v0", "benchmarks.environments.text:make_go_to_local", kwargs={"blank": True})
gymnasium.register("MemoryS7-v0", "benchmarks.environments.hallway:make_memory")
gymnasium.register("MemoryS11-v0", "benchmarks.environments.hallway:make_memory", kwargs={"size": 11})
gymnasium.register("LongTMaze-v0", "benchmarks.environments.memory:TMaze", reward_threshold=0.95, kwargs={"length": 50})
gymnasium.register("Aim-v0", "benchmarks.environments.choices:Aim")
gymnasium.register("RockPaperScissors-v0", "benchmarks.environments.choices:RockPaperScissors")
gymnasium.register("SwitchedCorridor-v0", "benchmarks.environments.choices:SwitchedCorridor")

# Registered like MinAtar does, without importing it, which takes two seconds because it imports seaborn.
for _game in ("asterix", "breakout", "freeway", "seaquest", "space_invaders"):
    gymnasium.register(
        f"MinAtar/{_game.title().replace('_', '')}-v1",
        "minatar.gym:BaseEnv",
        kwargs={"game": _game, "use_minimal_action_set": True},
    )

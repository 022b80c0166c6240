"""Compares the cart in C# with gymnasium's, step by step until it falls."""

import subprocess

import gymnasium
import numpy as np

START = (0.01, -0.02, 0.03, -0.04)
ACTIONS = "0110100110010110" + "1" * 20

command = ["mono", "build/trajectory.exe", ACTIONS]
result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
cart = gymnasium.make("CartPole-v1").unwrapped
cart.reset(seed=0)
cart.state = START
for step, (action, line) in enumerate(zip(ACTIONS, result.stdout.splitlines(), strict=True)):
    observation, _, terminated, _, _ = cart.step(int(action))
    *numbers, fallen = (float(word) for word in line.split())
    assert np.allclose(numbers, observation, rtol=1e-6, atol=1e-7), f"step {step}: {numbers}, not {observation}"
    assert bool(fallen) == terminated, f"step {step}: terminated is {terminated}"
    if terminated:
        break
else:
    raise AssertionError("the cart never fell, so the end of an episode was not compared")

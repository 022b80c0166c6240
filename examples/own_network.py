"""A custom network: any keras.Model from observations to features.

Run it with: python examples/own_network.py
"""

import keras

import pgkeras


def main() -> None:
    observation = keras.Input((4,))
    x = keras.layers.Dense(32, activation="relu")(observation)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.Dense(32, activation="relu")(x)
    network = keras.Model(observation, x)

    training = pgkeras.train("CartPole-v1", network=network, seed=1)
    print(f"mean return of the last 100 episodes: {training.mean_return_100:.1f}")


if __name__ == "__main__":
    main()

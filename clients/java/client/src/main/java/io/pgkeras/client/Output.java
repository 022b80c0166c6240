package io.pgkeras.client;

import io.pgkeras.v1.ActOutput;

/** An optional part of a response; the action is always included. */
public enum Output {
  /** ln P(action | observation). */
  LOG_PROB(ActOutput.ACT_OUTPUT_LOG_PROB),
  /** The entropy of the distribution, in nats. */
  ENTROPY(ActOutput.ACT_OUTPUT_ENTROPY),
  /** The parameters of the distribution. */
  DISTRIBUTION(ActOutput.ACT_OUTPUT_DISTRIBUTION),
  /** The action that {@link ActOptions#greedy} would have returned. */
  GREEDY_ACTION(ActOutput.ACT_OUTPUT_GREEDY_ACTION);

  final ActOutput message;

  Output(ActOutput message) {
    this.message = message;
  }
}

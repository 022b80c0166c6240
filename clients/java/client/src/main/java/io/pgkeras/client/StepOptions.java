package io.pgkeras.client;

import java.time.Duration;

/**
 * Options of a session's step.
 *
 * @param episodeStart whether each observation is the first of an episode. If null, an observation
 *     starts an episode if the step before it was terminated or truncated, as with Gymnasium's
 *     next-step autoreset
 * @param actionMask as in {@link ActOptions#withActionMask}; null allows all actions
 * @param timeout the timeout of the step; that of the session if null
 */
public record StepOptions(boolean[] episodeStart, Tensor actionMask, Duration timeout) {
  /** No options. */
  public static final StepOptions NONE = new StepOptions(null, null, null);

  /** Marks observations as the first of an episode. */
  public static StepOptions starts(boolean... episodeStart) {
    return NONE.withEpisodeStart(episodeStart);
  }

  /** The same with other starts. */
  public StepOptions withEpisodeStart(boolean... value) {
    return new StepOptions(value, actionMask, timeout);
  }

  /** The same with another mask. */
  public StepOptions withActionMask(Tensor value) {
    return new StepOptions(episodeStart, value, timeout);
  }

  /** The same with another timeout. */
  public StepOptions withTimeout(Duration value) {
    return new StepOptions(episodeStart, actionMask, value);
  }
}

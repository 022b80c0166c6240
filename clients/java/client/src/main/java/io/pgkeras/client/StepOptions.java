package io.pgkeras.client;

import java.time.Duration;

/**
 * What a step of a session may say besides the observation and what the last action led to.
 *
 * @param episodeStart whether each observation is the first of an episode; when null, those are
 *     that follow a step which said terminated or truncated, as with Gymnasium's next-step
 *     autoreset
 * @param actionMask as in {@link ActOptions#withActionMask}; null allows all
 * @param timeout how long the step may take; the session's own when null
 */
public record StepOptions(boolean[] episodeStart, Tensor actionMask, Duration timeout) {
  /** Nothing besides. */
  public static final StepOptions NONE = new StepOptions(null, null, null);

  /** The observations that are true here are the first of an episode. */
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

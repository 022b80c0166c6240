package io.pgkeras.client;

import io.grpc.Deadline;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * The deadline that all calls of one client method share.
 *
 * @param within the timeout that the deadline was computed from, for messages
 * @param deadline the deadline
 * @param result the future of the method. Once it is complete, for example because it was
 *     cancelled, the calls end and are not retried
 */
record Due(Duration within, Deadline deadline, CompletableFuture<?> result) {
  /** The longest timeout. In nanoseconds it fits into a long. */
  static final Duration LONGEST = Duration.ofDays(365);

  static Due in(Duration within, CompletableFuture<?> result) {
    return new Due(within, deadline(within), result);
  }

  /** Returns the deadline that is a timeout from now. */
  static Deadline deadline(Duration within) {
    return Deadline.after(bounded(within).toNanos(), TimeUnit.NANOSECONDS);
  }

  /** Clamps a timeout to 0 ... LONGEST. */
  static Duration bounded(Duration time) {
    return time.isNegative() ? Duration.ZERO : min(time, LONGEST);
  }

  static Duration min(Duration one, Duration other) {
    return one.compareTo(other) < 0 ? one : other;
  }

  static Duration max(Duration one, Duration other) {
    return one.compareTo(other) > 0 ? one : other;
  }
}

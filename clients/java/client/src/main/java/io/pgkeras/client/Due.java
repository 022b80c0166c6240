package io.pgkeras.client;

import io.grpc.Deadline;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * When the calls of one method of the client have to be done.
 *
 * @param within how long they were given, for messages
 * @param deadline when that is over
 * @param result what they are made for: once it is complete, as when its caller has cancelled it,
 *     they end and none is made again
 */
record Due(Duration within, Deadline deadline, CompletableFuture<?> result) {
  /** The longest time that is waited: there is room to count it in nanoseconds. */
  static final Duration LONGEST = Duration.ofDays(365);

  static Due in(Duration within, CompletableFuture<?> result) {
    return new Due(within, deadline(within), result);
  }

  /** The deadline of what begins now. */
  static Deadline deadline(Duration within) {
    return Deadline.after(bounded(within).toNanos(), TimeUnit.NANOSECONDS);
  }

  /** The nearest time that can be waited. */
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

package io.pgkeras.client;

import java.time.Duration;

/** The server is at capacity. */
public final class ServerBusyException extends PolicyServiceException {
  private static final long serialVersionUID = 1;
  private final Duration retryAfter;

  ServerBusyException(String message, Duration retryAfter, Throwable cause) {
    super(message, cause);
    this.retryAfter = retryAfter;
  }

  /** Returns how long to wait before a retry. */
  public Duration retryAfter() {
    return retryAfter;
  }
}

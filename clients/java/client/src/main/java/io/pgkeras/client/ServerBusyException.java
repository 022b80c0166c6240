package io.pgkeras.client;

import java.time.Duration;

/** The server is full. */
public final class ServerBusyException extends PolicyServiceException {
  private static final long serialVersionUID = 1;
  private final Duration retryAfter;

  ServerBusyException(String message, Duration retryAfter, Throwable cause) {
    super(message, cause);
    this.retryAfter = retryAfter;
  }

  /** How long to wait before trying again. */
  public Duration retryAfter() {
    return retryAfter;
  }
}

package io.pgkeras.client;

import java.time.Duration;
import java.util.Optional;

/** Nobody answers at the address, or the server is starting or stopping; it ends a session. */
public final class ServerUnavailableException extends PolicyServiceException {
  private static final long serialVersionUID = 1;
  private final Duration retryAfter;

  ServerUnavailableException(String message, Duration retryAfter, Throwable cause) {
    super(message, cause);
    this.retryAfter = retryAfter;
  }

  /** How long to wait before trying again, if the server said so. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }
}

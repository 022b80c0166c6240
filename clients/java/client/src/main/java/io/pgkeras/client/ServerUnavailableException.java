package io.pgkeras.client;

import java.time.Duration;
import java.util.Optional;

/** No server responds at the address, or it is starting or stopping. Ends a session. */
public final class ServerUnavailableException extends PolicyServiceException {
  private static final long serialVersionUID = 1;
  private final Duration retryAfter;

  ServerUnavailableException(String message, Duration retryAfter, Throwable cause) {
    super(message, cause);
    this.retryAfter = retryAfter;
  }

  /** Returns how long the server asks to wait before a retry, if it says so. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }
}

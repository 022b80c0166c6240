package io.pgkeras.client;

/** No response arrived in time. */
public final class DeadlineExceededException extends PolicyServiceException {
  private static final long serialVersionUID = 1;

  DeadlineExceededException(String message, Throwable cause) {
    super(message, cause);
  }
}

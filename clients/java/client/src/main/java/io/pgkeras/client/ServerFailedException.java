package io.pgkeras.client;

/** The server has a defect, whose reason is in its log, or does not offer the call. */
public final class ServerFailedException extends PolicyServiceException {
  private static final long serialVersionUID = 1;

  ServerFailedException(String message, Throwable cause) {
    super(message, cause);
  }
}

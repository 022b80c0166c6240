package io.pgkeras.client;

/** An internal error of the server (its log has the reason), or a call that is not implemented. */
public final class ServerFailedException extends PolicyServiceException {
  private static final long serialVersionUID = 1;

  ServerFailedException(String message, Throwable cause) {
    super(message, cause);
  }
}

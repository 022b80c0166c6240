package io.pgkeras.client;

/**
 * The policy has another spec than when it was described: describe it again, and see whether the
 * simulator still fits it.
 */
public final class SpecMismatchException extends PolicyServiceException {
  private static final long serialVersionUID = 1;

  SpecMismatchException(String message, Throwable cause) {
    super(message, cause);
  }
}

package io.pgkeras.client;

/**
 * The policy's spec has changed since the client described it. Call {@link PolicyClient#describe()}
 * again and check that the simulator still matches.
 */
public final class SpecMismatchException extends PolicyServiceException {
  private static final long serialVersionUID = 1;

  SpecMismatchException(String message, Throwable cause) {
    super(message, cause);
  }
}

package io.pgkeras.client;

/** The call's token is missing or unknown to the server; see {@link PolicyClient.Builder#token}. */
public final class UnauthenticatedException extends PolicyServiceException {
  private static final long serialVersionUID = 1;

  UnauthenticatedException(String message, Throwable cause) {
    super(message, cause);
  }
}

package io.pgkeras.client;

/** The policy, version or label does not exist. The message lists those that do. */
public final class PolicyNotFoundException extends PolicyServiceException {
  private static final long serialVersionUID = 1;

  PolicyNotFoundException(String message, Throwable cause) {
    super(message, cause);
  }
}

package io.pgkeras.client;

/** There is no such policy, version or label; the message lists what there is. */
public final class PolicyNotFoundException extends PolicyServiceException {
  private static final long serialVersionUID = 1;

  PolicyNotFoundException(String message, Throwable cause) {
    super(message, cause);
  }
}

package io.pgkeras.client;

/**
 * A call to a policy server failed. The cause is gRPC's exception, if there was one.
 *
 * <pre>
 * PolicyServiceException
 * ├── InvalidRequestException       the request is invalid; names the field
 * ├── PolicyNotFoundException       no such policy, version or label
 * ├── SpecMismatchException         the policy's spec has changed since it was described
 * ├── ServerBusyException           the server is at capacity; says when to retry
 * ├── DeadlineExceededException     no response arrived in time
 * ├── ServerUnavailableException    no server responds, or it is starting or stopping
 * ├── UnauthenticatedException      the token is missing or unknown
 * └── ServerFailedException         an internal error of the server
 * </pre>
 */
public abstract sealed class PolicyServiceException extends RuntimeException
    permits InvalidRequestException,
        PolicyNotFoundException,
        SpecMismatchException,
        ServerBusyException,
        DeadlineExceededException,
        ServerUnavailableException,
        UnauthenticatedException,
        ServerFailedException {
  private static final long serialVersionUID = 1;

  PolicyServiceException(String message, Throwable cause) {
    super(message, cause);
  }
}

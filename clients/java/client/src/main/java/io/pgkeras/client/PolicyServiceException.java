package io.pgkeras.client;

/**
 * A call to a policy server failed. Its cause is gRPC's own exception, if there was one.
 *
 * <pre>
 * PolicyServiceException
 * ├── InvalidRequestException       the request is wrong; names the field
 * ├── PolicyNotFoundException       no such policy, version or label
 * ├── SpecMismatchException         the policy has changed since it was described
 * ├── ServerBusyException           full; says when to come back
 * ├── DeadlineExceededException     no answer came in time
 * ├── ServerUnavailableException    nobody answers there, or the server is starting or stopping
 * ├── UnauthenticatedException      the token is missing or unknown
 * └── ServerFailedException         the server has a defect
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

package io.pgkeras.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Optional;

/**
 * Translates the status of failed calls to exceptions. The server sends a google.rpc.Status in the
 * trailer grpc-status-details-bin.
 */
final class Failures {
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
  private static final String DOMAIN = "pgkeras";
  private static final Duration DEFAULT_RETRY_AFTER = Duration.ofSeconds(1);
  // Parts of the messages of gRPC servers and of grpc-java for a message that is too large. Such a
  // status has no details.
  private static final String SIZE_REFUSAL = "larger than max";
  private static final String OWN_SIZE_REFUSAL = "exceeds maximum size";

  private Failures() {}

  /** Returns the exception of a failed call, with a message that says what to do. */
  static PolicyServiceException translate(Throwable error, String target, Duration timeout) {
    if (error instanceof PolicyServiceException typed) {
      return typed;
    }
    io.grpc.Status grpc = io.grpc.Status.fromThrowable(error);
    byte[] encoded = details(error);
    Status status = read(grpc, encoded);
    if (encoded != null) {
      return of(status, error); // the server wrote the message
    }
    if (status.getCode() == Code.DEADLINE_EXCEEDED_VALUE) {
      return late(target, timeout, error);
    }
    if (status.getCode() == Code.CANCELLED_VALUE) {
      return new ServerUnavailableException(
          "%s has cut the call off: it is stopping, or has far more calls than it can take; try again in a moment"
              .formatted(target),
          null,
          error);
    }
    if (status.getCode() == Code.UNAVAILABLE_VALUE) {
      String why =
          grpc.getCause() == null
              ? status.getMessage()
              : status.getMessage() + ": " + grpc.getCause();
      return new ServerUnavailableException(
          "no policy server answers at %s; start one with: pgkeras serve, or check the address, and whether it speaks TLS (%s)"
              .formatted(target, why),
          null,
          error);
    }
    return of(status, error);
  }

  /** Whether the server wrote the status of a failed call, rather than gRPC. */
  static boolean isFromServer(Throwable error) {
    return details(error) != null;
  }

  private static byte[] details(Throwable error) {
    Metadata trailers = io.grpc.Status.trailersFromThrowable(error);
    return trailers == null ? null : trailers.get(DETAILS);
  }

  static DeadlineExceededException late(String target, Duration timeout, Throwable cause) {
    return new DeadlineExceededException(
        "no answer from %s within %s s; is it the right address? If the server is just slow, give the call a longer timeout"
            .formatted(target, timeout.toMillis() / 1e3),
        cause);
  }

  /**
   * Returns the status of a call: the one in its trailer if it can be decoded, else only code and
   * message.
   */
  static Status read(io.grpc.Status grpc, byte[] encoded) {
    if (encoded != null) {
      try {
        Status status = Status.parseFrom(encoded);
        if (status.getCode() == grpc.getCode().value()) {
          return status;
        }
      } catch (InvalidProtocolBufferException mangled) {
        // The trailer was corrupted on the way. Code and message are still valid.
      }
    }
    String message = grpc.getDescription() == null ? "" : grpc.getDescription();
    return Status.newBuilder().setCode(grpc.getCode().value()).setMessage(message).build();
  }

  /** Returns the exception for a status. */
  static PolicyServiceException of(Status status, Throwable error) {
    Throwable cause = error == null ? new StatusRuntimeException(toGrpc(status)) : error;
    String message = status.getMessage();
    Optional<Duration> retryAfter = retryAfter(status);
    Code code = Optional.ofNullable(Code.forNumber(status.getCode())).orElse(Code.UNKNOWN);
    return switch (code) {
      case INVALID_ARGUMENT -> invalid(status, cause);
      case NOT_FOUND -> new PolicyNotFoundException(message, cause);
      case FAILED_PRECONDITION -> new SpecMismatchException(message, cause);
      case RESOURCE_EXHAUSTED ->
          message.contains(SIZE_REFUSAL) || message.contains(OWN_SIZE_REFUSAL)
              ? new InvalidRequestException(
                  "message",
                  "a message within the size limits that GetPolicy states",
                  message,
                  cause)
              : new ServerBusyException(message, retryAfter.orElse(DEFAULT_RETRY_AFTER), cause);
      case DEADLINE_EXCEEDED -> new DeadlineExceededException(message, cause);
      case UNAVAILABLE, CANCELLED ->
          new ServerUnavailableException(message, retryAfter.orElse(null), cause);
      case UNAUTHENTICATED -> new UnauthenticatedException(message, cause);
      case INTERNAL -> new ServerFailedException(message, cause);
      default -> new ServerFailedException(code + ": " + message, cause);
    };
  }

  /** Returns how long the server asks to wait. A delay of zero or less counts as none. */
  private static Optional<Duration> retryAfter(Status status) {
    return detail(status, RetryInfo.class)
        .map(RetryInfo::getRetryDelay)
        .map(delay -> wholeSeconds(delay.getSeconds()).plusNanos(delay.getNanos()))
        .map(Due::bounded)
        .filter(delay -> !delay.isZero());
  }

  /** Returns a number of seconds, clamped to the longest timeout in both directions. */
  private static Duration wholeSeconds(long seconds) {
    long longest = Due.LONGEST.toSeconds();
    return Duration.ofSeconds(Math.max(-longest, Math.min(seconds, longest)));
  }

  private static InvalidRequestException invalid(Status status, Throwable cause) {
    String accepted = "one that the server accepts";
    BadRequest bad = detail(status, BadRequest.class).orElse(null);
    if (bad == null || bad.getFieldViolationsCount() == 0) {
      return new InvalidRequestException("request", accepted, status.getMessage(), cause);
    }
    BadRequest.FieldViolation violation = bad.getFieldViolations(0);
    return detail(status, ErrorInfo.class)
        .filter(info -> info.getDomain().equals(DOMAIN))
        .map(ErrorInfo::getMetadataMap)
        .map(
            named ->
                new InvalidRequestException(
                    violation.getField(),
                    named.getOrDefault("expected", ""),
                    named.getOrDefault("got", ""),
                    cause))
        .orElseGet(
            () ->
                new InvalidRequestException(
                    violation.getField(), accepted, violation.getDescription(), cause));
  }

  private static <T extends Message> Optional<T> detail(Status status, Class<T> kind) {
    for (Any packed : status.getDetailsList()) {
      if (packed.is(kind)) {
        try {
          return Optional.of(packed.unpack(kind));
        } catch (InvalidProtocolBufferException mangled) {
          // A corrupted detail counts as missing.
        }
      }
    }
    return Optional.empty();
  }

  private static io.grpc.Status toGrpc(Status status) {
    return io.grpc.Status.fromCodeValue(status.getCode()).withDescription(status.getMessage());
  }
}

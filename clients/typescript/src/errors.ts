import { type ServiceError, status } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RetryInfo } from "./generated/google/rpc/error_details.js";
import { Status } from "./generated/google/rpc/status.js";

/** A call to a policy server failed. The base class of all errors of this package. */
export class PolicyServiceError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A field of the request is invalid. */
export class InvalidRequestError extends PolicyServiceError {
  constructor(
    /** Path of the field in the request, such as `observation.tensor.shape`. */
    readonly field: string,
    readonly expected: string,
    readonly got: string,
    options?: ErrorOptions,
  ) {
    super(`${field}: expected ${expected}, got ${got}`, options);
  }
}

/** The policy, version or label does not exist. The message lists those that do. */
export class PolicyNotFoundError extends PolicyServiceError {}

/**
 * The policy's spec has changed since the client described it. Call `describe` again and check that the simulator still
 * matches.
 */
export class SpecMismatchError extends PolicyServiceError {}

/** The server is at capacity. */
export class ServerBusyError extends PolicyServiceError {
  constructor(
    message: string,
    /** How long to wait before a retry. */
    readonly retryAfterMs: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** No response arrived in time. */
export class DeadlineExceededError extends PolicyServiceError {}

/** No server responds at the address, the server is starting or stopping, or the client or session has been closed. */
export class ServerUnavailableError extends PolicyServiceError {
  constructor(
    message: string,
    /** How long the server asks to wait before a retry, if it says so. */
    readonly retryAfterMs?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The call's token is missing or unknown to the server. */
export class UnauthenticatedError extends PolicyServiceError {}

/** An internal error of the server (its log has the reason), or a call that it does not implement. */
export class ServerFailedError extends PolicyServiceError {}

const DETAILS_KEY = "grpc-status-details-bin";
const DOMAIN = "pgkeras";
const DEFAULT_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 365 * 24 * 3600 * 1000;
// Part of gRPC's message for a message that is too large. That status has no details.
const SIZE_REFUSAL = "larger than max";

/** Returns the typed error for a status. */
export function errorOfStatus(found: Status, cause?: unknown): PolicyServiceError {
  const message = found.message ?? "";
  const options = { cause };
  switch (found.code) {
    case status.INVALID_ARGUMENT:
      return invalidRequest(found, options);
    case status.NOT_FOUND:
      return new PolicyNotFoundError(message, options);
    case status.FAILED_PRECONDITION:
      return new SpecMismatchError(message, options);
    case status.RESOURCE_EXHAUSTED: {
      if (message.includes(SIZE_REFUSAL)) {
        const expected = "a message within the size limits that GetPolicy states";
        return new InvalidRequestError("message", expected, message, options);
      }
      return new ServerBusyError(message, retryAfter(found) ?? DEFAULT_RETRY_MS, options);
    }
    case status.DEADLINE_EXCEEDED:
      return new DeadlineExceededError(message, options);
    case status.UNAVAILABLE:
    case status.CANCELLED:
      return new ServerUnavailableError(message, retryAfter(found), options);
    case status.UNAUTHENTICATED:
      return new UnauthenticatedError(message, options);
    case status.INTERNAL:
      return new ServerFailedError(message, options);
    default:
      return new ServerFailedError(`${status[found.code ?? status.UNKNOWN]}: ${message}`, options);
  }
}

/** Returns the status of a failed call: the one in its trailer if it can be decoded, else only code and message. */
export function statusOf(code: number, message: string, trailer?: Uint8Array): Status {
  if (trailer !== undefined) {
    try {
      const found = Status.decode(trailer);
      if (found.code === code) {
        return found;
      }
    } catch {
      // The trailer was corrupted on the way. Code and message are still valid.
    }
  }
  return { code, message, details: [] };
}

/** Returns the typed error of a failed call, with a message that says what to do. */
export function translate(error: unknown, target: string, timeoutMs: number): PolicyServiceError {
  if (error instanceof PolicyServiceError) {
    return error;
  }
  if (!isServiceError(error)) {
    return new ServerUnavailableError(`the call to ${target} could not be made: ${error}`, undefined, { cause: error });
  }
  const trailer = trailerOf(error);
  const typed = errorOfStatus(statusOf(error.code, error.details, trailer), error);
  if (trailer !== undefined) {
    return typed; // the server wrote the message
  }
  if (typed instanceof DeadlineExceededError) {
    return late(target, timeoutMs, error);
  }
  if (error.code === status.CANCELLED) {
    const reason = "it is stopping, or has far more calls than it can take; try again in a moment";
    return new ServerUnavailableError(`${target} has cut the call off: ${reason}`, undefined, { cause: error });
  }
  if (typed instanceof ServerUnavailableError) {
    const advice = "start one with: pgkeras serve, or check the address, and whether it speaks TLS";
    const message = `no policy server answers at ${target}; ${advice} (${error.details})`;
    return new ServerUnavailableError(message, typed.retryAfterMs, { cause: error });
  }
  return typed;
}

/** Whether a call reached its deadline on this side, without a response from the server. */
export function isLate(error: unknown): boolean {
  return isServiceError(error) && error.code === status.DEADLINE_EXCEEDED && trailerOf(error) === undefined;
}

/** Runs a decoder. Turns its InvalidRequestError into a ServerFailedError, because the response is malformed. */
export function asServerFailure<T>(reading: () => T): T {
  try {
    return reading();
  } catch (error) {
    if (error instanceof InvalidRequestError) {
      throw unreadable(error.message);
    }
    throw error;
  }
}

/** Returns the error for a response that this client cannot decode. */
export function unreadable(reason: string): ServerFailedError {
  return new ServerFailedError(`the server's answer cannot be read: ${reason}; is the server newer than this client?`);
}

/**
 * Converts a number to an integer of the protocol.
 *
 * @throws {@link InvalidRequestError} if it is not a safe integer.
 */
export function integer(number: number, field: string): bigint {
  if (!Number.isSafeInteger(number)) {
    throw new InvalidRequestError(field, "an integer", `${number}`);
  }
  return BigInt(number);
}

/** Returns the error for a response that did not arrive in time. */
export function late(target: string, timeoutMs: number, cause?: unknown): DeadlineExceededError {
  const advice = "is it the right address? If the server is just slow, give the call a longer timeout";
  return new DeadlineExceededError(`no answer from ${target} within ${timeoutMs / 1000} s; ${advice}`, { cause });
}

function invalidRequest(found: Status, options: ErrorOptions): InvalidRequestError {
  const accepted = "one that the server accepts";
  const violation = detail(found, "google.rpc.BadRequest", BadRequest)?.fieldViolations?.[0];
  if (violation === undefined) {
    return new InvalidRequestError("request", accepted, found.message ?? "", options);
  }
  const info = detail(found, "google.rpc.ErrorInfo", ErrorInfo);
  if (info?.domain === DOMAIN) {
    const { expected = "", got = "" } = info.metadata ?? {};
    return new InvalidRequestError(violation.field ?? "", expected, got, options);
  }
  return new InvalidRequestError(violation.field ?? "", accepted, violation.description ?? "", options);
}

/** Returns how long the server asks to wait, in milliseconds. A delay of zero or less counts as none. */
function retryAfter(found: Status): number | undefined {
  const { seconds = 0n, nanos = 0 } = detail(found, "google.rpc.RetryInfo", RetryInfo)?.retryDelay ?? {};
  const delay = Number(seconds) * 1000 + nanos / 1e6;
  return delay > 0 ? Math.min(delay, LONGEST_RETRY_MS) : undefined;
}

function detail<T>(found: Status, type: string, codec: { decode(data: Uint8Array): T }): T | undefined {
  const packed = found.details?.find((one) => one.typeUrl?.endsWith(`/${type}`));
  try {
    return packed?.value && codec.decode(packed.value);
  } catch {
    return undefined; // a corrupted detail counts as missing
  }
}

/** Returns the serialized status that the server attached to an error, if any. */
function trailerOf(error: ServiceError): Uint8Array | undefined {
  const trailer = error.metadata.get(DETAILS_KEY)[0];
  return trailer instanceof Uint8Array ? trailer : undefined;
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error;
}

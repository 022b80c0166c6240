/// @file
/// The exceptions of the client.
///
/// @verbatim
///   Error                       a call to a policy server failed
///   ├── InvalidRequestError     a field of the request is invalid; says which, what was expected, what was received
///   ├── PolicyNotFoundError     no such policy, version or label
///   ├── SpecMismatchError       the policy's spec has changed since the client described it
///   ├── ServerBusyError         the server is at capacity; retry_after says how long to wait
///   ├── DeadlineExceededError   no response arrived in time
///   ├── ServerUnavailableError  no server responds at the address, or it is starting or draining
///   ├── UnauthenticatedError    the call's token is missing or unknown
///   └── ServerFailedError       an internal error of the server, or a call that it does not implement
/// @endverbatim
#pragma once

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>

namespace pgkeras {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class InvalidRequestError : public Error {
 public:
  /// field: path of the invalid field in the request message, such as observation.tensor.shape.
  InvalidRequestError(std::string field, std::string expected, std::string got)
      : Error(field + ": expected " + expected + ", got " + got),
        field(std::move(field)),
        expected(std::move(expected)),
        got(std::move(got)) {}

  const std::string field;
  const std::string expected;
  const std::string got;
};

class PolicyNotFoundError : public Error {
 public:
  using Error::Error;
};

class SpecMismatchError : public Error {
 public:
  using Error::Error;
};

class ServerBusyError : public Error {
 public:
  ServerBusyError(const std::string& message, std::chrono::nanoseconds retry_after)
      : Error(message), retry_after(retry_after) {}

  const std::chrono::nanoseconds retry_after;
};

class DeadlineExceededError : public Error {
 public:
  using Error::Error;
};

class ServerUnavailableError : public Error {
 public:
  explicit ServerUnavailableError(const std::string& message,
                                  std::optional<std::chrono::nanoseconds> retry_after = std::nullopt)
      : Error(message), retry_after(retry_after) {}

  const std::optional<std::chrono::nanoseconds> retry_after;  ///< how long the server asks to wait before a retry
};

class UnauthenticatedError : public Error {
 public:
  using Error::Error;
};

class ServerFailedError : public Error {
 public:
  using Error::Error;
};

}  // namespace pgkeras

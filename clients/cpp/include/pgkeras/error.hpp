// Every exception that the client throws on purpose.
//
//   Error                       a call to a policy server failed
//   ├── InvalidRequestError     the request is wrong: names the field, what was expected, what came
//   ├── PolicyNotFoundError     no such policy, version or label
//   ├── SpecMismatchError       the policy's spec is not the one that the caller was written for
//   ├── ServerBusyError         the server is full; retry_after says how long to wait
//   ├── DeadlineExceededError   no answer in time
//   ├── ServerUnavailableError  nobody answers at that address, or the server is starting or draining
//   ├── UnauthenticatedError    the call's token is missing or unknown
//   └── ServerFailedError       a defect of the server, or a call that it does not offer
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
  // field: path of the wrong field in the request message, such as observation.tensor.shape.
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

  const std::optional<std::chrono::nanoseconds> retry_after;  // if the server said when to come back
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

// Translates gRPC status codes to the subclasses of Error.
#pragma once

#include <grpcpp/support/status.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>

#include "pgkeras/v1/service.pb.h"

namespace pgkeras {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

// Upper limit of timeouts, within the range of the clock.
constexpr std::chrono::seconds longest_time = std::chrono::hours(24 * 365);

// Returns the deadline that is a timeout from now.
inline TimePoint after(std::chrono::nanoseconds time) {
  return Clock::now() + std::min<std::chrono::nanoseconds>(time, longest_time);
}

// The target and the timeout of a call, for error messages.
struct Call {
  std::string target;
  std::chrono::nanoseconds timeout;
};

// Throws the error for the status of a failed call.
[[noreturn]] void throw_error(const grpc::Status& status, const Call& call);

// Throws the error for one message of a session.
[[noreturn]] void throw_error(const v1::PlayError& error);

[[noreturn]] void throw_deadline_exceeded(const Call& call);

// Returns how long the server asks to wait before a retry, if it says so: more than zero, at most a year.
std::optional<std::chrono::nanoseconds> retry_delay(const grpc::Status& status);

}  // namespace pgkeras

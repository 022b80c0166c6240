// The one table between gRPC status codes and the children of Error.
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

// Nothing takes longer: the clock's range ends.
constexpr std::chrono::seconds longest_time = std::chrono::hours(24 * 365);

// When a time is over that begins now.
inline TimePoint after(std::chrono::nanoseconds time) {
  return Clock::now() + std::min<std::chrono::nanoseconds>(time, longest_time);
}

// Whom a call was made to, and how long it was given: what an error message needs.
struct Call {
  std::string target;
  std::chrono::nanoseconds timeout;
};

// Throws the error that a failed call means.
[[noreturn]] void throw_error(const grpc::Status& status, const Call& call);

// Throws the error that concerns one message of a session.
[[noreturn]] void throw_error(const v1::PlayError& error);

[[noreturn]] void throw_deadline_exceeded(const Call& call);

// After how long the server wants the call to be made again, if it said so: more than nothing, and a year at most.
std::optional<std::chrono::nanoseconds> retry_delay(const grpc::Status& status);

}  // namespace pgkeras

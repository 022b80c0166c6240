// The one table between gRPC status codes and the children of Error.
#pragma once

#include <grpcpp/support/status.h>

#include <chrono>
#include <optional>
#include <string>

#include "pgkeras/v1/service.pb.h"

namespace pgkeras {

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

// When the server wants the call to be made again, if it said so.
std::optional<std::chrono::nanoseconds> retry_delay(const grpc::Status& status);

}  // namespace pgkeras

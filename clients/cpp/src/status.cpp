#include "status.hpp"

#include <google/protobuf/any.pb.h>

#include <iomanip>
#include <sstream>

#include "error_details.pb.h"
#include "pgkeras/error.hpp"

namespace pgkeras {
namespace {

using std::chrono::nanoseconds;

// Part of gRPC's message for an oversized message. That status has no details.
constexpr auto size_refusal = "larger than max";
constexpr auto default_retry = std::chrono::seconds(1);

// A PlayError has the fields of a google.rpc.Status, under the same numbers.
std::optional<v1::PlayError> details_of(const grpc::Status& status) {
  v1::PlayError error;
  if (status.error_details().empty() || !error.ParseFromString(status.error_details()) ||
      error.code() != status.error_code()) {
    return std::nullopt;
  }
  return error;
}

template <typename Detail>
std::optional<Detail> find(const v1::PlayError& error) {
  const auto suffix = "/google.rpc." + Detail::descriptor()->name();
  for (const auto& packed : error.details()) {
    Detail detail;
    if (packed.type_url().ends_with(suffix) && detail.ParseFromString(packed.value())) return detail;
  }
  return std::nullopt;
}

std::optional<nanoseconds> retry_delay(const v1::PlayError& error) {
  const auto info = find<client::rpc::RetryInfo>(error);
  if (!info) return std::nullopt;
  const auto& delay = info->retry_delay();
  // The range of std::chrono::nanoseconds is smaller than that of a protobuf Duration.
  const auto seconds = std::clamp<std::int64_t>(delay.seconds(), -longest_time.count(), longest_time.count());
  const auto time = std::min<nanoseconds>(std::chrono::seconds(seconds) + nanoseconds(delay.nanos()), longest_time);
  if (time <= nanoseconds::zero()) return std::nullopt;
  return time;
}

[[noreturn]] void throw_invalid_request(const v1::PlayError& error) {
  const auto request = find<client::rpc::BadRequest>(error);
  if (!request || request->field_violations().empty()) {
    throw InvalidRequestError("request", "one that the server accepts", error.message());
  }
  const auto& violation = request->field_violations(0);
  const auto info = find<client::rpc::ErrorInfo>(error);
  if (!info || info->domain() != "pgkeras") {
    throw InvalidRequestError(violation.field(), "one that the server accepts", violation.description());
  }
  const auto& parts = info->metadata();
  const auto part = [&parts](const char* key) {
    const auto found = parts.find(key);
    return found == parts.end() ? std::string() : found->second;
  };
  throw InvalidRequestError(violation.field(), part("expected"), part("got"));
}

std::string seconds(nanoseconds timeout) {
  std::ostringstream out;
  out << std::setprecision(6) << std::chrono::duration<double>(timeout).count() << " s";
  return out.str();
}

}  // namespace

void throw_error(const v1::PlayError& error) {
  const auto& message = error.message();
  switch (error.code()) {
    case grpc::INVALID_ARGUMENT:
      throw_invalid_request(error);
    case grpc::NOT_FOUND:
      throw PolicyNotFoundError(message);
    case grpc::FAILED_PRECONDITION:
      throw SpecMismatchError(message);
    case grpc::RESOURCE_EXHAUSTED:
      if (message.find(size_refusal) != std::string::npos) {
        throw InvalidRequestError("message", "a message within the size limits that describe() states", message);
      }
      throw ServerBusyError(message, retry_delay(error).value_or(default_retry));
    case grpc::DEADLINE_EXCEEDED:
      throw DeadlineExceededError(message);
    case grpc::UNAVAILABLE:
    case grpc::CANCELLED:  // a stopping server cancels the remaining calls
      throw ServerUnavailableError(message, retry_delay(error));
    case grpc::UNAUTHENTICATED:
      throw UnauthenticatedError(message);
    case grpc::INTERNAL:
      throw ServerFailedError(message);
    default:
      throw ServerFailedError("status " + std::to_string(error.code()) + ": " + message);
  }
}

void throw_error(const grpc::Status& status, const Call& call) {
  if (const auto details = details_of(status)) throw_error(*details);
  switch (status.error_code()) {
    case grpc::DEADLINE_EXCEEDED:
      throw_deadline_exceeded(call);
    case grpc::CANCELLED:
      throw ServerUnavailableError(call.target +
                                   " has cut the call off: it is stopping, or has far more calls than it " +
                                   "can take; try again in a moment");
    case grpc::UNAVAILABLE:
      throw ServerUnavailableError("no policy server answers at " + call.target +
                                   "; start one with: pgkeras serve, or check the address (" + status.error_message() +
                                   ")");
    default:
      v1::PlayError error;
      error.set_code(status.error_code());
      error.set_message(status.error_message());
      throw_error(error);
  }
}

void throw_deadline_exceeded(const Call& call) {
  throw DeadlineExceededError("no answer from " + call.target + " within " + seconds(call.timeout) +
                              "; is it the right address? If the server is just slow, allow a longer timeout");
}

std::optional<nanoseconds> retry_delay(const grpc::Status& status) {
  const auto details = details_of(status);
  return details ? retry_delay(*details) : std::nullopt;
}

}  // namespace pgkeras

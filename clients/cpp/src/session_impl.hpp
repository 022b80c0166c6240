// A session's stream. The thread that makes the steps drives it, so there is no other thread and no lock.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "pgkeras/session.hpp"
#include "pgkeras/v1/service.grpc.pb.h"
#include "status.hpp"

namespace pgkeras {

struct Session::Impl {
  // The events of the completion queue.
  enum class Event : std::intptr_t { start = 1, write, read, finish };

  // first: the template of all messages, with the fields that only the first message carries.
  Impl(const std::shared_ptr<grpc::Channel>& channel, v1::PlayRequest first, Call call, const std::string& token);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl();

  v1::PlayRequest request(Observation&& observation, const std::optional<Outcomes>& outcomes,
                          const StepOptions& options);
  // Waits until the previous message has been sent, then sends.
  void write(const v1::PlayRequest& request, TimePoint deadline);
  // Returns the response to the last message, or nothing if it does not arrive in time. With patience, the deadline
  // restarts whenever a policy in training asks to wait.
  std::optional<v1::PlayResponse> read(TimePoint deadline, std::optional<Timeout> patience);
  std::optional<Actions> receive(TimePoint deadline, std::optional<Timeout> patience = {});
  void close(TimePoint deadline);
  // Handles one event. Returns false if none arrived in time.
  bool pump(TimePoint deadline);
  void handle(Event event, bool ok);
  void fail_if_over() const;
  [[noreturn]] void throw_late(const StepOptions& options) const;

  static void* tag(Event event) { return reinterpret_cast<void*>(static_cast<std::intptr_t>(event)); }

  std::unique_ptr<v1::PolicyService::Stub> stub;
  v1::PlayRequest next;
  Call call;
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::PlayRequest, v1::PlayResponse>> stream;
  grpc::Status status;
  v1::PlayResponse incoming;
  std::optional<v1::PlayResponse> answer;
  std::uint64_t id = 0;
  bool asked_to_wait = false;
  bool single = false;
  bool started = false;
  bool writing = false;
  bool finishing = false;
  bool finished = false;
  bool closed = false;
};

}  // namespace pgkeras

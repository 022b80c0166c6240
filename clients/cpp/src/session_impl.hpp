// A session's stream, driven by the thread that makes the steps: no other thread, no lock, no answer handed over.
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
  // What gRPC reports to the completion queue.
  enum class Event : std::intptr_t { start = 1, write, read, finish };

  // first: everything that does not change from message to message; what is read in the first alone, too.
  Impl(const std::shared_ptr<grpc::Channel>& channel, v1::PlayRequest first, Call call, const std::string& token);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl();

  v1::PlayRequest request(Observation&& observation, const std::optional<Outcomes>& outcomes,
                          const StepOptions& options);
  // Waits until the message before has left.
  void write(const v1::PlayRequest& request, TimePoint deadline);
  // The answer to the last message; nothing if it has not come in time. With patience, the deadline begins anew each
  // time that a policy in training asks for it.
  std::optional<v1::PlayResponse> read(TimePoint deadline, std::optional<Timeout> patience);
  std::optional<Actions> receive(TimePoint deadline, std::optional<Timeout> patience = {});
  void close(TimePoint deadline);
  // Handles one event; false if there was none in time.
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

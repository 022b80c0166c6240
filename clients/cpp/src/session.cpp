#include "pgkeras/session.hpp"

#include <thread>
#include <utility>

#include "messages.hpp"
#include "session_impl.hpp"

namespace pgkeras {
namespace {

v1::Tensor vector_of(v1::DataType dtype, std::span<const std::byte> bytes, std::size_t length) {
  v1::Tensor tensor;
  write_tensor(tensor, ArrayView(dtype, bytes, {static_cast<std::int64_t>(length)}));
  return tensor;
}

v1::Tensor flags(BoolView values) {
  return vector_of(v1::DATA_TYPE_BOOL, std::as_bytes(std::span(values)), values.size());
}

}  // namespace

Session::Impl::Impl(const std::shared_ptr<grpc::Channel>& channel, v1::PlayRequest first, Call call,
                    const std::string& token)
    : stub(v1::PolicyService::NewStub(channel)), next(std::move(first)), call(std::move(call)) {
  set_token(context, token);
  stream = stub->PrepareAsyncPlay(&context, &queue);
  stream->StartCall(tag(Event::start));
}

Session::Impl::~Impl() {
  context.TryCancel();
  queue.Shutdown();
  void* event = nullptr;
  bool ok = false;
  while (queue.Next(&event, &ok)) continue;  // pending events refer to this object
}

void Session::Impl::write(const v1::PlayRequest& request, TimePoint deadline) {
  while (!finished && (!started || writing)) {
    if (pump(deadline)) continue;
    throw DeadlineExceededError(call.target + " does not read what it is sent; the step has not been sent");
  }
  fail_if_over();
  writing = true;
  answer.reset();
  id = request.id();
  stream->Write(request, tag(Event::write));
  next.clear_policy();
  next.clear_spec_hash();
  next.clear_seed();
  next.clear_simulator();
}

std::optional<v1::PlayResponse> Session::Impl::read(TimePoint deadline, std::optional<Timeout> patience) {
  while (!answer && !finished) {
    if (!pump(deadline)) return std::nullopt;
    if (std::exchange(asked_to_wait, false) && patience) deadline = after(*patience);
  }
  if (!answer) fail_if_over();
  return std::exchange(answer, std::nullopt);
}

void Session::Impl::close(TimePoint deadline) {
  if (closed) return;  // gRPC aborts the process if a stream is ended twice
  while (!finished && (!started || writing) && pump(deadline)) continue;
  if (started && !writing && !finishing) {
    stream->WritesDone(tag(Event::write));
    writing = true;
  }
  while (!finished && pump(deadline)) continue;
  closed = true;
  context.TryCancel();
}

// gRPC waits in whole milliseconds, but some control loops have only that long for a step. The last milliseconds are
// therefore polled in shorter intervals.
bool Session::Impl::pump(TimePoint deadline) {
  constexpr auto coarse = std::chrono::milliseconds(2);
  constexpr auto fine = std::chrono::microseconds(20);
  void* event = nullptr;
  bool ok = false;
  for (auto left = deadline - Clock::now();; left = deadline - Clock::now()) {
    const auto wait = std::max<Clock::duration>(left - coarse, Clock::duration::zero());
    const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(wait).count();
    const auto until = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(nanos, GPR_TIMESPAN));
    if (queue.AsyncNext(&event, &ok, until) == grpc::CompletionQueue::GOT_EVENT) {
      handle(static_cast<Event>(reinterpret_cast<std::intptr_t>(event)), ok);
      return true;
    }
    if (left <= Clock::duration::zero()) return false;
    if (left <= coarse) std::this_thread::sleep_for(std::min<Clock::duration>(fine, left));
  }
}

void Session::Impl::handle(Event event, bool ok) {
  switch (event) {
    case Event::start:
      started = ok;
      break;
    case Event::write:
      writing = false;
      break;
    case Event::read:
      if (!ok || incoming.id() != id) break;  // a response to a step that timed out
      if (incoming.has_waiting()) {
        asked_to_wait = true;
      } else {
        answer = std::move(incoming);
      }
      break;
    case Event::finish:
      finished = true;
      return;
  }
  if (!ok) {
    if (!std::exchange(finishing, true)) stream->Finish(&status, tag(Event::finish));
  } else if (event != Event::write) {
    stream->Read(&incoming, tag(Event::read));
  }
}

void Session::Impl::fail_if_over() const {
  if (closed) throw ServerUnavailableError("the session has been closed; open a new one");
  if (!finished) return;
  if (!status.ok()) throw_error(status, call);
  throw ServerUnavailableError(call.target + " has ended the session; open a new one");
}

void Session::Impl::throw_late(const StepOptions& options) const {
  throw_deadline_exceeded({call.target, options.timeout.value_or(call.timeout)});
}

v1::PlayRequest Session::Impl::request(Observation&& observation, const std::optional<Outcomes>& outcomes,
                                       const StepOptions& options) {
  v1::PlayRequest request = next;
  request.set_id(id + 1);
  *request.mutable_observation() = std::move(observation).message();
  if (outcomes) {
    const auto& [reward, terminated, truncated] = *outcomes;
    *request.mutable_reward() = vector_of(v1::DATA_TYPE_FLOAT32, std::as_bytes(reward), reward.size());
    *request.mutable_terminated() = flags(terminated);
    *request.mutable_truncated() = flags(truncated);
  }
  if (options.episode_start) *request.mutable_episode_start() = flags(*options.episode_start);
  if (options.action_mask) write_tensor(*request.mutable_action_mask(), *options.action_mask);
  return request;
}

std::optional<Actions> Session::Impl::receive(TimePoint deadline, std::optional<Timeout> patience) {
  auto response = read(deadline, patience);
  if (!response) return std::nullopt;
  return read_step(std::move(*response), single);
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

void Session::send(Observation observation, const std::optional<Outcome>& outcome, const StepOptions& options) {
  std::optional<Outcomes> outcomes;
  std::uint8_t terminated = 0;
  std::uint8_t truncated = 0;
  if (outcome) {
    terminated = outcome->terminated;
    truncated = outcome->truncated;
    outcomes = Outcomes{{&outcome->reward, 1}, {&terminated, 1}, {&truncated, 1}};
  }
  auto request = impl_->request(std::move(observation), outcomes, options);
  add_batch_axis(*request.mutable_observation());
  if (request.action_mask().shape_size() == 1) add_batch_axis(*request.mutable_action_mask());
  impl_->single = true;
  impl_->write(request, after(options.timeout.value_or(impl_->call.timeout)));
}

std::optional<Actions> Session::receive(std::chrono::steady_clock::time_point deadline) {
  return impl_->receive(deadline);
}

Actions Session::step(Observation observation, const std::optional<Outcome>& outcome, const StepOptions& options) {
  const auto timeout = options.timeout.value_or(impl_->call.timeout);
  const auto deadline = after(timeout);
  send(std::move(observation), outcome, options);
  if (auto actions = impl_->receive(deadline, timeout)) return std::move(*actions);
  impl_->throw_late(options);
}

Actions Session::step(Observation observation, float reward, bool terminated, bool truncated,
                      const StepOptions& options) {
  return step(std::move(observation), Outcome{reward, terminated, truncated}, options);
}

Actions Session::step_batch(Observation observations, const std::optional<Outcomes>& outcomes,
                            const StepOptions& options) {
  const auto timeout = options.timeout.value_or(impl_->call.timeout);
  const auto deadline = after(timeout);
  impl_->single = false;
  impl_->write(impl_->request(std::move(observations), outcomes, options), deadline);
  if (auto actions = impl_->receive(deadline, timeout)) return std::move(*actions);
  impl_->throw_late(options);
}

Actions Session::step_batch(Observation observations, std::span<const float> rewards, BoolView terminated,
                            BoolView truncated, const StepOptions& options) {
  return step_batch(std::move(observations), Outcomes{rewards, terminated, truncated}, options);
}

bool Session::over() const { return impl_->finished || impl_->closed; }

void Session::close(Timeout timeout) { impl_->close(after(timeout)); }

}  // namespace pgkeras

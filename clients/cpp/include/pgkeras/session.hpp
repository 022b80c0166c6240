// One simulator's session with a policy server.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>

#include "pgkeras/actions.hpp"

namespace pgkeras {

// What the last action of one environment led to.
struct Outcome {
  float reward = 0;
  bool terminated = false;
  bool truncated = false;
};

// Bools of all environments, seen from outside: bytes of 0 or 1, or bools of C++ itself, such as std::array<bool, 4>.
// (std::vector<bool> has neither.)
struct BoolView : std::span<const std::uint8_t> {
  using span::span;

  BoolView(std::span<const std::uint8_t> bytes) : span(bytes) {}  // NOLINT(google-explicit-constructor)

  template <std::ranges::contiguous_range R>
  requires std::ranges::sized_range<R> && std::same_as < std::ranges::range_value_t<R>,
  bool > &&(sizeof(bool) == 1)
             BoolView(const R& values)  // NOLINT(google-explicit-constructor): meant wherever a view is asked for
      : span(reinterpret_cast<const std::uint8_t*>(std::ranges::data(values)), std::ranges::size(values)) {}
};

// What the last actions of all environments led to: one element each.
struct Outcomes {
  std::span<const float> reward;
  BoolView terminated;
  BoolView truncated;
};

struct StepOptions {
  // Which observations are the first of an episode, one element per environment. Left out, those that follow a
  // step which said `terminated` or `truncated`, as with Gymnasium's next-step autoreset.
  std::optional<BoolView> episode_start = {};
  std::optional<ArrayView> action_mask = {};  // bool [environments, mask_size]; or [mask_size] in `step`
  std::optional<Timeout> timeout = {};        // for this step; the session's own if not given
};

// An open session, made by Client::play; for one thread at a time. One version of the policy answers throughout it.
//
// Every method but the destructor throws:
//   InvalidRequestError      an argument is wrong: the session is as if the step had not been made; or the simulator
//                            that was declared is refused, which ends the session
//   ServerBusyError          the server is busy: the same step may be made again; or it has too many sessions, which
//                            ends this one
//   DeadlineExceededError    no answer in time: the step counts, and its action is lost; or, as its message then says,
//                            the server does not read and the step has not been sent, so that it does not count; or
//                            the server has ended the session because it was idle
//   ServerUnavailableError   the server is gone or stopping; open a new session
//   ServerFailedError        the answer is not one that this client reads: the step counts
//   another child of Error
// After an error, `over` tells whether the session goes on.
class Session {
 public:
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // Asks for an action for one environment: without an outcome at the first step of the session or of an episode.
  Actions step(Observation observation, const std::optional<Outcome>& outcome = {}, const StepOptions& options = {});
  Actions step(Observation observation, float reward, bool terminated, bool truncated, const StepOptions& options = {});

  // The same for many environments, as many in every call: observations have a leading axis.
  Actions step_batch(Observation observations, const std::optional<Outcomes>& outcomes = {},
                     const StepOptions& options = {});
  Actions step_batch(Observation observations, std::span<const float> rewards, BoolView terminated, BoolView truncated,
                     const StepOptions& options = {});

  // The two halves of `step`, for loops that must go on when no answer comes. `send` does not wait unless the server
  // has stopped reading; `receive` waits for the answer to the last step sent, and returns nothing if it is not there
  // in time. It may then be called again. A step that is sent before the last one is answered drops that answer.
  void send(Observation observation, const std::optional<Outcome>& outcome = {}, const StepOptions& options = {});
  std::optional<Actions> receive(std::chrono::steady_clock::time_point deadline);

  // Whether the session has ended, with an error or by `close`; a step then throws what ended it.
  bool over() const;

  // Tells the server that the session is over, and waits for it to agree for at most the given time. The destructor
  // hangs up instead.
  void close(Timeout timeout = std::chrono::seconds(1));

 private:
  friend class Client;
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace pgkeras

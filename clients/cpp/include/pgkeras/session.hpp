/// @file
/// A simulator's session with a policy server.
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

/// The outcome of the previous action of one environment.
struct Outcome {
  float reward = 0;
  bool terminated = false;
  bool truncated = false;
};

/// A view of the flags of all environments: bytes of 0 or 1, or C++ bools, such as std::array<bool, 4>.
/// (std::vector<bool> stores neither.)
struct BoolView : std::span<const std::uint8_t> {
  using span::span;

  BoolView(std::span<const std::uint8_t> bytes) : span(bytes) {}  // NOLINT(google-explicit-constructor)

  template <std::ranges::contiguous_range R>
  requires std::ranges::sized_range<R> && std::same_as < std::ranges::range_value_t<R>,
  bool > &&(sizeof(bool) == 1)
             BoolView(const R& values)  // NOLINT(google-explicit-constructor): implicit conversion is intended
      : span(reinterpret_cast<const std::uint8_t*>(std::ranges::data(values)), std::ranges::size(values)) {}
};

/// The outcomes of the previous actions of all environments, one element each.
struct Outcomes {
  std::span<const float> reward;
  BoolView terminated;
  BoolView truncated;
};

/// Options of a step.
struct StepOptions {
  /// Whether each observation is the first of an episode, one element per environment. Default: true if the step before
  /// it was `terminated` or `truncated`, as with Gymnasium's next-step autoreset.
  std::optional<BoolView> episode_start = {};
  std::optional<ArrayView> action_mask = {};  ///< bool [environments, mask_size]; or [mask_size] in `step`
  std::optional<Timeout> timeout = {};        ///< of this step; default: the session's timeout
};

/// An open session, created by Client::play. Not thread-safe. The policy version stays the same throughout it.
///
/// Check `over` after an error. Every method except the destructor may throw, also other subclasses of Error:
///
/// @throws InvalidRequestError if an argument is invalid (the session is as if the step had not been made), or if the
///     declared simulator is refused, which ends the session
/// @throws ServerBusyError if the server is busy (the same step may be retried), or if it has too many sessions, which
///     ends this one
/// @throws DeadlineExceededError if no response arrived in time (the step counts, and its action is lost); if
///     the server does not read and the step was not sent (the message says so, and the step does not count); or if the
///     server has ended the session because it was idle
/// @throws ServerUnavailableError if the server is unreachable or stopping; open a new session
/// @throws ServerFailedError if the response is malformed; the step counts
class Session {
 public:
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  /// Returns an action for one environment. Omit the outcome at the first step of the session or of an episode.
  Actions step(Observation observation, const std::optional<Outcome>& outcome = {}, const StepOptions& options = {});
  Actions step(Observation observation, float reward, bool terminated, bool truncated, const StepOptions& options = {});

  /// The same for many environments, the same number in every call. Observations have a leading batch axis.
  Actions step_batch(Observation observations, const std::optional<Outcomes>& outcomes = {},
                     const StepOptions& options = {});
  Actions step_batch(Observation observations, std::span<const float> rewards, BoolView terminated, BoolView truncated,
                     const StepOptions& options = {});

  /// The two halves of `step`, for loops that must continue without a response. `send` blocks only while the server
  /// does not read. `receive` waits for the response to the last step that was sent, and returns nothing if it does not
  /// arrive in time; it may then be called again. Sending another step before that drops the response.
  void send(Observation observation, const std::optional<Outcome>& outcome = {}, const StepOptions& options = {});
  std::optional<Actions> receive(std::chrono::steady_clock::time_point deadline);

  /// Whether the session has ended, by an error or by `close`. Later steps throw the error that ended it.
  bool over() const;

  /// Ends the session, and waits at most the given time until the server has ended it, too. The destructor cancels the
  /// session instead.
  void close(Timeout timeout = std::chrono::seconds(1));

 private:
  friend class Client;
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace pgkeras

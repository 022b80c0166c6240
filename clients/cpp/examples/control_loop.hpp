// A policy in a loop that must not wait: one tick, one action, whatever becomes of the server.
#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <ostream>
#include <pgkeras/client.hpp>

#include "histogram.hpp"

// Every tick asks the policy, and waits for its answer until the tick's deadline. What a missed deadline does:
//
//   - the last action is held: the tick gives it again;
//   - it is counted, in `misses` and `misses_in_a_row`: a robot whose actions must not be held for long looks at the
//     latter and brakes;
//   - it is logged, with one line when misses begin and one when they end.
//
// An answer that is there when the tick looks is used, even where the operating system let the tick sleep past its
// deadline. As long as an answer is due, nothing else is asked: a server that was slow finds one question when it comes
// back, not all that it missed. That answer is too old to act on and is dropped; the next tick asks anew, and reports
// the rewards of all ticks since the last question. So it does after a question that the server refuses. When a session
// ends with an error, another is opened beside the loop.
class ControlLoop {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    Clock::duration deadline;     // from a tick's begin to its action
    pgkeras::Tensor safe_action;  // before the first answer
    pgkeras::PlayOptions play = {};
  };

  // Opens a session, which may take as long as the client's timeout. The client must outlive the loop.
  // log: where misses are told.
  ControlLoop(pgkeras::Client& client, Options options, std::ostream& log);

  // The action for this tick: the policy's, or the last one. The outcome is that of the tick before; after one that
  // ended an episode, the observation is the next one's first. Throws InvalidRequestError if the policy cannot take the
  // observation, and nothing for what the server or the network does.
  const pgkeras::Tensor& tick(const pgkeras::Observation& observation, const pgkeras::Outcome& outcome);

  std::uint64_t ticks() const { return ticks_; }
  std::uint64_t misses() const { return misses_; }
  std::uint64_t misses_in_a_row() const { return misses_in_a_row_; }
  std::uint64_t sessions() const { return sessions_; }
  const Histogram& latency() const { return latency_; }  // of the ticks that were answered in time

 private:
  bool ask(const pgkeras::Observation& observation, const pgkeras::Outcome& outcome, Clock::time_point begin);
  bool ready();
  void recover(const pgkeras::Error& error);
  void count(bool answered);

  pgkeras::Client& client_;
  Options options_;
  std::ostream& log_;
  std::optional<pgkeras::Session> session_;
  std::future<pgkeras::Session> opening_;
  Clock::time_point next_opening_;
  pgkeras::Tensor action_;
  pgkeras::Outcome unreported_;
  pgkeras::Outcome asked_;  // what the last question reported
  Histogram latency_;
  bool first_ = true;
  bool asked_first_ = true;
  bool due_ = false;
  std::uint64_t ticks_ = 0;
  std::uint64_t misses_ = 0;
  std::uint64_t misses_in_a_row_ = 0;
  std::uint64_t sessions_ = 1;
};

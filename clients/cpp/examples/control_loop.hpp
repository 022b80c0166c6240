// A policy in a control loop that must not block: every tick has an action, also if the server fails.
#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <ostream>
#include <pgkeras/client.hpp>

#include "histogram.hpp"

// Every tick sends a request, and waits for its response until the tick's deadline. A missed deadline
//
//   - repeats the last action;
//   - is counted, in `misses` and `misses_in_a_row`. A robot that must not repeat actions for long checks the
//     latter and brakes;
//   - is logged, with one line when misses begin and one when they end.
//
// A response that has arrived when the tick checks is used, even if the operating system resumed the tick after its
// deadline. While a response is due, no other request is sent, so a slow server finds one request when it recovers, not
// all that it missed. That response is too old and is dropped. The next tick sends a new request, which reports the
// rewards of all ticks since the last one. The same happens after a request that the server refuses. If a session ends
// with an error, another one is opened in the background.
class ControlLoop {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    Clock::duration deadline;     // from the start of a tick to its action
    pgkeras::Tensor safe_action;  // before the first response
    pgkeras::PlayOptions play = {};
  };

  // Opens a session, which may take as long as the client's timeout. The client must outlive the loop.
  // log: receives a line when misses begin and end.
  ControlLoop(pgkeras::Client& client, Options options, std::ostream& log);

  // Returns the action for this tick: the policy's, or the last one. The outcome is that of the previous tick. If it
  // ended an episode, the observation is the first of the next one. Throws InvalidRequestError if the policy cannot
  // take the observation. Does not throw if the server or the network fails.
  const pgkeras::Tensor& tick(const pgkeras::Observation& observation, const pgkeras::Outcome& outcome);

  std::uint64_t ticks() const { return ticks_; }
  std::uint64_t misses() const { return misses_; }
  std::uint64_t misses_in_a_row() const { return misses_in_a_row_; }
  std::uint64_t sessions() const { return sessions_; }
  const Histogram& latency() const { return latency_; }  // of ticks that met their deadline

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
  pgkeras::Outcome asked_;  // the outcome that the last request reported
  Histogram latency_;
  bool first_ = true;
  bool asked_first_ = true;
  bool due_ = false;
  std::uint64_t ticks_ = 0;
  std::uint64_t misses_ = 0;
  std::uint64_t misses_in_a_row_ = 0;
  std::uint64_t sessions_ = 1;
};

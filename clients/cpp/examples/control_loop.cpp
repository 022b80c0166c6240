#include "control_loop.hpp"

#include <utility>

namespace {

constexpr auto between_openings = std::chrono::milliseconds(200);

void add(pgkeras::Outcome& sum, const pgkeras::Outcome& outcome) {
  sum.reward += outcome.reward;
  sum.terminated |= outcome.terminated;
  sum.truncated |= outcome.truncated;
}

}  // namespace

ControlLoop::ControlLoop(pgkeras::Client& client, Options options, std::ostream& log)
    : client_(client),
      options_(std::move(options)),
      log_(log),
      session_(client.play(options_.play)),
      action_(options_.safe_action) {}

const pgkeras::Tensor& ControlLoop::tick(const pgkeras::Observation& observation, const pgkeras::Outcome& outcome) {
  const auto begin = Clock::now();
  add(unreported_, outcome);
  bool answered = false;
  try {
    answered = ready() && ask(observation, unreported_, begin);
  } catch (const pgkeras::InvalidRequestError& error) {
    recover(error);
    throw;
  } catch (const pgkeras::Error& error) {
    recover(error);
  }
  if (answered) latency_.add(Clock::now() - begin);
  count(answered);
  return action_;
}

bool ControlLoop::ask(const pgkeras::Observation& observation, const pgkeras::Outcome& outcome,
                      Clock::time_point begin) {
  const auto deadline = begin + options_.deadline;
  const std::uint8_t start = first_ || outcome.terminated || outcome.truncated;
  session_->send(observation, first_ ? std::nullopt : std::optional(outcome),
                 {.episode_start = std::span(&start, 1), .timeout = deadline - Clock::now()});
  asked_first_ = std::exchange(first_, false);
  asked_ = std::exchange(unreported_, {});
  due_ = true;
  auto actions = session_->receive(deadline);
  if (!actions) return false;
  due_ = false;
  action_ = std::move(actions->action);
  return true;
}

// Whether there is a session without a pending request.
bool ControlLoop::ready() {
  if (session_ && due_) due_ = !session_->receive(Clock::now());
  if (session_) return !due_;
  if (!opening_.valid()) {
    if (Clock::now() < next_opening_) return false;
    next_opening_ = Clock::now() + between_openings;
    opening_ = std::async(std::launch::async, [this] { return client_.play(options_.play); });
    return false;
  }
  if (opening_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return false;
  session_ = opening_.get();
  ++sessions_;
  first_ = true;
  due_ = false;
  return true;
}

// Recovers from an error: drops the session if it has ended, else undoes the request.
void ControlLoop::recover(const pgkeras::Error& error) {
  if (!session_) return;  // opening a session failed
  if (session_->over()) {
    log_ << "tick " << ticks_ << ": the session is lost: " << error.what() << '\n';
    session_.reset();
    return;
  }
  if (!std::exchange(due_, false)) return;  // the server does not read, and nothing was sent
  first_ = asked_first_;
  add(unreported_, asked_);
}

void ControlLoop::count(bool answered) {
  ++ticks_;
  if (answered) {
    if (misses_in_a_row_ > 0) log_ << "tick " << ticks_ << ": answered again after " << misses_in_a_row_ << " misses\n";
    misses_in_a_row_ = 0;
    return;
  }
  if (misses_in_a_row_ == 0) log_ << "tick " << ticks_ << ": deadline missed; holding the last action\n";
  ++misses_;
  ++misses_in_a_row_;
}

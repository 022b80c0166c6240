#include "control_loop.hpp"

#include <utility>

namespace {

constexpr auto between_openings = std::chrono::milliseconds(200);

}  // namespace

ControlLoop::ControlLoop(pgkeras::Client& client, Options options, std::ostream& log)
    : client_(client),
      options_(std::move(options)),
      log_(log),
      session_(client.play(options_.play)),
      action_(options_.safe_action) {}

const pgkeras::Tensor& ControlLoop::tick(const pgkeras::Observation& observation, const pgkeras::Outcome& outcome) {
  const auto begin = Clock::now();
  unreported_.reward += outcome.reward;
  unreported_.terminated |= outcome.terminated;
  unreported_.truncated |= outcome.truncated;
  bool answered = false;
  try {
    answered = ready() && ask(observation, unreported_, begin);
  } catch (const pgkeras::DeadlineExceededError&) {
    // The stream is jammed: nothing was sent, and the session goes on.
  } catch (const pgkeras::ServerBusyError&) {
    due_ = false;
  } catch (const pgkeras::InvalidRequestError&) {
    throw;
  } catch (const pgkeras::Error& error) {
    lose_session(error);
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
  first_ = false;
  due_ = true;
  unreported_ = {};
  auto actions = session_->receive(deadline);
  if (!actions) return false;
  due_ = false;
  action_ = std::move(actions->action);
  return true;
}

// Whether there is a session that is not busy with an older question.
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

void ControlLoop::lose_session(const std::exception& error) {
  if (session_) log_ << "tick " << ticks_ << ": the session is lost: " << error.what() << '\n';
  session_.reset();
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

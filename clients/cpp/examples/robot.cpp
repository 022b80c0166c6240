// The control loop of a robot: a policy server controls a cart with a pole at 500 Hz.
//
//   robot --target HOST:PORT [--seconds 10] [--hertz 500] [--deadline-us 1500]
//
// Pause the server while it runs (kill -STOP, kill -CONT) to see missed deadlines and the recovery.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <pgkeras/client.hpp>
#include <thread>

#include "cartpole.hpp"
#include "control_loop.hpp"
#include "flags.hpp"

int main(int count, char** words) {
  return run(count, words, [](const Flags& flags) {
    const auto hertz = flags.number("hertz", 500);
    const auto period = std::chrono::duration_cast<ControlLoop::Clock::duration>(std::chrono::seconds(1)) / hertz;
    const auto ticks = flags.number("seconds", 10) * hertz;
    pgkeras::Client client(flags.require("target"), {.policy = "cartpole-v1"});
    ControlLoop loop(client,
                     {.deadline = std::chrono::microseconds(flags.number("deadline-us", 1500)),
                      .safe_action = pgkeras::Tensor(pgkeras::ArrayView::scalar<std::int64_t>(0)),
                      .play = {.mode = pgkeras::Mode::greedy}},
                     std::cerr);
    CartPole robot(0, 1.0 / static_cast<double>(hertz));
    pgkeras::Outcome outcome;
    long falls = 0;
    long overruns = 0;
    auto next = ControlLoop::Clock::now();
    for (long tick = 0; tick < ticks; ++tick) {
      robot.step(loop.tick(robot.observation(), outcome).item<std::int64_t>());
      outcome = {.reward = 1.0F, .terminated = robot.terminated()};
      if (robot.terminated()) {
        ++falls;
        robot.reset();
      }
      next += period;
      const auto now = ControlLoop::Clock::now();
      overruns += now > next;
      next = std::max(next, now);  // no burst of ticks after a late one
      std::this_thread::sleep_until(next);
    }
    std::cout << loop.ticks() << " ticks at " << hertz << " Hz, " << loop.misses() << " deadlines missed, " << overruns
              << " ticks overrun, " << falls << " falls\n"
              << "from tick to response: p50 " << std::lround(loop.latency().quantile(0.5)) << " us, p99 "
              << std::lround(loop.latency().quantile(0.99)) << " us\n"
              << loop.latency();
    return 0;
  });
}

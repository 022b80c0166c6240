// CartPole in C++, played with the actions of a policy server:
//
//   cartpole --target HOST:PORT [--episodes 20]                    plays episodes, greedily
//   cartpole --target HOST:PORT --environments 256 [--steps 1000]  measures throughput with many environments
//   cartpole --target HOST:PORT --teach 24 [--patience 10]         trains a policy (pgkeras train --listen) with 24
//                                                                  environments; ends when no run has responded
//                                                                  for 10 seconds
#include "cartpole.hpp"

#include <chrono>
#include <cstdint>
#include <iostream>
#include <pgkeras/client.hpp>
#include <thread>
#include <vector>

#include "flags.hpp"

namespace {

using pgkeras::Mode;

void play(pgkeras::Client& client, long episodes) {
  CartPole cartpole(0);
  auto session = client.play({.mode = Mode::greedy});
  auto action = session.step(cartpole.observation()).action.item<std::int64_t>();
  long steps = 0;
  for (long episode = 0; episode < episodes;) {
    cartpole.step(action);
    ++steps;
    const bool terminated = cartpole.terminated();
    const bool truncated = cartpole.truncated();
    action = session.step(cartpole.observation(), 1.0F, terminated, truncated).action.item<std::int64_t>();
    if (terminated || truncated) {
      if (++episode == episodes) break;
      cartpole.reset();
      action = session.step(cartpole.observation()).action.item<std::int64_t>();
    }
  }
  session.close();
  std::cout << "{\"episodes\": " << episodes << ", \"mean_return\": " << static_cast<double>(steps) / episodes
            << ", \"steps\": " << steps << "}\n";
}

// Measures the throughput. A cart whose episode has ended is reset immediately: its observation is then the first of
// the next episode, which `over` reports.
void measure(pgkeras::Client& client, long environments, long steps) {
  std::vector<CartPole> cartpoles;
  for (long i = 0; i < environments; ++i) cartpoles.emplace_back(i);
  const std::vector<float> rewards(environments, 1.0F);
  std::vector<float> observations(4 * environments);
  std::vector<std::uint8_t> terminated(environments);
  std::vector<std::uint8_t> truncated(environments);
  std::vector<std::uint8_t> over(environments);
  const auto observe = [&] {
    for (long i = 0; i < environments; ++i) std::ranges::copy(cartpoles[i].observation(), &observations[4 * i]);
    return pgkeras::ArrayView(observations, {environments, 4});
  };

  auto session = client.play({.mode = Mode::greedy});
  auto actions = session.step_batch(observe()).action;
  const auto begin = std::chrono::steady_clock::now();
  for (long step = 0; step < steps; ++step) {
    const auto chosen = actions.values<std::int64_t>();
    for (long i = 0; i < environments; ++i) {
      cartpoles[i].step(chosen[i]);
      terminated[i] = cartpoles[i].terminated();
      truncated[i] = cartpoles[i].truncated();
      over[i] = cartpoles[i].over();
      if (over[i]) cartpoles[i].reset();
    }
    actions = session.step_batch(observe(), rewards, terminated, truncated, {.episode_start = over}).action;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  session.close();
  std::cout << "{\"environments\": " << environments << ", \"steps\": " << steps
            << ", \"environment_steps_per_second\": " << static_cast<double>(environments * steps) / seconds.count()
            << "}\n";
}

pgkeras::Simulator declaration(long environments) {
  using pgkeras::spaces::unbounded;
  constexpr double angle = 2 * CartPole::limit_angle;
  return {.observation_space =
              pgkeras::spaces::box({4}, {-4.8, -unbounded, -angle, -unbounded}, {4.8, unbounded, angle, unbounded}),
          .action_space = pgkeras::spaces::discrete(2),
          .environments = environments,
          .name = "CartPole in C++"};
}

// Plays one session until it ends, and counts its messages. The same loop plays a trained policy. It also sends the
// observation after an episode's last action; the next step starts the next episode. An environment that is held does
// not move.
void teach_session(pgkeras::Client& client, long environments, long& messages) {
  std::vector<CartPole> cartpoles;
  for (long i = 0; i < environments; ++i) cartpoles.emplace_back(i);
  const std::vector<float> rewards(environments, 1.0F);
  std::vector<float> observations(4 * environments);
  std::vector<std::uint8_t> terminated(environments);
  std::vector<std::uint8_t> truncated(environments);
  std::vector<std::uint8_t> starts(environments);
  const auto observe = [&] {
    for (long i = 0; i < environments; ++i) std::ranges::copy(cartpoles[i].observation(), &observations[4 * i]);
    return pgkeras::ArrayView(observations, {environments, 4});
  };

  auto session = client.play({.simulator = declaration(environments)});
  auto actions = session.step_batch(observe());
  for (;; ++messages) {
    const auto chosen = actions.action.values<std::int64_t>();
    for (long i = 0; i < environments; ++i) {
      const bool holds = !actions.hold.empty() && actions.hold[i] != 0;
      const bool begins = terminated[i] != 0 || truncated[i] != 0;
      starts[i] = holds || begins;
      if (begins) cartpoles[i].reset();
      if (!starts[i]) cartpoles[i].step(chosen[i]);
      terminated[i] = !starts[i] && cartpoles[i].terminated();
      truncated[i] = !starts[i] && cartpoles[i].truncated();
    }
    actions = session.step_batch(observe(), rewards, terminated, truncated, {.episode_start = starts});
  }
}

// Plays until no run has responded for the duration of patience. A run that stops may be started again.
long teach(pgkeras::Client& client, long environments, std::chrono::seconds patience) {
  using clock = std::chrono::steady_clock;
  long messages = 0;
  for (auto last_response = clock::now();;) {
    const long before = messages;
    try {
      teach_session(client, environments, messages);
    } catch (const pgkeras::ServerUnavailableError&) {
      if (messages > before) last_response = clock::now();
      if (clock::now() - last_response >= patience) {
        if (messages == 0) throw;
        return messages;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
  }
}

}  // namespace

int main(int count, char** words) {
  return run(count, words, [](const Flags& flags) {
    if (const auto environments = flags.number("teach", 0)) {
      pgkeras::Client client(flags.require("target"));
      const std::chrono::seconds patience(flags.number("patience", 10));
      const auto messages = teach(client, environments, patience);
      std::cout << "{\"environments\": " << environments << ", \"messages\": " << messages << "}\n";
      return 0;
    }
    pgkeras::Client client(flags.require("target"), {.policy = flags.find("policy").value_or("cartpole-v1")});
    if (const auto environments = flags.number("environments", 0)) {
      measure(client, environments, flags.number("steps", 1000));
    } else {
      play(client, flags.number("episodes", 20));
    }
    return 0;
  });
}

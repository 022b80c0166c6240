// What is asked of a policy, and what it answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pgkeras/tensor.hpp"

namespace pgkeras {

using Timeout = std::chrono::nanoseconds;

// How an action is chosen: drawn from the distribution, or the distribution's mode.
enum class Mode { sample, greedy };

// What may be answered besides the action.
enum class Output { log_prob, entropy, distribution, greedy_action };

// The answer for one observation, or for a batch: arrays have a leading batch axis if the observations had one. What
// was not asked for is empty.
struct Actions {
  Tensor action;                               // of the action space's type and shape
  std::optional<Tensor> log_prob;              // ln P(action | observation), float32
  std::optional<Tensor> entropy;               // in nats, float32
  std::optional<Tensor> greedy_action;         // what Mode::greedy would have done
  std::map<std::string, Tensor> distribution;  // its parameters by their names: probabilities, or mean and stddev, ...
  std::string state;                           // for policies with memory: to send with the next observation
  std::string policy;                          // who answered
  std::int64_t version = 0;
};

struct ActOptions {
  Mode mode = Mode::sample;
  std::optional<std::uint64_t> seed = {};  // makes the draw reproducible
  std::vector<Output> outputs = {Output::log_prob, Output::entropy, Output::distribution};
  std::optional<ArrayView> action_mask = {};  // bool [batch, mask_size]: which actions are allowed
  std::string state = {};                     // of the previous answer; empty at the first step of an episode
  std::optional<Timeout> timeout = {};        // for this call, retries included; the client's own if not given
};

struct PlayOptions {
  Mode mode = Mode::sample;
  std::optional<std::uint64_t> seed = {};  // makes the whole session reproducible
  std::vector<Output> outputs = {};
  std::optional<Timeout> timeout = {};  // for every step; the client's own if not given
};

}  // namespace pgkeras

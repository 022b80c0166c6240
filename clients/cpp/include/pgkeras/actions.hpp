// What is asked of a policy, and what it answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pgkeras/spaces.hpp"
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
  Tensor action;  // of the action space's type and shape; without elements where that is a Dict or Tuple
  // The action's leaves where the action space is a Dict or Tuple, by their paths with dots between the keys: "move",
  // or "hands.1" for the second part of a Tuple.
  std::map<std::string, Tensor> parts;
  std::optional<Tensor> log_prob;              // ln P(action | observation), float32
  std::optional<Tensor> entropy;               // in nats, float32
  std::optional<Tensor> greedy_action;         // what Mode::greedy would have done
  std::map<std::string, Tensor> greedy_parts;  // the same by the paths of `parts`
  // Its parameters by their names: probabilities, or mean and stddev, and so on; those of a structured one have the
  // path of their part before it, as in "move.probabilities".
  std::map<std::string, Tensor> distribution;
  std::string state;   // for policies with memory: to send with the next observation
  std::string policy;  // who answered
  std::int64_t version = 0;
  // From a policy in training, one byte of 0 or 1 per environment: those that should not take their action, but show
  // the same first observation again in the next step, with `episode_start`. Empty where none should wait.
  std::vector<std::uint8_t> hold;
};

struct ActOptions {
  Mode mode = Mode::sample;
  std::optional<std::uint64_t> seed = {};  // makes the draw reproducible
  std::vector<Output> outputs = {Output::log_prob, Output::entropy, Output::distribution};
  std::optional<ArrayView> action_mask = {};  // bool [batch, mask_size]: which actions are allowed
  std::string state = {};                     // of the previous answer; empty at the first step of an episode
  std::optional<Timeout> timeout = {};        // for this call, retries included; the client's own if not given
};

// Who plays. A simulator that declares itself can also teach a policy, where `pgkeras train --listen` listens; a server
// of trained policies checks that the spaces are the policy's.
struct Simulator {
  spaces::Space observation_space;
  spaces::Space action_space;
  std::int64_t environments = 0;  // how many it steps side by side; 0 leaves it open
  std::string name = {};
  std::string version = {};
};

struct PlayOptions {
  Mode mode = Mode::sample;
  std::optional<std::uint64_t> seed = {};  // makes the whole session reproducible
  std::vector<Output> outputs = {};
  // For every step; the client's own if not given. A policy in training says every few seconds that it is there while
  // it is being improved, and the time begins anew.
  std::optional<Timeout> timeout = {};
  std::optional<Simulator> simulator = {};
};

}  // namespace pgkeras

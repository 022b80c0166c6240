/// @file
/// Options of calls and sessions, and the decoded responses.
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

/// Selects how an action is chosen: sampled from the distribution, or the distribution's mode.
enum class Mode { sample, greedy };

/// An optional part of a response; the action is always included.
enum class Output { log_prob, entropy, distribution, greedy_action };

/// The response for one observation or a batch. Arrays have a leading batch axis if the observations had one. Fields
/// that were not requested are empty.
struct Actions {
  Tensor action;  ///< has the action space's type and shape; has no elements if the space is a Dict or Tuple
  /// The action's leaves if the action space is a Dict or Tuple. Keys are paths, with dots between the parts: "move",
  /// or "hands.1" for the second part of a Tuple.
  std::map<std::string, Tensor> parts;
  std::optional<Tensor> log_prob;              ///< ln P(action | observation), float32
  std::optional<Tensor> entropy;               ///< entropy of the distribution in nats, float32
  std::optional<Tensor> greedy_action;         ///< the action that Mode::greedy would have returned
  std::map<std::string, Tensor> greedy_parts;  ///< the leaves of the greedy action, keyed like `parts`
  /// The distribution's parameters by name, such as probabilities, or mean and stddev. In a structured distribution the
  /// part's path precedes the name, as in "move.probabilities".
  std::map<std::string, Tensor> distribution;
  std::string state;         ///< for policies with memory: the state to send with the next observation
  std::string policy;        ///< name of the policy that responded
  std::int64_t version = 0;  ///< version of the policy that responded
  /// Sent by a policy in training, one byte of 0 or 1 per environment. Where it is 1, the environment should not take
  /// its action but send the same first observation again in the next step, with `episode_start`. Empty if no
  /// environment should wait.
  std::vector<std::uint8_t> hold;
};

/// Options of a call.
struct ActOptions {
  Mode mode = Mode::sample;
  std::optional<std::uint64_t> seed = {};  ///< makes sampling reproducible
  std::vector<Output> outputs = {Output::log_prob, Output::entropy, Output::distribution};
  std::optional<ArrayView> action_mask = {};  ///< bool [batch, mask_size]: the allowed actions
  std::string state = {};                     ///< state of the previous response; empty at the first step of an episode
  std::optional<Timeout> timeout = {};        ///< of this call, including retries; default: the client's timeout
};

/// Describes the simulator that opens a session. A simulator that declares itself can also train a policy, by
/// connecting to `pgkeras train --listen`. A server of trained policies checks that the spaces match the policy's.
struct Simulator {
  spaces::Space observation_space;
  spaces::Space action_space;
  std::int64_t environments = 0;  ///< number of environments that it steps in parallel; 0 means unspecified
  std::string name = {};          ///< informational, like `version`
  std::string version = {};
};

/// Options of a session.
struct PlayOptions {
  Mode mode = Mode::sample;
  std::optional<std::uint64_t> seed = {};  ///< makes the whole session reproducible
  std::vector<Output> outputs = {};
  /// Timeout of a step; default: the client's timeout. It restarts whenever a policy in training reports that it is
  /// being updated.
  std::optional<Timeout> timeout = {};
  std::optional<Simulator> simulator = {};
};

}  // namespace pgkeras

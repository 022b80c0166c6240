// What calls and sessions share: arguments to messages, answers to arrays.
#pragma once

#include <grpcpp/client_context.h>

#include <string>

#include "pgkeras/actions.hpp"
#include "pgkeras/v1/service.pb.h"

namespace pgkeras {

v1::ActMode act_mode(Mode mode);

template <typename Request>
void set_outputs(Request& request, const std::vector<Output>& outputs) {
  request.add_outputs(v1::ACT_OUTPUT_ACTION);
  for (const auto output : outputs) {
    switch (output) {
      case Output::log_prob:
        request.add_outputs(v1::ACT_OUTPUT_LOG_PROB);
        break;
      case Output::entropy:
        request.add_outputs(v1::ACT_OUTPUT_ENTROPY);
        break;
      case Output::distribution:
        request.add_outputs(v1::ACT_OUTPUT_DISTRIBUTION);
        break;
      case Output::greedy_action:
        request.add_outputs(v1::ACT_OUTPUT_GREEDY_ACTION);
        break;
    }
  }
}

void set_token(grpc::ClientContext& context, const std::string& token);

// Throws ServerFailedError if that is not what this client reads.
Actions read_actions(v1::ActResponse&& response);

// The answer to a session's step; that to a single environment has no batch axis. Throws the error that is the answer,
// or ServerFailedError if it is not what this client reads, or not for a single environment.
Actions read_step(v1::PlayResponse&& response, bool single);

// Makes one observation a batch of one.
void add_batch_axis(v1::Value& value);
void add_batch_axis(v1::Tensor& tensor);

}  // namespace pgkeras

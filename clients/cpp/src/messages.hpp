// Encodes the arguments of calls and sessions, and decodes responses.
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

// Decodes a response. Throws ServerFailedError if it is malformed.
Actions read_actions(v1::ActResponse&& response);

// Decodes the response to a session's step. Removes the batch axis for a single environment. Throws the error in the
// response, or ServerFailedError if it is malformed or does not have one row for a single environment.
Actions read_step(v1::PlayResponse&& response, bool single);

// Turn one observation into a batch of one.
void add_batch_axis(v1::Value& value);
void add_batch_axis(v1::Tensor& tensor);

}  // namespace pgkeras

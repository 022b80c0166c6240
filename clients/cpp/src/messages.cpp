#include "messages.hpp"

#include "status.hpp"

namespace pgkeras {
namespace {

// Decodes a distribution by reflection, because all fields of all kinds are tensors: the parameters.
std::map<std::string, Tensor> read_distribution(const v1::Distribution& distribution) {
  std::map<std::string, Tensor> parameters;
  if (distribution.has_structured()) {
    for (const auto& [key, part] : distribution.structured().parts()) {
      for (auto& [name, parameter] : read_distribution(part)) {
        parameters.emplace(key + "." + name, std::move(parameter));
      }
    }
    return parameters;
  }
  const auto* kind = distribution.GetReflection()->GetOneofFieldDescriptor(
      distribution, v1::Distribution::descriptor()->oneof_decl(0));
  if (kind == nullptr) return parameters;
  const auto& inner = distribution.GetReflection()->GetMessage(distribution, kind);
  for (int index = 0; index < inner.GetDescriptor()->field_count(); ++index) {
    const auto* field = inner.GetDescriptor()->field(index);
    const auto& tensor = dynamic_cast<const v1::Tensor&>(inner.GetReflection()->GetMessage(inner, field));
    parameters.emplace(field->name(), Tensor(tensor, "distribution." + kind->name() + "." + field->name()));
  }
  return parameters;
}

// Collects the leaves of a value, keyed by path.
void read_parts(const v1::Value& value, const std::string& path, const std::string& field,
                std::map<std::string, Tensor>& found) {
  if (!value.has_fields()) {
    found.emplace(path, Tensor(value.tensor(), field + "." + path));
    return;
  }
  for (const auto& [key, part] : value.fields().fields()) {
    read_parts(part, path.empty() ? key : path + "." + key, field, found);
  }
}

[[noreturn]] void throw_unreadable(const std::string& reason) {
  throw ServerFailedError("the server's answer cannot be read: " + reason + "; is the server newer than this client?");
}

Tensor typed(const v1::Tensor& message, const char* field, v1::DataType dtype) {
  Tensor tensor(message, field);
  if (tensor.dtype() != dtype) {
    throw InvalidRequestError(field, v1::DataType_Name(dtype), v1::DataType_Name(tensor.dtype()));
  }
  return tensor;
}

std::vector<std::uint8_t> read_hold(const v1::Tensor& message, bool single) try {
  auto tensor = typed(message, "hold", v1::DATA_TYPE_BOOL);
  if (single) tensor = std::move(tensor).first_row();
  std::vector<std::uint8_t> hold;
  for (const auto byte : tensor.bytes()) hold.push_back(std::to_integer<std::uint8_t>(byte));
  return hold;
} catch (const InvalidRequestError& error) {
  throw_unreadable(error.what());
}

void first_rows(std::map<std::string, Tensor>& tensors) {
  for (auto& [name, tensor] : tensors) tensor = std::move(tensor).first_row();
}

std::optional<Tensor> row(std::optional<Tensor>&& tensor) {
  if (!tensor) return std::nullopt;
  return std::move(*tensor).first_row();
}

// Removes the batch axis of the response to a batch of one.
Actions first_row(Actions&& actions) {
  if (actions.parts.empty()) actions.action = std::move(actions.action).first_row();
  first_rows(actions.parts);
  first_rows(actions.greedy_parts);
  first_rows(actions.distribution);
  actions.log_prob = row(std::move(actions.log_prob));
  actions.entropy = row(std::move(actions.entropy));
  actions.greedy_action = row(std::move(actions.greedy_action));
  return std::move(actions);
}

}  // namespace

v1::ActMode act_mode(Mode mode) { return mode == Mode::greedy ? v1::ACT_MODE_GREEDY : v1::ACT_MODE_SAMPLE; }

void set_token(grpc::ClientContext& context, const std::string& token) {
  if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
}

Actions read_actions(v1::ActResponse&& response) try {
  Actions actions;
  if (response.has_structured_action()) {
    read_parts(response.structured_action(), "", "structured_action", actions.parts);
  } else if (response.has_action()) {
    actions.action = Tensor(response.action(), "action");
  } else {
    throw_unreadable("it has no action");
  }
  if (response.has_structured_greedy_action()) {
    read_parts(response.structured_greedy_action(), "", "structured_greedy_action", actions.greedy_parts);
  }
  if (response.has_log_prob()) actions.log_prob = typed(response.log_prob(), "log_prob", v1::DATA_TYPE_FLOAT32);
  if (response.has_entropy()) actions.entropy = typed(response.entropy(), "entropy", v1::DATA_TYPE_FLOAT32);
  if (response.has_greedy_action()) actions.greedy_action.emplace(response.greedy_action(), "greedy_action");
  actions.distribution = read_distribution(response.distribution());
  actions.state = std::move(*response.mutable_state());
  actions.policy = std::move(*response.mutable_policy()->mutable_name());
  actions.version = response.policy().version();
  return actions;
} catch (const InvalidRequestError& error) {
  throw_unreadable(error.what());
}

Actions read_step(v1::PlayResponse&& response, bool single) {
  if (response.has_error()) throw_error(response.error());
  if (!response.has_act()) throw_unreadable("it has neither actions nor an error");
  auto actions = read_actions(std::move(*response.mutable_act()));
  if (response.has_hold()) actions.hold = read_hold(response.hold(), single);
  return single ? first_row(std::move(actions)) : std::move(actions);
}

void add_batch_axis(v1::Tensor& tensor) {
  tensor.add_shape(1);
  for (int axis = tensor.shape_size() - 1; axis > 0; --axis) tensor.mutable_shape()->SwapElements(axis, axis - 1);
}

void add_batch_axis(v1::Value& value) {
  if (value.has_tensor()) {
    add_batch_axis(*value.mutable_tensor());
  } else if (value.has_fields()) {
    for (auto& [key, part] : *value.mutable_fields()->mutable_fields()) add_batch_axis(part);
  }
}

}  // namespace pgkeras

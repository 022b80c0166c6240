// Tests the client against conformance/vectors.json, as conformance/README.md specifies.
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <pgkeras/client.hpp>

#include "json.hpp"
#include "messages.hpp"
#include "status.hpp"

namespace {

using nlohmann::json;
namespace v1 = pgkeras::v1;

const json& vectors() {
  static const json all = read_json(REPOSITORY "/conformance/vectors.json");
  return all;
}

v1::DataType type_of(const json& name) {
  std::string upper = name;
  std::ranges::transform(upper, upper.begin(), [](unsigned char letter) { return std::toupper(letter); });
  v1::DataType dtype = v1::DATA_TYPE_UNSPECIFIED;
  EXPECT_TRUE(v1::DataType_Parse("DATA_TYPE_" + upper, &dtype)) << name;
  return dtype;
}

double number(const json& value) {
  if (value == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (value == "Infinity") return std::numeric_limits<double>::infinity();
  if (value == "-Infinity") return -std::numeric_limits<double>::infinity();
  return value.get<double>();
}

template <typename T>
T element(const json& value) {
  if constexpr (std::is_same_v<T, bool>) return value.get<bool>();
  if constexpr (std::is_same_v<T, std::int64_t>) return std::stoll(value.get<std::string>());
  return static_cast<T>(number(value));
}

// Converts the bits of a float16, for which C++20 has no type, to a number.
double from_half(std::uint16_t bits) {
  const double sign = bits & 0x8000 ? -1 : 1;
  const int exponent = bits >> 10 & 0x1f;
  const int fraction = bits & 0x3ff;
  if (exponent == 0x1f) return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * HUGE_VAL;
  return sign * (exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24));
}

template <typename T>
void expect_values(const pgkeras::Tensor& tensor, const json& values) {
  const auto got = tensor.values<T>();
  ASSERT_EQ(got.size(), values.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto expected = element<T>(values[i]);
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(got[i]));
        continue;
      }
    }
    EXPECT_EQ(got[i], expected);
  }
}

void expect_values(const pgkeras::Tensor& tensor, const json& values, v1::DataType dtype) {
  switch (dtype) {
    case v1::DATA_TYPE_BOOL:
      return expect_values<bool>(tensor, values);
    case v1::DATA_TYPE_UINT8:
      return expect_values<std::uint8_t>(tensor, values);
    case v1::DATA_TYPE_INT8:
      return expect_values<std::int8_t>(tensor, values);
    case v1::DATA_TYPE_UINT16:
      return expect_values<std::uint16_t>(tensor, values);
    case v1::DATA_TYPE_INT16:
      return expect_values<std::int16_t>(tensor, values);
    case v1::DATA_TYPE_INT32:
      return expect_values<std::int32_t>(tensor, values);
    case v1::DATA_TYPE_INT64:
      return expect_values<std::int64_t>(tensor, values);
    case v1::DATA_TYPE_FLOAT32:
      return expect_values<float>(tensor, values);
    case v1::DATA_TYPE_FLOAT64:
      return expect_values<double>(tensor, values);
    case v1::DATA_TYPE_FLOAT16:
      ASSERT_EQ(tensor.size(), values.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, tensor.bytes().data() + 2 * i, sizeof bits);
        EXPECT_EQ(from_half(bits), number(values[i]));
      }
      return;
    default:
      FAIL() << "no reader for " << v1::DataType_Name(dtype);
  }
}

TEST(Vectors, Tensors) {
  ASSERT_FALSE(vectors()["tensors"].empty());
  for (const auto& vector : vectors()["tensors"]) {
    SCOPED_TRACE(vector["name"]);
    const auto message = from_vector<v1::Tensor>(vector["message"]);
    const pgkeras::Tensor tensor(message, "tensor");
    EXPECT_EQ(tensor.dtype(), type_of(vector["dtype"]));
    EXPECT_EQ(tensor.shape(), vector["shape"].get<pgkeras::Shape>());
    expect_values(tensor, vector["values"], tensor.dtype());

    v1::Tensor encoded;
    pgkeras::write_tensor(encoded, {tensor.dtype(), tensor.bytes(), tensor.shape()});
    EXPECT_EQ(encoded.SerializeAsString(), message.SerializeAsString());
    EXPECT_EQ(encoded.data(), from_base64(vector["data"]));
  }
}

TEST(Vectors, BadTensors) {
  ASSERT_FALSE(vectors()["bad_tensors"].empty());
  for (const auto& vector : vectors()["bad_tensors"]) {
    SCOPED_TRACE(vector["name"]);
    try {
      pgkeras::Tensor(from_vector<v1::Tensor>(vector["message"]), "tensor");
      ADD_FAILURE() << "it was decoded";
    } catch (const pgkeras::InvalidRequestError& error) {
      EXPECT_EQ(error.field, vector["field"]);
    }
  }
}

TEST(Vectors, Spaces) {
  ASSERT_FALSE(vectors()["spaces"].empty());
  for (const auto& vector : vectors()["spaces"]) {
    SCOPED_TRACE(vector["name"]);
    const auto space = from_vector<v1::Space>(vector["message"]);
    std::string text;
    ASSERT_TRUE(google::protobuf::util::MessageToJsonString(space, &text).ok());
    EXPECT_EQ(json::parse(text), vector["json"]);
    EXPECT_EQ(space.GetReflection()->GetOneofFieldDescriptor(space, v1::Space::descriptor()->oneof_decl(0))->name(),
              vector["kind"]);
  }
}

TEST(Vectors, Distributions) {
  ASSERT_FALSE(vectors()["distributions"].empty());
  for (const auto& vector : vectors()["distributions"]) {
    SCOPED_TRACE(vector["name"]);
    v1::ActResponse response;
    response.mutable_action()->set_dtype(v1::DATA_TYPE_INT64);
    response.mutable_action()->add_shape(0);
    *response.mutable_distribution() = from_vector<v1::Distribution>(vector["message"]);
    const auto actions = pgkeras::read_actions(std::move(response));
    ASSERT_EQ(actions.distribution.size(), vector["parameters"].size());
    for (const auto& [name, parameter] : vector["parameters"].items()) {
      const auto& tensor = actions.distribution.at(name);
      EXPECT_EQ(tensor.shape(), parameter["shape"].get<pgkeras::Shape>());
      expect_values(tensor, parameter["values"], type_of(parameter["dtype"]));
    }
  }
}

// Converts an error to its form in the vectors: its kind and fields.
json describe(const std::exception_ptr& thrown) {
  const auto seconds = [](std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); };
  try {
    std::rethrow_exception(thrown);
  } catch (const pgkeras::InvalidRequestError& error) {
    return {{"error", "invalid_request"}, {"field", error.field}, {"expected", error.expected}, {"got", error.got}};
  } catch (const pgkeras::PolicyNotFoundError& error) {
    return {{"error", "policy_not_found"}, {"message", error.what()}};
  } catch (const pgkeras::SpecMismatchError&) {
    return {{"error", "spec_mismatch"}};
  } catch (const pgkeras::ServerBusyError& error) {
    return {{"error", "server_busy"}, {"retry_after_seconds", seconds(error.retry_after)}};
  } catch (const pgkeras::DeadlineExceededError&) {
    return {{"error", "deadline_exceeded"}};
  } catch (const pgkeras::ServerUnavailableError& error) {
    json described = {{"error", "server_unavailable"}};
    if (error.retry_after) described["retry_after_seconds"] = seconds(*error.retry_after);
    return described;
  } catch (const pgkeras::UnauthenticatedError&) {
    return {{"error", "unauthenticated"}};
  } catch (const pgkeras::ServerFailedError&) {
    return {{"error", "server_failed"}};
  }
}

TEST(Vectors, Errors) {
  ASSERT_FALSE(vectors()["errors"].empty());
  for (const auto& vector : vectors()["errors"]) {
    SCOPED_TRACE(vector["name"]);
    const auto details = vector["status"].is_null() ? "" : from_base64(vector["status"]);
    const grpc::Status status(static_cast<grpc::StatusCode>(vector["code"].get<int>()), vector["message"], details);
    try {
      pgkeras::throw_error(status, {"127.0.0.1:1", std::chrono::seconds(1)});
    } catch (const pgkeras::Error&) {
      const auto got = describe(std::current_exception());
      for (const auto& [key, value] : vector["expected"].items()) EXPECT_EQ(got.value(key, json()), value) << key;
      EXPECT_EQ(got.contains("retry_after_seconds"), vector["expected"].contains("retry_after_seconds"));
    }
  }
}

TEST(Vectors, BadAnswers) {
  ASSERT_FALSE(vectors()["bad_answers"].empty());
  for (const auto& vector : vectors()["bad_answers"]) {
    SCOPED_TRACE(vector["name"]);
    try {
      pgkeras::read_step(from_vector<v1::PlayResponse>(vector["message"]), true);
      ADD_FAILURE() << "it was read";
    } catch (const pgkeras::ServerFailedError& error) {
      EXPECT_NE(std::string(error.what()).find(vector["says"]), std::string::npos) << error.what();
    }
  }
}

TEST(Tensor, RefusesToReadElementsOfAnotherType) {
  const pgkeras::Tensor tensor(pgkeras::ArrayView(std::vector<float>{1, 2}));
  EXPECT_EQ(tensor.item<float>(1), 2);
  EXPECT_THROW(tensor.values<std::int64_t>(), pgkeras::InvalidRequestError);
  EXPECT_THROW(tensor.item<float>(2), pgkeras::InvalidRequestError);
}

TEST(ArrayView, RefusesAShapeThatDoesNotMatchTheElements) {
  const std::vector<float> values(7);
  EXPECT_THROW(pgkeras::ArrayView(values, {2, 4}), pgkeras::InvalidRequestError);
}

TEST(Observation, FollowsTheStructureOfItsSpace) {
  const std::vector<std::string> texts = {"left", "right"};
  const std::array<float, 2> goal = {1, 2};
  const auto observation =
      pgkeras::Observation::fields({{"goal", goal}, {"order", pgkeras::Observation::texts(texts)}});
  const auto& fields = observation.message().fields().fields();
  EXPECT_EQ(fields.at("goal").tensor().shape(0), 2);
  EXPECT_EQ(fields.at("order").texts().texts(1), "right");

  auto batch = observation.message();
  pgkeras::add_batch_axis(batch);
  EXPECT_EQ(pgkeras::Tensor(batch.fields().fields().at("goal").tensor(), "goal").shape(), (pgkeras::Shape{1, 2}));
}

}  // namespace

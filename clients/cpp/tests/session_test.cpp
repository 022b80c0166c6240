// Tests sessions and calls whose server does not respond, with a real server that is paused and resumed.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <limits>
#include <optional>
#include <pgkeras/client.hpp>

#include "black_hole.hpp"
#include "error_details.pb.h"
#include "scripted.hpp"
#include "server.hpp"

namespace {

using namespace std::chrono_literals;
using pgkeras::Mode;
using pgkeras::Output;

// The pole falls left or right; the shipped policy pushes against it.
constexpr std::array<float, 4> falls_left = {0, 0, -0.1F, -1};
constexpr std::array<float, 4> falls_right = {0, 0, 0.1F, 1};
constexpr auto going_on = pgkeras::Outcome{.reward = 1};

class SessionTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(act(falls_left), 0);
    ASSERT_EQ(act(falls_right), 1);
  }
  void TearDown() override { server_.go_on(); }

  std::int64_t act(const std::array<float, 4>& observation) {
    return client_.act(observation, {.mode = Mode::greedy}).action.item<std::int64_t>();
  }

  Server server_;
  pgkeras::Client client_{server_.target()};
};

TEST_F(SessionTest, AStepThatMissesItsDeadlineLosesItsActionAndTheNextStepWorks) {
  auto session = client_.play({.mode = Mode::greedy});
  session.step(falls_left);
  server_.pause();
  for (int i = 0; i < 5; ++i) {
    EXPECT_THROW(session.step(falls_left, going_on, {.timeout = 20ms}), pgkeras::DeadlineExceededError);
  }
  server_.go_on();
  EXPECT_EQ(session.step(falls_right, going_on).action.item<std::int64_t>(), 1);
}

TEST_F(SessionTest, NothingHangsWhileTheServerIsPaused) {
  std::optional<pgkeras::Session> closed = client_.play();
  std::optional<pgkeras::Session> dropped = client_.play();
  closed->step(falls_left);
  dropped->step(falls_left);
  server_.pause();
  EXPECT_THROW(client_.act(falls_left, {.timeout = 50ms}), pgkeras::DeadlineExceededError);
  EXPECT_THROW(client_.play({.timeout = 50ms}), pgkeras::DeadlineExceededError);
  closed->close(50ms);
  EXPECT_THROW(closed->step(falls_left), pgkeras::ServerUnavailableError);
  closed.reset();
  dropped.reset();  // the test's time limit is the assertion
}

TEST_F(SessionTest, CanBeClosedTwiceWhileTheServerIsPaused) {
  auto session = client_.play();
  session.step(falls_left);
  server_.pause();
  session.close(50ms);
  session.close(50ms);
  EXPECT_TRUE(session.over());
}

TEST_F(SessionTest, CanBeClosedWithoutAStep) {
  auto session = client_.play();
  session.close();
  EXPECT_THROW(session.step(falls_left), pgkeras::ServerUnavailableError);
}

TEST_F(SessionTest, AnInvalidMessageLeavesItUnchanged) {
  auto session = client_.play({.mode = Mode::greedy});
  const std::array<double, 4> doubles = {};
  EXPECT_THROW(session.step(doubles), pgkeras::InvalidRequestError);
  EXPECT_EQ(session.step(falls_right).action.item<std::int64_t>(), 1);
}

TEST_F(SessionTest, ReturnsTheRequestedOutputs) {
  const auto full =
      client_.play({.outputs = {Output::log_prob, Output::entropy, Output::greedy_action}}).step(falls_right);
  EXPECT_TRUE(full.log_prob && full.entropy && full.greedy_action);
  EXPECT_EQ(full.greedy_action->item<std::int64_t>(), 1);
  const auto lean = client_.play().step(falls_right);
  EXPECT_FALSE(lean.log_prob || lean.entropy || lean.greedy_action);
}

TEST_F(SessionTest, AMessageThatIsTooLargeIsAnInvalidRequest) {
  const std::vector<float> rows(4 << 22);
  try {
    client_.act(pgkeras::ArrayView(rows, {1 << 22, 4}));
    FAIL() << "it was answered";
  } catch (const pgkeras::InvalidRequestError& error) {
    EXPECT_EQ(error.field, "message");
  }
}

TEST(ClientTest, RefusesAVersionWithALabel) {
  EXPECT_THROW(pgkeras::Client("127.0.0.1:1", {.version = 1, .label = "stable"}), pgkeras::InvalidRequestError);
}

TEST(ClientTest, SendsATokenOverTlsOrToThisMachine) {
  for (const char* target :
       {"robot.example:50051", "10.0.0.7:50051", "127.example.com:50051", "dns:///robot.example:1"}) {
    EXPECT_THROW(pgkeras::Client(target, {.token = "secret"}), pgkeras::InvalidRequestError) << target;
    pgkeras::Client(target, {.tls = pgkeras::TlsOptions{}, .token = "secret"});
  }
  for (const char* target : {"127.0.0.1:1", "127.0.0.5:1", "localhost:1", "[::1]:1", "unix:socket"}) {
    pgkeras::Client(target, {.token = "secret"});
  }
}

TEST(ClientTest, RefusesATokenWithInvalidCharacters) {
  for (const char* token : {"secret\n", " secret", "secret ", "sec\tret", "gehe\xc3\xafm"}) {
    try {
      pgkeras::Client("127.0.0.1:1", {.token = token});
      ADD_FAILURE() << "it was taken: " << token;
    } catch (const pgkeras::InvalidRequestError& error) {
      EXPECT_EQ(error.field, "token");
    }
  }
}

TEST(ClientTest, RefusesInvalidCertificates) {
  const std::string certificate = "-----BEGIN CERTIFICATE-----", key = "-----BEGIN PRIVATE KEY-----";
  const auto refused = [](const pgkeras::TlsOptions& tls) {
    try {
      pgkeras::Client("127.0.0.1:1", {.tls = tls});
      return std::string();
    } catch (const pgkeras::InvalidRequestError& error) {
      return error.field;
    }
  };
  EXPECT_EQ(refused({.root_certificates = "/etc/ca.pem"}), "tls.root_certificates");
  EXPECT_EQ(refused({.client_certificate = certificate}), "tls");
  EXPECT_EQ(refused({.client_key = key}), "tls");
  EXPECT_EQ(refused({.client_certificate = "client.pem", .client_key = key}), "tls.client_certificate");
  EXPECT_EQ(refused({.client_certificate = certificate, .client_key = "key.pem"}), "tls.client_key");
  EXPECT_EQ(refused({}), "");
}

// The status of a server that is stopping, with a RetryInfo.
grpc::Status draining(std::int64_t seconds) {
  pgkeras::client::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(seconds);
  pgkeras::v1::PlayError error;
  error.set_code(grpc::UNAVAILABLE);
  error.set_message("draining");
  error.add_details()->PackFrom(retry);
  error.mutable_details(0)->set_type_url("type.googleapis.com/google.rpc.RetryInfo");
  return {grpc::UNAVAILABLE, "draining", error.SerializeAsString()};
}

TEST(ClientTest, ADelayOfZeroOrLessKeepsTheBackoff) {
  for (const std::int64_t seconds : {std::int64_t{0}, std::int64_t{-1}, std::numeric_limits<std::int64_t>::min()}) {
    Scripted server;
    std::atomic<int> calls = 0;
    server.act = [&] { return ++calls, draining(seconds); };
    pgkeras::Client client(server.target());
    try {
      client.act(falls_left, {.timeout = 1s});
      FAIL() << "it was answered";
    } catch (const pgkeras::ServerUnavailableError& error) {
      EXPECT_FALSE(error.retry_after);
    }
    EXPECT_LE(calls, 7) << "pauses of at least 0.05, 0.1, 0.2 and 0.4 s fit into one second";
  }
}

TEST(ClientTest, ADelayBeyondTheDeadlineEndsTheCallImmediately) {
  for (const std::int64_t seconds : {std::int64_t{10'000'000'000}, std::numeric_limits<std::int64_t>::max()}) {
    Scripted server;
    std::atomic<int> calls = 0;
    server.act = [&] { return ++calls, draining(seconds); };
    pgkeras::Client client(server.target());
    try {
      client.act(falls_left);
      FAIL() << "it was answered";
    } catch (const pgkeras::ServerUnavailableError& error) {
      EXPECT_EQ(error.retry_after, std::chrono::hours(365 * 24));
    }
    EXPECT_EQ(calls, 1);
  }
}

TEST(ClientTest, ASilentlyLostConnectionIsReplaced) {
  Scripted server;
  BlackHole proxy(server.target());
  pgkeras::Client client(proxy.target());
  auto session = client.play();
  session.step(falls_left);
  proxy.swallow();
  EXPECT_THROW(client.act(falls_left, {.timeout = 500ms}), pgkeras::DeadlineExceededError);
  EXPECT_FALSE(session.over());
  EXPECT_THROW(session.step(falls_left, going_on, {.timeout = 100s}), pgkeras::ServerUnavailableError);
  EXPECT_TRUE(session.over());
  client.act(falls_left, {.timeout = 100s});
  client.play().step(falls_left);
}

TEST(ClientTest, AStepTakesAMaskWithAndWithoutABatchAxis) {
  Scripted server;
  std::vector<std::vector<std::int64_t>> shapes;
  server.play = [&shapes](Scripted::Stream& stream, const auto& request) {
    shapes.emplace_back(request.action_mask().shape().begin(), request.action_mask().shape().end());
    Scripted::answer(stream, request);
    return grpc::Status::OK;
  };
  pgkeras::Client client(server.target());
  auto session = client.play();
  const std::array<bool, 2> mask = {true, false};
  session.step(falls_left, {}, {.action_mask = mask});
  session.step(falls_left, {}, {.action_mask = pgkeras::ArrayView(mask, {1, 2})});
  EXPECT_EQ(shapes, (std::vector<std::vector<std::int64_t>>{{1, 2}, {1, 2}}));
}

TEST(ClientTest, FlagsOfManyEnvironmentsAreBytesOrBools) {
  Scripted server;
  std::vector<std::string> ends;
  server.play = [&ends](Scripted::Stream& stream, const auto& request) {
    ends.push_back(request.terminated().data() + request.truncated().data());
    Scripted::answer(stream, request);
    return grpc::Status::OK;
  };
  pgkeras::Client client(server.target());
  auto session = client.play();
  const std::array<float, 8> observations = {};
  const std::array<float, 2> rewards = {};
  const std::array<bool, 2> bools = {true, false};
  const std::vector<std::uint8_t> bytes = {0, 1};
  const pgkeras::ArrayView batch(observations, {2, 4});
  session.step_batch(batch);
  session.step_batch(batch, rewards, bools, bytes);
  EXPECT_EQ(ends, (std::vector<std::string>{"", {1, 0, 0, 1}}));
}

TEST(ClientTest, TheFirstCallRespectsTheTimeout) {
  Scripted server;
  server.slowness = 300ms;
  pgkeras::Client client(server.target(), {.timeout = 400ms});
  EXPECT_THROW(client.play(), pgkeras::DeadlineExceededError);  // calls GetPolicy twice
}

TEST(ClientTest, AcceptsTheLongestTimeout) {
  Scripted server;
  int calls = 0;
  server.act = [&calls] { return ++calls < 2 ? grpc::Status::CANCELLED : grpc::Status::OK; };
  pgkeras::Client client(server.target(), {.timeout = pgkeras::Timeout::max()});
  client.act(falls_left);
  auto session = client.play();
  session.step(falls_left);
  session.step_batch(falls_left, {}, {.timeout = pgkeras::Timeout::max()});
  session.close(pgkeras::Timeout::max());
}

TEST(ClientTest, ReportsThatACallWasCutOff) {
  Scripted server;
  server.play = [](Scripted::Stream&, const auto&) { return grpc::Status::CANCELLED; };
  pgkeras::Client client(server.target());
  try {
    client.play().step(falls_left);
    FAIL() << "it was answered";
  } catch (const pgkeras::ServerUnavailableError& error) {
    EXPECT_NE(std::string(error.what()).find("has cut the call off"), std::string::npos) << error.what();
  }
}

TEST(ClientTest, ACallThatIsCutOffIsRetried) {
  Scripted server;
  int calls = 0;
  server.act = [&calls] { return ++calls < 3 ? grpc::Status::CANCELLED : grpc::Status::OK; };
  pgkeras::Client client(server.target());
  client.act(falls_left);
  EXPECT_EQ(calls, 3);
}

}  // namespace

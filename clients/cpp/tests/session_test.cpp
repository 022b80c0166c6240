// What sessions and calls do when the server does not answer, with a real server that is stopped and goes on.
#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <pgkeras/client.hpp>

#include "scripted.hpp"
#include "server.hpp"

namespace {

using namespace std::chrono_literals;
using pgkeras::Mode;
using pgkeras::Output;

// The cart runs left or right; the policy that ships pushes against it.
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

TEST_F(SessionTest, AStepThatMissesItsDeadlineIsDroppedAndTheNextIsAnswered) {
  auto session = client_.play({.mode = Mode::greedy});
  session.step(falls_left);
  server_.pause();
  for (int i = 0; i < 5; ++i) {
    EXPECT_THROW(session.step(falls_left, going_on, {.timeout = 20ms}), pgkeras::DeadlineExceededError);
  }
  server_.go_on();
  EXPECT_EQ(session.step(falls_right, going_on).action.item<std::int64_t>(), 1);
}

TEST_F(SessionTest, NothingHangsWhileTheServerStandsStill) {
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

TEST_F(SessionTest, IsClosedTwiceWhileTheServerStandsStill) {
  auto session = client_.play();
  session.step(falls_left);
  server_.pause();
  session.close(50ms);
  session.close(50ms);
  EXPECT_TRUE(session.over());
}

TEST_F(SessionTest, ThatIsNeverSteppedIsClosed) {
  auto session = client_.play();
  session.close();
  EXPECT_THROW(session.step(falls_left), pgkeras::ServerUnavailableError);
}

TEST_F(SessionTest, AWrongMessageLeavesItAsItWas) {
  auto session = client_.play({.mode = Mode::greedy});
  const std::array<double, 4> doubles = {};
  EXPECT_THROW(session.step(doubles), pgkeras::InvalidRequestError);
  EXPECT_EQ(session.step(falls_right).action.item<std::int64_t>(), 1);
}

TEST_F(SessionTest, AnswersWhatWasAskedFor) {
  const auto full =
      client_.play({.outputs = {Output::log_prob, Output::entropy, Output::greedy_action}}).step(falls_right);
  EXPECT_TRUE(full.log_prob && full.entropy && full.greedy_action);
  EXPECT_EQ(full.greedy_action->item<std::int64_t>(), 1);
  const auto lean = client_.play().step(falls_right);
  EXPECT_FALSE(lean.log_prob || lean.entropy || lean.greedy_action);
}

TEST_F(SessionTest, AMessageThatIsTooLargeIsTheCallersMistake) {
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

TEST(ClientTest, TheFirstCallTakesNoLongerThanItMay) {
  Scripted server;
  server.slowness = 300ms;
  pgkeras::Client client(server.target(), {.timeout = 400ms});
  EXPECT_THROW(client.play(), pgkeras::DeadlineExceededError);  // it describes the policy twice
}

TEST(ClientTest, TakesTheLongestTimeout) {
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

TEST(ClientTest, SaysThatACallWasCutOff) {
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

TEST(ClientTest, ACallThatIsCutOffIsMadeAgain) {
  Scripted server;
  int calls = 0;
  server.act = [&calls] { return ++calls < 3 ? grpc::Status::CANCELLED : grpc::Status::OK; };
  pgkeras::Client client(server.target());
  client.act(falls_left);
  EXPECT_EQ(calls, 3);
}

}  // namespace

// Tests the control loop with missed deadlines, with a real server that is paused, resumed and killed.
#include "control_loop.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "scripted.hpp"
#include "server.hpp"

namespace {

using namespace std::chrono_literals;

constexpr std::array<float, 4> falls_left = {0, 0, -0.1F, -1};
constexpr std::array<float, 4> falls_right = {0, 0, 0.1F, 1};

class ControlLoopTest : public testing::Test {
 protected:
  void SetUp() override { until_answered(falls_right); }

  std::int64_t tick(const std::array<float, 4>& observation) {
    return loop_.tick(observation, {.reward = 1}).item<std::int64_t>();
  }

  // Returns the action of the first tick that has a response, because load on this machine must not fail the test.
  std::int64_t until_answered(const std::array<float, 4>& observation) {
    for (int i = 0; i < 2000; ++i) {
      const auto action = tick(observation);
      if (loop_.misses_in_a_row() == 0) return action;
      std::this_thread::sleep_for(10ms);
    }
    throw std::runtime_error("the loop does not recover: " + log_.str());
  }

  std::optional<Server> server_ = std::make_optional<Server>();
  pgkeras::Client client_{server_->target(), {.timeout = 20s}};
  std::ostringstream log_;
  ControlLoop loop_{client_,
                    {.deadline = 20ms,
                     .safe_action = pgkeras::Tensor(pgkeras::ArrayView::scalar<std::int64_t>(7)),
                     .play = {.mode = pgkeras::Mode::greedy}},
                    log_};
};

TEST_F(ControlLoopTest, HoldsTheLastActionCountsAndRecovers) {
  const auto misses = loop_.misses();
  server_->pause();
  for (std::uint64_t i = 1; i <= 10; ++i) {
    EXPECT_EQ(tick(falls_left), 1) << "the last action is held";
    EXPECT_EQ(loop_.misses_in_a_row(), i);
  }
  EXPECT_EQ(loop_.misses(), misses + 10);
  EXPECT_NE(log_.str().find("deadline missed; holding the last action"), std::string::npos) << log_.str();
  EXPECT_EQ(log_.str().find("answered again after 10"), std::string::npos) << log_.str();

  server_->go_on();
  EXPECT_EQ(until_answered(falls_left), 0);
  EXPECT_EQ(until_answered(falls_right), 1) << "a late response is dropped";
  EXPECT_NE(log_.str().find("answered again after 1"), std::string::npos) << log_.str();
  EXPECT_EQ(loop_.sessions(), 1U) << "the session has lasted";
  EXPECT_EQ(loop_.latency().total() + loop_.misses(), loop_.ticks());
}

TEST_F(ControlLoopTest, OpensAnotherSessionWhenTheServerWasRestarted) {
  const auto port = server_->port();
  server_.reset();
  EXPECT_EQ(tick(falls_left), 1);
  EXPECT_EQ(tick(falls_left), 1);
  server_.emplace(port);
  EXPECT_EQ(until_answered(falls_left), 0);
  EXPECT_GT(loop_.sessions(), 1U);
}

TEST_F(ControlLoopTest, ThrowsIfThePolicyCannotTakeTheObservation) {
  const std::array<float, 3> short_row = {};
  EXPECT_THROW(loop_.tick(short_row, {}), pgkeras::InvalidRequestError);
}

// A loop with a scripted server.
class ScriptedLoopTest : public testing::Test {
 protected:
  void tick(float reward) { loop_.tick(falls_left, {.reward = reward}); }

  // Ticks until a response arrives.
  void until_answered(float reward = 0) {
    for (int i = 0; i < 200; ++i) {
      tick(reward);
      if (loop_.misses_in_a_row() == 0) return;
      std::this_thread::sleep_for(10ms);
    }
    throw std::runtime_error("the loop does not recover: " + log_.str());
  }

  // Lets only the n-th message from now on fail, with an error in its response or by ending the stream.
  void fail(int n, grpc::StatusCode code, bool ends) {
    server_.play = [=, this, messages = 0](Scripted::Stream& stream, const pgkeras::v1::PlayRequest& request) mutable {
      const auto data = request.reward().data();
      float reward = -1;
      if (data.size() == sizeof reward) std::memcpy(&reward, data.data(), sizeof reward);
      rewards_.push_back(reward);
      const bool fails = ++messages == n;
      if (fails && ends) return grpc::Status(code, "the session ends");
      Scripted::answer(stream, request, fails ? code : grpc::StatusCode::OK);
      return grpc::Status::OK;
    };
  }

  Scripted server_;
  std::vector<float> rewards_;  // of each message; -1 for none
  pgkeras::Client client_{server_.target()};
  std::ostringstream log_;
  ControlLoop loop_{
      client_,
      {.deadline = 2s, .safe_action = pgkeras::Tensor(pgkeras::ArrayView::scalar<std::uint8_t>(0)), .play = {}},
      log_};
};

TEST_F(ScriptedLoopTest, ContinuesAfterARefusedRequestAndReportsItsRewardAgain) {
  fail(2, grpc::StatusCode::INVALID_ARGUMENT, false);
  tick(0);
  EXPECT_THROW(tick(2), pgkeras::InvalidRequestError);
  tick(3);
  EXPECT_EQ(loop_.misses_in_a_row(), 0U);
  EXPECT_EQ(rewards_, (std::vector<float>{-1, 2, 5}));
  EXPECT_EQ(loop_.sessions(), 1U);
}

TEST_F(ScriptedLoopTest, ContinuesAfterABusyServerOrALateResponse) {
  for (const auto code : {grpc::StatusCode::RESOURCE_EXHAUSTED, grpc::StatusCode::DEADLINE_EXCEEDED}) {
    fail(1, code, false);
    until_answered();
  }
  EXPECT_EQ(rewards_.size(), 4U);
  EXPECT_EQ(rewards_[1], -1) << "the first request is still the first";
  EXPECT_EQ(loop_.sessions(), 1U);
}

TEST_F(ScriptedLoopTest, OpensAnotherSessionAfterAnyError) {
  std::uint64_t sessions = 1;
  for (const auto code :
       {grpc::StatusCode::RESOURCE_EXHAUSTED, grpc::StatusCode::DEADLINE_EXCEEDED, grpc::StatusCode::UNAVAILABLE}) {
    fail(1, code, true);
    until_answered();
    EXPECT_EQ(loop_.sessions(), ++sessions) << log_.str();
  }
  fail(1, grpc::StatusCode::INVALID_ARGUMENT, true);
  EXPECT_THROW(tick(0), pgkeras::InvalidRequestError);
  until_answered();
  EXPECT_EQ(loop_.sessions(), ++sessions) << log_.str();
}

TEST(Histogram, QuantilesAreTheUpperBoundsOfTheirBuckets) {
  Histogram histogram;
  for (int i = 0; i < 99; ++i) histogram.add(100us);
  histogram.add(10ms);
  EXPECT_NEAR(histogram.quantile(0.5), 100, 25);
  EXPECT_GE(histogram.quantile(0.5), 100);
  EXPECT_NEAR(histogram.quantile(1.0), 10000, 2500);
}

}  // namespace

// What a missed deadline does to a control loop, with a real server that is stopped, goes on and dies.
#include "control_loop.hpp"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <sstream>
#include <thread>

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

  // The answer of the first tick that has one; what other processes do to this machine must not fail the test.
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
  EXPECT_EQ(until_answered(falls_right), 1) << "an answer that is too old is not taken for a new one";
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

TEST_F(ControlLoopTest, SaysSoWhenThePolicyCannotTakeTheObservation) {
  const std::array<float, 3> short_row = {};
  EXPECT_THROW(loop_.tick(short_row, {}), pgkeras::InvalidRequestError);
}

TEST(Histogram, QuantilesAreUpperEndsOfTheirBuckets) {
  Histogram histogram;
  for (int i = 0; i < 99; ++i) histogram.add(100us);
  histogram.add(10ms);
  EXPECT_NEAR(histogram.quantile(0.5), 100, 25);
  EXPECT_GE(histogram.quantile(0.5), 100);
  EXPECT_NEAR(histogram.quantile(1.0), 10000, 2500);
}

}  // namespace

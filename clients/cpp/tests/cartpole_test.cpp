#include "cartpole.hpp"

#include <gtest/gtest.h>

namespace {

// States of gymnasium 1.4's CartPole-v1 after the same start states and actions.
TEST(CartPoleTest, MovesLikeGymnasiumsCart) {
  CartPole cartpole(0);
  cartpole.reset({0.01, -0.02, 0.03, -0.04});
  for (const int action : {1, 0, 0, 1, 1, 1, 0, 1}) cartpole.step(action);
  const std::array<double, 4> expected = {0.022194582872812667, 0.36748623028388583, 0.004924309497341877,
                                          -0.5645483843942637};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(cartpole.observation()[i], expected[i], 1e-6);
}

TEST(CartPoleTest, FallsWhenGymnasiumsPoleDoes) {
  CartPole cartpole(0);
  cartpole.reset({0, 0, 0, 0});
  int steps = 0;
  for (; !cartpole.over(); ++steps) cartpole.step(1);
  EXPECT_EQ(steps, 9);
  EXPECT_TRUE(cartpole.terminated());
}

TEST(CartPoleTest, IsCutOffAfter500Steps) {
  CartPole cartpole(0, 0);  // 0 s per step, so the pole never moves
  for (int i = 0; i < 499; ++i) cartpole.step(1);
  EXPECT_FALSE(cartpole.over());
  cartpole.step(1);
  EXPECT_TRUE(cartpole.truncated());
}

}  // namespace

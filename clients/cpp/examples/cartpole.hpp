// CartPole-v1. Equations and constants are from gymnasium/envs/classic_control/cartpole.py, after Barto, Sutton &
// Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems" (1983).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <random>

class CartPole {
 public:
  static constexpr double gravity = 9.8;
  static constexpr double mass_pole = 0.1;
  static constexpr double total_mass = 1.0 + mass_pole;
  static constexpr double length = 0.5;  // half the length of the pole
  static constexpr double force = 10.0;
  static constexpr double limit_x = 2.4;
  static constexpr double limit_angle = 12 * 2 * std::numbers::pi / 360;
  static constexpr int limit_steps = 500;

  // seed: determines the start states. seconds_per_step: 0.02 in CartPole-v1.
  explicit CartPole(std::uint64_t seed, double seconds_per_step = 0.02) : random_(seed), tau_(seconds_per_step) {
    reset();
  }

  // Starts an episode, with all four numbers uniform in [-0.05, 0.05].
  void reset() {
    std::uniform_real_distribution<double> start(-0.05, 0.05);
    for (auto* number : {&x_, &speed_, &angle_, &angular_speed_}) *number = start(random_);
    steps_ = 0;
  }

  // Starts an episode in a given state.
  void reset(const std::array<double, 4>& state) {
    x_ = state[0];
    speed_ = state[1];
    angle_ = state[2];
    angular_speed_ = state[3];
    steps_ = 0;
  }

  // Pushes to the right for action 1, else to the left, and integrates by Euler's method. Every step earns 1.
  void step(std::int64_t action) {
    const double sine = std::sin(angle_);
    const double cosine = std::cos(angle_);
    const double push =
        ((action == 1 ? force : -force) + mass_pole * length * angular_speed_ * angular_speed_ * sine) / total_mass;
    const double angular_acceleration =
        (gravity * sine - cosine * push) / (length * (4.0 / 3.0 - mass_pole * cosine * cosine / total_mass));
    const double acceleration = push - mass_pole * length * angular_acceleration * cosine / total_mass;
    x_ += tau_ * speed_;
    speed_ += tau_ * acceleration;
    angle_ += tau_ * angular_speed_;
    angular_speed_ += tau_ * angular_acceleration;
    ++steps_;
  }

  bool terminated() const { return std::abs(x_) > limit_x || std::abs(angle_) > limit_angle; }
  bool truncated() const { return !terminated() && steps_ >= limit_steps; }
  bool over() const { return terminated() || truncated(); }

  // Returns position, speed, angle and angular speed.
  std::array<float, 4> observation() const {
    return {static_cast<float>(x_), static_cast<float>(speed_), static_cast<float>(angle_),
            static_cast<float>(angular_speed_)};
  }

 private:
  std::mt19937_64 random_;
  double tau_;
  double x_ = 0;
  double speed_ = 0;
  double angle_ = 0;
  double angular_speed_ = 0;
  int steps_ = 0;
};

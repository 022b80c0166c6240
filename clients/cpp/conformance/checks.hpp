// Checks of the scenarios.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <pgkeras/client.hpp>
#include <stdexcept>
#include <string>
#include <vector>

inline void check(bool right, const std::string& complaint) {
  if (!right) throw std::runtime_error(complaint);
}

inline void check_close(std::span<const float> got, const std::vector<double>& expected, const std::string& what) {
  check(got.size() == expected.size(), what + ": " + std::to_string(got.size()) + " numbers");
  for (std::size_t i = 0; i < got.size(); ++i) {
    check(std::abs(got[i] - expected[i]) <= 1e-5 * std::max(1.0, std::abs(expected[i])),
          what + ": " + std::to_string(got[i]) + ", not " + std::to_string(expected[i]));
  }
}

// Returns the exception of a call that must fail with the given type.
template <typename Error, typename Call>
Error failure(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  throw std::runtime_error("a call succeeded that should have failed");
}

inline std::vector<std::int64_t> actions_of(const pgkeras::Actions& answer) {
  const auto values = answer.action.values<std::int64_t>();
  return {values.begin(), values.end()};
}

inline std::vector<float> probabilities_of(const pgkeras::Actions& answer) {
  const auto values = answer.distribution.at("probabilities").values<float>();
  return {values.begin(), values.end()};
}

inline double sum(const std::vector<float>& numbers) {
  double total = 0;
  for (const auto number : numbers) total += number;
  return total;
}

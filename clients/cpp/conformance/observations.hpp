// The observations of the scenario structured_observations from a row on: a batch of the given shape, or a single
// observation without it.
#pragma once

#include <map>
#include <pgkeras/client.hpp>
#include <string>
#include <vector>

#include "checks.hpp"

inline std::size_t count(const pgkeras::Shape& shape) {
  std::size_t product = 1;
  for (const auto length : shape) product *= static_cast<std::size_t>(length);
  return product;
}

// A part. Each element is computed from its index among the elements of all rows.
template <typename T, typename Element>
pgkeras::Observation counted(std::size_t row, pgkeras::Shape batch, const pgkeras::Shape& shape, Element element) {
  std::vector<T> values(count(batch) * count(shape));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(element(row * count(shape) + i));
  batch.insert(batch.end(), shape.begin(), shape.end());
  return pgkeras::ArrayView(values, std::move(batch));
}

using Parts = std::map<std::string, pgkeras::Observation>;

inline Parts hands(std::size_t row, const pgkeras::Shape& batch) {
  return {{"0", counted<std::int8_t>(row, batch, {3}, [](auto i) { return i % 2; })},
          {"1", counted<std::int64_t>(row, batch, {}, [](auto i) { return i % 4; })}};
}

inline pgkeras::Observation position(std::size_t row, const pgkeras::Shape& batch, std::int64_t length) {
  return counted<float>(row, batch, {length}, [](auto i) { return (static_cast<float>(i % 9) - 4) / 4; });
}

inline pgkeras::Observation observation(std::size_t row, const pgkeras::Shape& batch, Parts hands,
                                        pgkeras::Observation position) {
  return pgkeras::Observation::fields(
      {{"camera", counted<std::uint8_t>(row, batch, {4, 4, 3}, [](auto i) { return i % 251; })},
       {"hands", pgkeras::Observation::fields(std::move(hands))},
       {"position", std::move(position)}});
}

inline pgkeras::Observation parts(std::size_t row, const pgkeras::Shape& batch) {
  return observation(row, batch, hands(row, batch), position(row, batch, 4));
}

// Checks that observations with a missing part and with a part of the wrong shape fail with an error that names it.
template <typename Ask>
void check_wrong_parts(Ask ask, std::size_t row, const pgkeras::Shape& batch) {
  auto hand = hands(row, batch);
  hand.erase("1");
  const auto missing = failure<pgkeras::InvalidRequestError>(
      [&] { ask(observation(row, batch, std::move(hand), position(row, batch, 4))); });
  check(missing.field == "observation.hands.1", missing.what());
  const auto misshapen = failure<pgkeras::InvalidRequestError>(
      [&] { ask(observation(row, batch, hands(row, batch), position(row, batch, 3))); });
  check(misshapen.field == "observation.position", misshapen.what());
  check(misshapen.expected.find("[4]") != std::string::npos, misshapen.what());
}

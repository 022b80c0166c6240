// What a simulator shows and takes: the spaces that it declares. The kinds are those of gymnasium.spaces.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "pgkeras/tensor.hpp"
#include "pgkeras/v1/spaces.pb.h"

namespace pgkeras::spaces {

using Space = v1::Space;

constexpr double unbounded = std::numeric_limits<double>::infinity();

// Arrays of numbers, all within the same bounds.
Space box(const Shape& shape, double low, double high, v1::DataType dtype = v1::DATA_TYPE_FLOAT32);

// Arrays of numbers, each within bounds of its own, in C order. Throws InvalidRequestError if there are not as many
// bounds as elements.
Space box(const Shape& shape, const std::vector<double>& low, const std::vector<double>& high,
          v1::DataType dtype = v1::DATA_TYPE_FLOAT32);

// One of the integers start, ..., start + n - 1.
Space discrete(std::int64_t n, std::int64_t start = 0);

// Several integers at once: element i is one of 0, ..., counts[i] - 1.
Space multi_discrete(const std::vector<std::int64_t>& counts);

// Zeros and ones.
Space multi_binary(const Shape& shape);

// Named parts, in this order.
Space dict(const std::vector<std::pair<std::string, Space>>& parts);

// Ordered parts.
Space tuple(const std::vector<Space>& parts);

}  // namespace pgkeras::spaces

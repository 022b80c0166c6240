/// @file
/// Observation and action spaces, for simulators that declare them. The kinds are those of gymnasium.spaces.
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

/// Arrays of numbers, all within the same bounds.
Space box(const Shape& shape, double low, double high, v1::DataType dtype = v1::DATA_TYPE_FLOAT32);

/// Arrays of numbers, with bounds for each element in C order. Throws InvalidRequestError if the number of bounds does
/// not match the number of elements.
Space box(const Shape& shape, const std::vector<double>& low, const std::vector<double>& high,
          v1::DataType dtype = v1::DATA_TYPE_FLOAT32);

/// The integers start, ..., start + n - 1.
Space discrete(std::int64_t n, std::int64_t start = 0);

/// Integer vectors, whose element i is in 0, ..., counts[i] - 1.
Space multi_discrete(const std::vector<std::int64_t>& counts);

/// Arrays of zeros and ones.
Space multi_binary(const Shape& shape);

/// Named parts, in this order.
Space dict(const std::vector<std::pair<std::string, Space>>& parts);

/// Ordered parts.
Space tuple(const std::vector<Space>& parts);

}  // namespace pgkeras::spaces

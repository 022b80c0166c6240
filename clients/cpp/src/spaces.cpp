#include "pgkeras/spaces.hpp"

namespace pgkeras::spaces {
namespace {

void set_bounds(v1::BoxSpace& box, const std::vector<double>& low, const std::vector<double>& high) {
  box.mutable_low()->Assign(low.begin(), low.end());
  box.mutable_high()->Assign(high.begin(), high.end());
}

Space box_of(const Shape& shape, v1::DataType dtype) {
  Space space;
  space.mutable_box()->set_dtype(dtype);
  space.mutable_box()->mutable_shape()->Assign(shape.begin(), shape.end());
  return space;
}

}  // namespace

Space box(const Shape& shape, double low, double high, v1::DataType dtype) {
  auto space = box_of(shape, dtype);
  set_bounds(*space.mutable_box(), {low}, {high});
  return space;
}

Space box(const Shape& shape, const std::vector<double>& low, const std::vector<double>& high, v1::DataType dtype) {
  std::size_t elements = 1;
  for (const auto length : shape) elements *= static_cast<std::size_t>(length);
  for (const auto* bounds : {&low, &high}) {
    if (bounds->size() == elements) continue;
    throw InvalidRequestError("simulator.space.box", std::to_string(elements) + " bounds",
                              std::to_string(bounds->size()));
  }
  auto space = box_of(shape, dtype);
  set_bounds(*space.mutable_box(), low, high);
  return space;
}

Space discrete(std::int64_t n, std::int64_t start) {
  Space space;
  space.mutable_discrete()->set_n(n);
  space.mutable_discrete()->set_start(start);
  space.mutable_discrete()->set_dtype(v1::DATA_TYPE_INT64);
  return space;
}

Space multi_discrete(const std::vector<std::int64_t>& counts) {
  Space space;
  auto& several = *space.mutable_multi_discrete();
  several.mutable_nvec()->Assign(counts.begin(), counts.end());
  several.mutable_start()->Resize(static_cast<int>(counts.size()), 0);
  several.add_shape(static_cast<std::int64_t>(counts.size()));
  several.set_dtype(v1::DATA_TYPE_INT64);
  return space;
}

Space multi_binary(const Shape& shape) {
  Space space;
  space.mutable_multi_binary()->mutable_shape()->Assign(shape.begin(), shape.end());
  return space;
}

Space dict(const std::vector<std::pair<std::string, Space>>& parts) {
  Space space;
  for (const auto& [key, part] : parts) {
    auto& named = *space.mutable_dict()->add_spaces();
    named.set_key(key);
    *named.mutable_space() = part;
  }
  return space;
}

Space tuple(const std::vector<Space>& parts) {
  Space space;
  for (const auto& part : parts) *space.mutable_tuple()->add_spaces() = part;
  return space;
}

}  // namespace pgkeras::spaces

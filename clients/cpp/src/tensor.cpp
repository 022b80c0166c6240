#include "pgkeras/tensor.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

namespace pgkeras {
namespace {

constexpr std::size_t max_axes = 32;

std::string text(const Shape& shape) {
  std::string out = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) out += (axis ? ", " : "") + std::to_string(shape[axis]);
  return out + "]";
}

std::string name(v1::DataType dtype) {
  const auto& full = v1::DataType_Name(dtype);
  return full.empty() ? std::to_string(dtype) : full.substr(sizeof("DATA_TYPE_") - 1);
}

// Returns the size of the elements in bytes, or nothing if it overflows.
std::optional<std::size_t> size_in_bytes(v1::DataType dtype, const Shape& shape) {
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  auto size = element_size(dtype);
  for (const auto length : shape) {
    if (static_cast<std::uint64_t>(length) > std::numeric_limits<std::size_t>::max() / size) return std::nullopt;
    size *= static_cast<std::size_t>(length);
  }
  return size;
}

void check(v1::DataType dtype, const Shape& shape, std::size_t bytes, const std::string& field) {
  if (element_size(dtype) == 0) throw InvalidRequestError(field + ".dtype", "a DataType that is known", name(dtype));
  if (shape.size() > max_axes) {
    throw InvalidRequestError(field + ".shape", "at most 32 axes", std::to_string(shape.size()) + " axes");
  }
  if (std::ranges::any_of(shape, [](auto length) { return length < 0; })) {
    throw InvalidRequestError(field + ".shape", "lengths of at least 0", text(shape));
  }
  const auto expected = size_in_bytes(dtype, shape);
  if (bytes != expected) {
    const auto size = expected ? std::to_string(*expected) : "more than memory holds, in";
    throw InvalidRequestError(field + ".data", size + " bytes for shape " + text(shape) + " of " + name(dtype),
                              std::to_string(bytes) + " bytes");
  }
}

}  // namespace

std::size_t element_size(v1::DataType dtype) {
  switch (dtype) {
    case v1::DATA_TYPE_BOOL:
    case v1::DATA_TYPE_UINT8:
    case v1::DATA_TYPE_INT8:
      return 1;
    case v1::DATA_TYPE_UINT16:
    case v1::DATA_TYPE_INT16:
    case v1::DATA_TYPE_FLOAT16:
      return 2;
    case v1::DATA_TYPE_INT32:
    case v1::DATA_TYPE_FLOAT32:
      return 4;
    case v1::DATA_TYPE_INT64:
    case v1::DATA_TYPE_FLOAT64:
      return 8;
    default:
      return 0;
  }
}

ArrayView::ArrayView(v1::DataType dtype, std::span<const std::byte> bytes, Shape shape)
    : dtype_(dtype), bytes_(bytes), shape_(std::move(shape)) {
  check(dtype_, shape_, bytes_.size(), "array");
}

Tensor::Tensor(const ArrayView& array)
    : dtype_(array.dtype()), shape_(array.shape()), bytes_(array.bytes().begin(), array.bytes().end()) {}

Tensor::Tensor(const v1::Tensor& message, std::string_view field)
    : dtype_(message.dtype()), shape_(message.shape().begin(), message.shape().end()) {
  const std::string path(field);
  const auto& data = message.data();
  check(dtype_, shape_, data.size(), path);
  if (dtype_ == v1::DATA_TYPE_BOOL) {
    const auto wrong = std::ranges::find_if(data, [](unsigned char byte) { return byte > 1; });
    if (wrong != data.end()) {
      throw InvalidRequestError(path + ".data", "bytes of 0 or 1 for a bool",
                                std::to_string(static_cast<unsigned char>(*wrong)));
    }
  }
  // The memory of a string may be aligned for single bytes only.
  bytes_.resize(data.size());
  if (!data.empty()) std::memcpy(bytes_.data(), data.data(), data.size());
}

Tensor Tensor::first_row() && {
  if (shape_.empty() || shape_.front() != 1) {
    throw ServerFailedError("the server answered one observation with an array of shape " + text(shape_));
  }
  shape_.erase(shape_.begin());
  return std::move(*this);
}

void Tensor::check_type(v1::DataType wanted) const {
  if (dtype_ != wanted) throw InvalidRequestError("values", "a reader of " + name(dtype_), "one of " + name(wanted));
}

void Tensor::check_index(std::size_t index) const {
  if (index >= size()) {
    throw InvalidRequestError("item", "an index below " + std::to_string(size()), std::to_string(index));
  }
}

Observation::Observation(const ArrayView& array) { write_tensor(*message_.mutable_tensor(), array); }

Observation Observation::texts(std::span<const std::string> texts) {
  Observation result;
  result.message_.mutable_texts()->mutable_texts()->Assign(texts.begin(), texts.end());
  return result;
}

Observation Observation::fields(std::map<std::string, Observation> parts) {
  Observation result;
  auto& fields = *result.message_.mutable_fields()->mutable_fields();
  for (auto& [key, part] : parts) fields[key] = std::move(part.message_);
  return result;
}

void write_tensor(v1::Tensor& message, const ArrayView& array) {
  message.set_dtype(array.dtype());
  message.mutable_shape()->Assign(array.shape().begin(), array.shape().end());
  message.set_data(array.bytes().data(), array.bytes().size());
}

}  // namespace pgkeras

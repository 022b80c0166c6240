/// @file
/// Converts native arrays to the protocol's tensors and back, a whole array at a time.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "pgkeras/error.hpp"
#include "pgkeras/v1/tensors.pb.h"

namespace pgkeras {

static_assert(std::endian::native == std::endian::little, "tensors travel as little-endian memory");

using Shape = std::vector<std::int64_t>;

/// Returns the protocol's type for elements of type T, or DATA_TYPE_UNSPECIFIED if there is none.
template <typename T>
constexpr v1::DataType data_type() {
  if constexpr (std::same_as<T, bool>) return v1::DATA_TYPE_BOOL;
  if constexpr (std::same_as<T, std::uint8_t>) return v1::DATA_TYPE_UINT8;
  if constexpr (std::same_as<T, std::int8_t>) return v1::DATA_TYPE_INT8;
  if constexpr (std::same_as<T, std::uint16_t>) return v1::DATA_TYPE_UINT16;
  if constexpr (std::same_as<T, std::int16_t>) return v1::DATA_TYPE_INT16;
  if constexpr (std::same_as<T, std::int32_t>) return v1::DATA_TYPE_INT32;
  if constexpr (std::same_as<T, std::int64_t>) return v1::DATA_TYPE_INT64;
  if constexpr (std::same_as<T, float>) return v1::DATA_TYPE_FLOAT32;
  if constexpr (std::same_as<T, double>) return v1::DATA_TYPE_FLOAT64;
  return v1::DATA_TYPE_UNSPECIFIED;
}

template <typename T>
concept Element = data_type<std::remove_cv_t<T>>()
!= v1::DATA_TYPE_UNSPECIFIED;

template <typename R>
concept ElementRange =
    std::ranges::contiguous_range<R> && std::ranges::sized_range<R> && Element<std::ranges::range_value_t<R>>;

/// Returns the size of one element in bytes, or 0 for an unknown type.
std::size_t element_size(v1::DataType dtype);

/// A view of a native array in C order. The array must outlive the view. For element types that C++ lacks (float16),
/// pass the type and the bytes.
class ArrayView {
 public:
  /// A vector.
  template <ElementRange R>
  ArrayView(const R& values)  // NOLINT(google-explicit-constructor): implicit conversion is intended
      : ArrayView(values, Shape{static_cast<std::int64_t>(std::ranges::size(values))}) {}

  /// Throws InvalidRequestError if the length of the range does not match the shape.
  template <ElementRange R>
  ArrayView(const R& values, Shape shape)
      : ArrayView(data_type<std::ranges::range_value_t<R>>(), std::as_bytes(std::span(values)), std::move(shape)) {}

  ArrayView(v1::DataType dtype, std::span<const std::byte> bytes, Shape shape);

  /// Returns a view without axes of a single number.
  template <Element T>
  static ArrayView scalar(const T& value) {
    return ArrayView(data_type<T>(), std::as_bytes(std::span(&value, 1)), {});
  }

  v1::DataType dtype() const { return dtype_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  const Shape& shape() const { return shape_; }

 private:
  v1::DataType dtype_;
  std::span<const std::byte> bytes_;
  Shape shape_;
};

/// An array that owns its memory, such as one of a response.
class Tensor {
 public:
  Tensor() = default;

  explicit Tensor(const ArrayView& array);

  /// Decodes a message, whose bytes are copied in one piece. Throws InvalidRequestError, with a path that begins with
  /// `field`, if the type is unknown, the shape is invalid, or the data does not match them.
  Tensor(const v1::Tensor& message, std::string_view field);

  v1::DataType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::size_t size() const { return element_size(dtype_) == 0 ? 0 : bytes_.size() / element_size(dtype_); }

  /// Returns the elements in C order without a copy. The span is valid as long as the tensor. Throws
  /// InvalidRequestError if the elements are not of type T.
  template <Element T>
  std::span<const T> values() const {
    check_type(data_type<T>());
    return {reinterpret_cast<const T*>(bytes_.data()), bytes_.size() / sizeof(T)};
  }

  /// Returns one element, by its index in C order.
  template <Element T>
  T item(std::size_t index = 0) const {
    check_index(index);
    return values<T>()[index];
  }

  /// Returns the same elements without the leading axis, whose length must be 1.
  Tensor first_row() &&;

 private:
  void check_type(v1::DataType wanted) const;
  void check_index(std::size_t index) const;

  v1::DataType dtype_ = v1::DATA_TYPE_UNSPECIFIED;
  Shape shape_;
  std::vector<std::byte> bytes_;
};

/// An observation or a batch of observations: an array, texts, or fields that follow the structure of the space.
class Observation {
 public:
  Observation(const ArrayView& array);  // NOLINT(google-explicit-constructor)

  template <ElementRange R>
  Observation(const R& values) : Observation(ArrayView(values)) {}  // NOLINT(google-explicit-constructor)

  /// Returns observations of a Text space, one string per observation.
  static Observation texts(std::span<const std::string> texts);

  /// Returns an observation of a Dict space from its keys, or of a Tuple space from "0", "1", ...
  static Observation fields(std::map<std::string, Observation> parts);

  /// Returns the message. It can be moved out of an observation that is no longer needed.
  const v1::Value& message() const& { return message_; }
  v1::Value&& message() && { return std::move(message_); }

 private:
  Observation() = default;

  v1::Value message_;
};

/// Writes an array into a message: little-endian, C order, one copy.
void write_tensor(v1::Tensor& message, const ArrayView& array);

}  // namespace pgkeras

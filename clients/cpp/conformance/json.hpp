// Reads conformance/vectors.json.
#pragma once

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <pgkeras/client.hpp>
#include <stdexcept>
#include <string>
#include <vector>

inline nlohmann::json read_json(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return nlohmann::json::parse(file);
}

inline std::string from_base64(const std::string& text) {
  static const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  unsigned buffer = 0;
  int bits = 0;
  for (const char letter : text) {
    if (letter == '=') break;
    const auto digit = digits.find(letter);
    if (digit == std::string::npos) throw std::runtime_error("not base64: " + text);
    buffer = buffer << 6 | static_cast<unsigned>(digit);
    bits += 6;
    if (bits >= 8) bytes.push_back(static_cast<char>(buffer >> (bits -= 8) & 0xff));
  }
  return bytes;
}

template <typename Message>
Message from_vector(const nlohmann::json& base64) {
  Message message;
  if (!message.ParseFromString(from_base64(base64))) throw std::runtime_error("not a message: " + base64.dump());
  return message;
}

// A float32 array of the vectors: data and shape.
struct FloatArray {
  explicit FloatArray(const nlohmann::json& array) : shape(array["shape"]) {
    const auto bytes = from_base64(array["data"]);
    values.resize(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
  }

  pgkeras::ArrayView view() const { return {values, shape}; }

  std::vector<float> values;
  pgkeras::Shape shape;
};

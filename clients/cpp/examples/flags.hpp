// Parses the programs' command lines: --name value, in any order.
#pragma once

#include <iostream>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>

class Flags {
 public:
  Flags(int count, char** words) {
    for (int i = 1; i < count; i += 2) {
      const std::string name = words[i];
      if (!name.starts_with("--") || i + 1 == count) throw std::invalid_argument(name + ": expected --NAME VALUE");
      values_[name.substr(2)] = words[i + 1];
    }
  }

  std::optional<std::string> find(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? std::nullopt : std::optional(found->second);
  }

  std::string require(const std::string& name) const {
    if (const auto value = find(name)) return *value;
    throw std::invalid_argument("--" + name + " is missing");
  }

  long number(const std::string& name, long otherwise) const {
    const auto value = find(name);
    return value ? std::stol(*value) : otherwise;
  }

 private:
  std::map<std::string, std::string> values_;
};

// Runs a program. If it throws, prints the message and returns 1.
template <typename Program>
int run(int count, char** words, Program program) {
  try {
    return program(Flags(count, words));
  } catch (const std::exception& error) {
    std::cerr << words[0] << ": " << error.what() << '\n';
    return 1;
  }
}

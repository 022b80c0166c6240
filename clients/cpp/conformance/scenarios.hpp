// The scenarios of conformance/scenarios.md, one method each.
#pragma once

#include <nlohmann/json.hpp>
#include <pgkeras/client.hpp>
#include <stdexcept>
#include <string>

#include "../examples/flags.hpp"

// Thrown by a scenario that cannot be run.
class Skip : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Scenarios {
 public:
  explicit Scenarios(const Flags& flags);

  void describe();
  void single();
  void batch();
  void seeded_calls();
  void seeded_sessions();
  void session_goes_on();
  void unknown_policy();
  void bad_shape();
  void image();
  void masks();
  void memory();
  void structured();
  void structured_observations();
  void deadline();
  void nobody();
  void busy();
  void tls_and_token();
  void restart();

 private:
  std::string flag(const std::string& name) const;
  // Returns a client of a policy that the server may lack.
  pgkeras::Client fixture(const std::string& policy) const;

  const Flags& flags_;
  const nlohmann::json vectors_;
  pgkeras::Client client_;
};

// The conformance program of the C++ client. conformance/README.md specifies it.
#include <functional>
#include <iostream>
#include <utility>
#include <vector>

#include "scenarios.hpp"

int main(int count, char** words) {
  return run(count, words, [](const Flags& flags) {
    Scenarios scenarios(flags);
    const std::vector<std::pair<std::string, void (Scenarios::*)()>> all = {
        {"describe", &Scenarios::describe},
        {"single", &Scenarios::single},
        {"batch", &Scenarios::batch},
        {"seeded_calls", &Scenarios::seeded_calls},
        {"seeded_sessions", &Scenarios::seeded_sessions},
        {"session_goes_on", &Scenarios::session_goes_on},
        {"unknown_policy", &Scenarios::unknown_policy},
        {"bad_shape", &Scenarios::bad_shape},
        {"image", &Scenarios::image},
        {"masks", &Scenarios::masks},
        {"memory", &Scenarios::memory},
        {"structured", &Scenarios::structured},
        {"structured_observations", &Scenarios::structured_observations},
        {"deadline", &Scenarios::deadline},
        {"nobody", &Scenarios::nobody},
        {"busy", &Scenarios::busy},
        {"tls_and_token", &Scenarios::tls_and_token},
        {"restart", &Scenarios::restart},
    };
    bool failed = false;
    for (const auto& [name, scenario] : all) {
      if (name != flags.find("only").value_or(name)) continue;
      try {
        (scenarios.*scenario)();
        std::cout << "PASS " << name << std::endl;
      } catch (const Skip& reason) {
        std::cout << "SKIP " << name << ": " << reason.what() << std::endl;
      } catch (const std::exception& error) {
        failed = true;
        std::cout << "FAIL " << name << ": " << error.what() << std::endl;
      }
    }
    return failed ? 1 : 0;
  });
}

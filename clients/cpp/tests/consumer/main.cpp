#include <array>
#include <pgkeras/client.hpp>

int main(int count, char** words) {
  if (count < 2) return 0;
  pgkeras::Client client(words[1]);
  auto session = client.play({.mode = pgkeras::Mode::greedy});
  return static_cast<int>(session.step(std::array<float, 4>{}).action.item<std::int64_t>());
}

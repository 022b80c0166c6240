#include "scenarios.hpp"

#include <array>
#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "checks.hpp"
#include "json.hpp"
#include "observations.hpp"

namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using pgkeras::ArrayView;
using pgkeras::Mode;

constexpr std::array<float, 4> row = {0.0F, 0.1F, 0.0F, -0.1F};
constexpr std::array<float, 3> short_row = {0.0F, 0.1F, 0.0F};
constexpr auto going_on = pgkeras::Outcome{.reward = 1.0F};
const pgkeras::Shape scalar;

// Returns actions as a list, whether the vector has one number or a list.
std::vector<std::int64_t> integers(const json& value) {
  return value.is_array() ? value.get<std::vector<std::int64_t>>() : std::vector{value.get<std::int64_t>()};
}

std::vector<double> numbers(const json& value) {
  if (!value.is_array()) return {value.get<double>()};
  std::vector<double> flat;
  for (const auto& part : value) std::ranges::copy(numbers(part), std::back_inserter(flat));
  return flat;
}

std::vector<std::uint8_t> flags(const json& value) {
  std::vector<std::uint8_t> bytes;
  for (const bool flag : value.get<std::vector<bool>>()) bytes.push_back(flag);
  return bytes;
}

}  // namespace

Scenarios::Scenarios(const Flags& flags)
    : flags_(flags),
      vectors_(read_json(flags.require("vectors"))),
      client_(flags.require("target"), {.policy = "cartpole-v1"}) {}

void Scenarios::describe() {
  const auto info = client_.describe();
  const auto& policy = info.policy;
  const auto& box = policy.spec().observation_space().box();
  const json got = {
      {"name", policy.name()},
      {"version", policy.version()},
      {"spec_hash", policy.spec_hash()},
      {"observation_shape", std::vector(box.shape().begin(), box.shape().end())},
      {"observation_dtype", box.dtype() == pgkeras::v1::DATA_TYPE_FLOAT32 ? "float32" : "another"},
      {"actions", policy.spec().action_space().discrete().n()},
      {"distribution",
       policy.spec().distribution() == pgkeras::v1::DISTRIBUTION_KIND_CATEGORICAL ? "categorical" : "another"}};
  check(got == vectors_["policy"], got.dump());
  check(info.limits && info.limits->max_batch_size > 0 && info.limits->max_receive_message_bytes > 0 &&
            info.limits->max_send_message_bytes > 0,
        "a limit is not above 0");
  const auto all = client_.policies();
  check(std::ranges::any_of(all, [](const auto& one) { return one.policy.name() == "cartpole-v1"; }),
        "not in the list of policies");
}

void Scenarios::single() {
  const auto answer = client_.act(row, {.mode = Mode::greedy});
  check(answer.action.shape() == scalar && answer.log_prob->shape() == scalar && answer.entropy->shape() == scalar,
        "expected a scalar");
  const auto probabilities = probabilities_of(answer);
  check(answer.distribution.at("probabilities").shape() == pgkeras::Shape{2}, "probabilities of another shape");
  check(std::abs(sum(probabilities) - 1) < 1e-5, "probabilities do not sum to 1");
  check(answer.policy == "cartpole-v1" && answer.version == 1, "answered by " + answer.policy);
}

void Scenarios::batch() {
  std::vector<float> rows(256);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = (static_cast<float>(i) - 128) / 256;
  const auto answer = client_.act(ArrayView(rows, {64, 4}), {.mode = Mode::greedy});
  check(answer.action.shape() == pgkeras::Shape{64} && answer.log_prob->shape() == pgkeras::Shape{64} &&
            answer.distribution.at("probabilities").shape() == pgkeras::Shape{64, 2},
        "not 64 rows");
  for (const std::size_t i : {0, 31, 63}) {
    const auto alone = client_.act(std::span(rows).subspan(4 * i, 4), {.mode = Mode::greedy});
    check(alone.action.item<std::int64_t>() == answer.action.item<std::int64_t>(i), "another action alone");
    check_close(alone.log_prob->values<float>(), {answer.log_prob->item<float>(i)}, "log_prob");
  }
}

void Scenarios::seeded_calls() {
  for (const auto& vector : vectors_["calls"]) {
    pgkeras::ActOptions options;
    options.mode = vector["mode"] == "greedy" ? Mode::greedy : Mode::sample;
    if (!vector["seed"].is_null()) options.seed = std::stoull(vector["seed"].get<std::string>());
    for (int time = 0; time < 2; ++time) {
      const auto answer = client_.act(FloatArray(vector["observation"]).view(), options);
      check(actions_of(answer) == integers(vector["action"]), vector["name"].get<std::string>() + ": other actions");
      check_close(answer.log_prob->values<float>(), numbers(vector["log_prob"]), "log_prob");
      check_close(answer.entropy->values<float>(), numbers(vector["entropy"]), "entropy");
      check_close(probabilities_of(answer), numbers(vector["probabilities"]), "probabilities");
    }
  }
}

void Scenarios::seeded_sessions() {
  for (const auto& vector : vectors_["sessions"]) {
    auto session = client_.play({.seed = std::stoull(vector["seed"].get<std::string>())});
    for (const auto& step : vector["steps"]) {
      const FloatArray observation(step["observation"]);
      pgkeras::Actions answer;
      if (step.contains("reward")) {
        answer = session.step_batch(observation.view(), step["reward"].get<std::vector<float>>(),
                                    flags(step["terminated"]), flags(step["truncated"]));
      } else {
        answer = session.step_batch(observation.view());
      }
      check(actions_of(answer) == integers(step["action"]), vector["name"].get<std::string>() + ": other actions");
    }
  }
}

void Scenarios::session_goes_on() {
  auto session = client_.play({.mode = Mode::greedy});
  session.step(row);
  const auto error = failure<pgkeras::InvalidRequestError>([&] { session.step(short_row, 1.0F, false, false); });
  check(error.field == "observation", "field " + error.field);
  check(!session.over(), "the session is over");
  check(session.step(row, 1.0F, false, false).action.shape() == scalar, "no response after the error");
}

void Scenarios::unknown_policy() {
  pgkeras::Client client(flags_.require("target"), {.policy = "no-such-policy"});
  const std::string message = failure<pgkeras::PolicyNotFoundError>([&] { client.act(row); }).what();
  check(message.find("cartpole-v1") != std::string::npos, message);
}

void Scenarios::bad_shape() {
  const auto error = failure<pgkeras::InvalidRequestError>([&] { client_.act(short_row); });
  check(error.field == "observation" && error.expected.find("[4]") != std::string::npos, error.what());
}

void Scenarios::image() {
  auto client = fixture("image");
  std::vector<std::uint8_t> pixels(8 << 20);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i % 251);
  const auto answer = client.act(ArrayView(pixels, {1024, 2048, 4}));
  const auto action = answer.action.item<std::int64_t>();
  check(action >= 0 && action <= 2, "action " + std::to_string(action));
  check(std::abs(sum(probabilities_of(answer)) - 1) < 1e-5, "probabilities do not sum to 1");
}

void Scenarios::masks() {
  constexpr int rows = 32;
  constexpr int actions = 5;
  auto client = fixture("masked");
  const std::vector<float> zeros(4 * rows);
  std::array<std::uint8_t, rows* actions> bytes = {};
  const ArrayView mask(pgkeras::v1::DATA_TYPE_BOOL, std::as_bytes(std::span(bytes)), {rows, actions});
  const pgkeras::Observation observations = ArrayView(zeros, {rows, 4});
  const auto all_ways = [&](const auto& judge) {
    judge([&] { return client.act(observations, {.seed = 3, .action_mask = mask}); });
    judge([&] {
      auto session = client.play({.seed = 3, .outputs = {pgkeras::Output::distribution}});
      return session.step_batch(observations, std::nullopt, {.action_mask = mask});
    });
  };
  for (int i = 0; i < rows; ++i) bytes[actions * i + i % actions] = 1;
  all_ways([](const auto& act) {
    const auto chosen = actions_of(act());
    for (int i = 0; i < rows; ++i) check(chosen[i] == i % actions, "an action that the mask forbids");
  });
  for (int i = 0; i < rows * actions; ++i) bytes[i] = i % actions == 1 || i % actions == 3;
  all_ways([](const auto& act) {
    const auto answer = act();
    for (const auto action : actions_of(answer)) check(action == 1 || action == 3, "an action that the mask forbids");
    const auto probabilities = probabilities_of(answer);
    for (int i = 0; i < rows * actions; ++i) {
      check(i % actions == 1 || i % actions == 3 || probabilities[i] < 1e-6, "a masked action is probable");
    }
  });
  bytes = {};
  all_ways([](const auto& act) {
    const auto error = failure<pgkeras::InvalidRequestError>(act);
    check(error.field == "action_mask", "field " + error.field);
  });
}

namespace {

// Checks that a response of the policy `structured` matches the mask of its scenario.
void check_parts(const pgkeras::Actions& answer) {
  for (const auto* parts : {&answer.parts, &answer.greedy_parts}) {
    const auto aim = parts->at("aim").values<float>();
    check(aim.size() == 64, "an aim of another size");
    for (const auto number : aim) check(std::abs(number) <= 1, "an aim beyond its bounds");
    const auto bits = parts->at("hands.0").values<std::int8_t>();
    check(bits.size() == 96, "bits of another number");
    for (const auto bit : bits) check(bit == 0 || bit == 1, "a bit that is neither 0 nor 1");
    const auto choices = parts->at("hands.1").values<std::int64_t>();
    const auto moves = parts->at("move").values<std::int64_t>();
    check(choices.size() == 32 && moves.size() == 32, "choices of another number");
    for (int i = 0; i < 32; ++i) check(choices[i] == i % 4 && moves[i] == i % 3, "a choice that the mask forbids");
  }
  std::string names;
  for (const auto& [name, parameter] : answer.distribution) names += name + " ";
  check(names == "aim.mean aim.stddev hands.0.probabilities hands.1.probabilities move.probabilities ", names);
  const auto probabilities = answer.distribution.at("move.probabilities").values<float>();
  for (int i = 0; i < 96; ++i) {
    check(std::abs(probabilities[i] - (i % 3 == i / 3 % 3 ? 1.F : 0.F)) < 1e-5, "move.probabilities");
  }
}

}  // namespace

void Scenarios::structured() {
  constexpr int rows = 32;
  constexpr int columns = 7;
  auto client = fixture("structured");
  const std::vector<float> zeros(4 * rows);
  const pgkeras::Observation observations = ArrayView(zeros, {rows, 4});
  std::array<std::uint8_t, rows* columns> bytes = {};
  for (int i = 0; i < rows; ++i) bytes[columns * i + i % 4] = bytes[columns * i + 4 + i % 3] = 1;
  const ArrayView mask(pgkeras::v1::DATA_TYPE_BOOL, std::as_bytes(std::span(bytes)), {rows, columns});
  const std::vector<pgkeras::Output> outputs = {pgkeras::Output::distribution, pgkeras::Output::greedy_action};
  check_parts(client.act(observations, {.seed = 3, .outputs = outputs, .action_mask = mask}));
  auto session = client.play({.seed = 3, .outputs = outputs});
  check_parts(session.step_batch(observations, std::nullopt, {.action_mask = mask}));
  auto alone = client.play();
  const auto answer = alone.step(std::array<float, 4>{});
  check(answer.parts.at("aim").shape() == pgkeras::Shape{2}, "an aim of another shape");
  check(answer.parts.at("move").shape().empty(), "a move of another shape");
}

void Scenarios::structured_observations() {
  auto client = fixture("parts");
  const auto& vector = vectors_["structured_observations"];
  const auto actions = integers(vector["action"]);
  const auto distributions = numbers(vector["probabilities"]);
  const auto seed = std::stoull(vector["seed"].get<std::string>());
  const auto judge = [&](const pgkeras::Actions& answer, std::size_t row, const pgkeras::Shape& batch) {
    const auto rows = count(batch);
    check(answer.action.shape() == batch, "actions of another shape");
    const std::span expected = std::span(actions).subspan(row, rows);
    check(std::ranges::equal(actions_of(answer), expected), "row " + std::to_string(row) + ": other actions");
    const std::span probabilities = std::span(distributions).subspan(3 * row, 3 * rows);
    check_close(probabilities_of(answer), {probabilities.begin(), probabilities.end()}, "probabilities");
  };
  const pgkeras::Shape single;
  const pgkeras::Shape batch = {static_cast<std::int64_t>(actions.size())};
  const auto act = [&](const pgkeras::Observation& observation) { return client.act(observation, {.seed = seed}); };
  judge(act(parts(0, batch)), 0, batch);
  check_wrong_parts(act, 0, batch);
  const pgkeras::PlayOptions options = {.seed = seed, .outputs = {pgkeras::Output::distribution}};
  judge(client.play(options).step_batch(parts(0, batch)), 0, batch);
  auto alone = client.play(options);
  judge(alone.step(parts(0, single)), 0, single);
  const auto step = [&](const pgkeras::Observation& observation) { return alone.step(observation, going_on); };
  check_wrong_parts(step, 1, single);
  check(!alone.over(), "the session is over");
  for (std::size_t row = 1; row < actions.size(); ++row) judge(step(parts(row, single)), row, single);
}

void Scenarios::memory() {
  auto client = fixture("memory");
  constexpr std::array<float, 4> ones = {1, 1, 1, 1};
  const auto first = client.act(ones, {.mode = Mode::greedy});
  const auto second = client.act(ones, {.mode = Mode::greedy, .state = first.state});
  const auto third = client.act(ones, {.mode = Mode::greedy});
  const auto begin = probabilities_of(first);
  const auto later = probabilities_of(second);
  const std::vector<double> expected_begin(begin.begin(), begin.end());
  const std::vector<double> expected_later(later.begin(), later.end());
  double change = 0;
  for (std::size_t i = 0; i < begin.size(); ++i) change = std::max<double>(change, std::abs(begin[i] - later[i]));
  check(change > 1e-4, "the state makes no difference");
  check_close(probabilities_of(third), expected_begin, "without a state");
  auto session = client.play({.mode = Mode::greedy, .outputs = {pgkeras::Output::distribution}});
  const std::array<std::uint8_t, 1> start = {1};
  check_close(probabilities_of(session.step(ones)), expected_begin, "the session's first step");
  check_close(probabilities_of(session.step(ones, going_on)), expected_later, "the session's second step");
  check_close(probabilities_of(session.step(ones, going_on, {.episode_start = start})), expected_begin,
              "the first step of an episode");
}

void Scenarios::deadline() {
  pgkeras::Client client(flag("slow-target"), {.policy = "cartpole-v1", .timeout = 20s});
  client.describe();
  const auto begin = std::chrono::steady_clock::now();
  failure<pgkeras::DeadlineExceededError>([&] { client.act(row, {.timeout = 300ms}); });
  check(std::chrono::steady_clock::now() - begin < 900ms, "it came too late");
  client.act(row);
  auto session = client.play();
  failure<pgkeras::DeadlineExceededError>([&] { session.step(row, std::nullopt, {.timeout = 300ms}); });
}

void Scenarios::nobody() {
  const auto target = flag("dead-target");
  pgkeras::Client client(target, {.timeout = 2s});
  const auto begin = std::chrono::steady_clock::now();
  const std::string message = failure<pgkeras::Error>([&] {
                                try {
                                  client.act(row);
                                } catch (const pgkeras::ServerUnavailableError&) {
                                  throw;
                                } catch (const pgkeras::DeadlineExceededError&) {
                                  throw;
                                } catch (const pgkeras::Error& error) {
                                  throw std::runtime_error(error.what());
                                }
                              }).what();
  check(std::chrono::steady_clock::now() - begin < 4s, "it came too late");
  check(message.find(target) != std::string::npos, message);
}

void Scenarios::busy() {
  pgkeras::Client client(flag("busy-target"), {.policy = "cartpole-v1"});
  auto first = client.play();
  first.step(row);
  auto second = client.play();
  auto wait = failure<pgkeras::ServerBusyError>([&] { second.step(row); }).retry_after;
  check(wait > 0ns, "no time to wait");
  check(second.over() && !first.over(), "the second session is not over, or the first one is");
  first.close();
  for (int attempt = 0; attempt < 10; ++attempt) {
    std::this_thread::sleep_for(wait);
    try {
      client.play().step(row);
      return;
    } catch (const pgkeras::ServerBusyError& again) {
      wait = again.retry_after;
    }
  }
  throw std::runtime_error("still busy after ten tries");
}

void Scenarios::tls_and_token() {
  const auto target = flag("tls-target");
  std::ifstream file(flag("ca"));
  std::stringstream authority;
  authority << file.rdbuf();
  const pgkeras::TlsOptions tls{.root_certificates = authority.str()};
  const auto client = [&](std::optional<pgkeras::TlsOptions> given, const std::string& token) {
    return pgkeras::Client(target, {.policy = "cartpole-v1", .timeout = 5s, .tls = given, .token = token});
  };
  auto right = client(tls, flag("token"));
  right.act(row);
  right.play().step(row);
  failure<pgkeras::UnauthenticatedError>([&] { client(tls, "").act(row); });
  failure<pgkeras::Error>([&] { client(std::nullopt, flag("token")).act(row); });
}

void Scenarios::restart() {
  const auto ten_steps = [](pgkeras::Session& session) {
    session.step(row);
    for (int i = 1; i < 10; ++i) session.step(row, going_on);
  };
  auto session = client_.play({.mode = Mode::greedy});
  ten_steps(session);
  std::cout << "WAIT restart" << std::endl;
  std::cin.get();
  failure<pgkeras::ServerUnavailableError>([&] { session.step(row, going_on); });
  client_.act(row, {.timeout = 30s});
  auto again = client_.play({.mode = Mode::greedy});
  ten_steps(again);
}

std::string Scenarios::flag(const std::string& name) const {
  if (const auto value = flags_.find(name)) return *value;
  throw Skip("no --" + name);
}

pgkeras::Client Scenarios::fixture(const std::string& policy) const {
  pgkeras::Client client(flags_.require("target"), {.policy = policy});
  try {
    client.describe();
  } catch (const pgkeras::PolicyNotFoundError&) {
    throw Skip("the server has no policy " + policy);
  }
  return client;
}

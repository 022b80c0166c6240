// The benchmark program that conformance/README.md describes. It reads commands from standard input, one per line.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iostream>
#include <pgkeras/client.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "pgkeras/v1/service.grpc.pb.h"

namespace {

using Clock = std::chrono::steady_clock;
namespace v1 = pgkeras::v1;

// The content of every step after the first.
struct Batch {
  explicit Batch(std::int64_t environments)
      : observations(4 * environments), rewards(environments, 1.0F), ends(environments), shape{environments, 4} {}

  std::vector<float> observations;
  std::vector<float> rewards;
  std::vector<std::uint8_t> ends;
  pgkeras::Shape shape;
};

// Measures repeated steps. The first, which opens the session, is not counted.
std::string measure(double seconds, const std::function<void()>& step) {
  step();
  std::vector<double> microseconds;
  const auto begin = Clock::now();
  auto now = begin;
  while (now - begin < std::chrono::duration<double>(seconds)) {
    const auto before = now;
    step();
    now = Clock::now();
    microseconds.push_back(std::chrono::duration<double, std::micro>(now - before).count());
  }
  std::ranges::sort(microseconds);
  const auto quantile = [&](double part) {
    return microseconds[static_cast<std::size_t>(part * static_cast<double>(microseconds.size() - 1))];
  };
  std::ostringstream out;
  out << "{\"messages\": " << microseconds.size()
      << ", \"seconds\": " << std::chrono::duration<double>(now - begin).count() << ", \"p50_us\": " << quantile(0.5)
      << ", \"p99_us\": " << quantile(0.99) << "}";
  return out.str();
}

std::string play(const std::string& target, std::int64_t environments, double seconds) {
  pgkeras::Client client(target, {.policy = "cartpole-v1"});
  auto session = client.play({.mode = pgkeras::Mode::greedy});
  const Batch batch(environments);
  bool first = true;
  return measure(seconds, [&] {
    const pgkeras::ArrayView observations(batch.observations, batch.shape);
    const auto outcomes = pgkeras::Outcomes{batch.rewards, batch.ends, batch.ends};
    session.step_batch(observations, std::exchange(first, false) ? std::nullopt : std::optional(outcomes));
  });
}

std::string echo(const std::string& target, std::int64_t environments, double seconds) {
  const auto stub = v1::PolicyService::NewStub(grpc::CreateChannel(target, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10) +
                       std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
  const auto stream = stub->Play(&context);
  const Batch batch(environments);
  v1::PlayRequest request;
  request.set_id(1);
  pgkeras::write_tensor(*request.mutable_observation()->mutable_tensor(), {batch.observations, batch.shape});
  pgkeras::write_tensor(*request.mutable_reward(), batch.rewards);
  const pgkeras::ArrayView ends(v1::DATA_TYPE_BOOL, std::as_bytes(std::span(batch.ends)), {environments});
  pgkeras::write_tensor(*request.mutable_terminated(), ends);
  pgkeras::write_tensor(*request.mutable_truncated(), ends);
  v1::PlayResponse response;
  auto report = measure(seconds, [&] {
    if (!stream->Write(request) || !stream->Read(&response)) {
      throw std::runtime_error(target + " has ended the stream: " + stream->Finish().error_message());
    }
  });
  context.TryCancel();
  return report;
}

class Echo final : public v1::PolicyService::Service {
  grpc::Status Play(grpc::ServerContext*,
                    grpc::ServerReaderWriter<v1::PlayResponse, v1::PlayRequest>* stream) override {
    v1::PlayRequest request;
    v1::PlayResponse response;
    std::vector<std::int64_t> zeros;
    while (stream->Read(&request)) {
      zeros.resize(request.observation().tensor().shape(0));
      response.set_id(request.id());
      pgkeras::write_tensor(*response.mutable_act()->mutable_action(), zeros);
      if (!stream->Write(response)) break;
    }
    return grpc::Status::OK;
  }
};

}  // namespace

int main() {
  Echo service;
  std::vector<std::unique_ptr<grpc::Server>> servers;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command, target;
    std::int64_t environments = 0;
    double seconds = 0;
    words >> command >> target >> environments >> seconds;
    try {
      if (command == "serve") {
        int port = 0;
        grpc::ServerBuilder builder;
        builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
        builder.RegisterService(&service);
        servers.push_back(builder.BuildAndStart());
        std::cout << "{\"port\": " << port << "}" << std::endl;
      } else if ((command == "play" || command == "echo") && environments > 0 && seconds > 0) {
        std::cout << (command == "play" ? play : echo)(target, environments, seconds) << std::endl;
      } else {
        throw std::invalid_argument("expected serve, or play or echo TARGET ENVIRONMENTS SECONDS; got: " + line);
      }
    } catch (const std::exception& error) {
      std::cerr << "bench: " << error.what() << '\n';
      return 1;
    }
  }
  for (const auto& server : servers) server->Shutdown(std::chrono::system_clock::now());
}

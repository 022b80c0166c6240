#include "pgkeras/client.hpp"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>
#include <regex>
#include <thread>

#include "messages.hpp"
#include "pgkeras/v1/service.grpc.pb.h"
#include "session_impl.hpp"
#include "status.hpp"

namespace pgkeras {
namespace {

// gRPC's default of 4 MB is too small for batches of images.
constexpr int max_message_bytes = 64 << 20;

// Reconnects within a second after a restart. gRPC's default backoff grows to two minutes.
constexpr auto first_backoff = std::chrono::milliseconds(100);
constexpr auto longest_backoff = std::chrono::milliseconds(1000);

// A silent connection is pinged, and closed if there is no response, because nothing else detects a peer that has
// vanished, for example after a power failure. By default a server permits a ping every 10 s. A ping timeout shorter
// than that of a call would end sessions that the network only delays.
constexpr auto keepalive = std::chrono::milliseconds(20'000);
constexpr auto keepalive_timeout = std::chrono::milliseconds(10'000);
// The same timeout for gRPC's internal pings, a minute by default. Not every version of gRPC's headers defines this
// name.
constexpr auto ping_timeout_argument = "grpc.http2.ping_timeout_ms";

// Whether a target is on this machine. Such a connection ignores http_proxy, and its messages cannot be read on the
// way.
bool is_loopback(const std::string& target) {
  static const std::regex pattern(R"(unix(-abstract)?:.*|(localhost|127(\.\d+){3}|\[::1\])(:\d+)?)");
  return std::regex_match(target, pattern);
}

// gRPC aborts the process if a header has other characters.
void check_token(const std::string& token) {
  const auto is_printable = [](char letter) { return letter >= ' ' && letter <= '~'; };
  if (!std::ranges::all_of(token, is_printable) || token.starts_with(' ') || token.ends_with(' ')) {
    throw InvalidRequestError("token", "printable ASCII without spaces around it", "other characters");
  }
}

// gRPC would only report that it cannot connect, and would ignore a certificate whose key is missing.
void check_tls(const TlsOptions& tls) {
  if (tls.client_certificate.empty() != tls.client_key.empty()) {
    throw InvalidRequestError("tls", "client_certificate and client_key, or neither", "one of them");
  }
  const auto check_pem = [](const char* field, const std::string& text, const char* kind) {
    if (text.empty() || text.find(kind) != std::string::npos) return;
    throw InvalidRequestError(field, "the content of a PEM file, with -----BEGIN ... " + std::string(kind),
                              "another text; is it a file's name?");
  };
  check_pem("tls.root_certificates", tls.root_certificates, "CERTIFICATE-----");
  check_pem("tls.client_certificate", tls.client_certificate, "CERTIFICATE-----");
  check_pem("tls.client_key", tls.client_key, "PRIVATE KEY-----");
}

std::shared_ptr<grpc::Channel> connect(const std::string& target, const ClientOptions& options) {
  const auto& tls = options.tls;
  check_token(options.token);
  if (tls) check_tls(*tls);
  if (!tls && !options.token.empty() && !is_loopback(target)) {
    throw InvalidRequestError("token", "tls, as others could read it on the way", target + " without it");
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(max_message_bytes);
  arguments.SetMaxSendMessageSize(max_message_bytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, first_backoff.count());
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, longest_backoff.count());
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive.count());
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_timeout.count());
  arguments.SetInt(ping_timeout_argument, keepalive_timeout.count());
  // Pings idle connections, too. Without these, pings end or become rare if nothing else is sent.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  if (is_loopback(target)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  if (!tls) return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
  if (!tls->server_name.empty()) arguments.SetSslTargetNameOverride(tls->server_name);
  const grpc::SslCredentialsOptions keys{tls->root_certificates, tls->client_key, tls->client_certificate};
  return grpc::CreateCustomChannel(target, grpc::SslCredentials(keys), arguments);
}

v1::PolicyRef reference(const ClientOptions& options) {
  if (options.version && options.label) {
    throw InvalidRequestError("policy", "a version or a label",
                              "version " + std::to_string(*options.version) + " and label " + *options.label);
  }
  v1::PolicyRef ref;
  ref.set_name(options.policy);
  if (options.version) ref.set_version(*options.version);
  if (options.label) ref.set_label(*options.label);
  return ref;
}

// Whether a call that ended with this status is retried: the server is unavailable, or its queue is full.
bool is_gone(const grpc::Status& status) {
  return status.error_code() == grpc::UNAVAILABLE || status.error_code() == grpc::CANCELLED;
}

// Subtracts up to a half at random, because clients of a restarted server should not reconnect at the same time.
Clock::duration shortened(Clock::duration backoff) {
  thread_local std::minstd_rand generator(std::random_device{}());
  return Clock::duration(std::uniform_int_distribution(backoff.count() / 2, backoff.count())(generator));
}

}  // namespace

struct Client::Impl {
  Impl(std::string target, ClientOptions given)
      : target(std::move(target)),
        options(std::move(given)),
        policy(reference(options)),
        channel(connect(this->target, options)),
        stub(v1::PolicyService::NewStub(channel)) {}

  // The deadline that all calls of one client method share.
  struct Due {
    Call call;
    TimePoint at;
  };

  Due due(std::optional<Timeout> timeout) const {
    const auto allowed = timeout.value_or(options.timeout);
    return {{target, allowed}, after(allowed)};
  }

  template <typename Request, typename Response>
  using Method = grpc::Status (v1::PolicyService::Stub::*)(grpc::ClientContext*, const Request&, Response*);

  template <typename Request, typename Response>
  Response invoke(Method<Request, Response> method, const Request& request, const Due& due) {
    const auto& [call, deadline] = due;
    Clock::duration backoff = first_backoff;
    std::optional<grpc::Status> last;
    while (true) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + (deadline - Clock::now()));
      set_token(context, options.token);
      Response response;
      const auto status = (stub.get()->*method)(&context, request, &response);
      if (status.ok()) {
        answered = true;
        return response;
      }
      const auto wait =
          std::max<Clock::duration>(retry_delay(status).value_or(Clock::duration::zero()), shortened(backoff));
      if (!answered || !is_gone(status) || Clock::now() + wait >= deadline) {
        // The reason why earlier attempts failed is more informative than the timeout.
        throw_error(last && status.error_code() == grpc::DEADLINE_EXCEEDED ? *last : status, call);
      }
      last = status;
      const auto again = Clock::now() + wait;
      // gRPC connects only while a thread waits for the channel.
      channel->WaitForConnected(std::chrono::system_clock::now() + wait);
      std::this_thread::sleep_until(again);
      backoff = std::min<Clock::duration>(2 * backoff, longest_backoff);
    }
  }

  v1::GetPolicyResponse get_policy(const Due& due) {
    v1::GetPolicyRequest request;
    *request.mutable_policy() = policy;
    return invoke(&v1::PolicyService::Stub::GetPolicy, request, due);
  }

  PolicyInfo describe(const Due& due) {
    auto response = get_policy(due);
    const auto& limits = response.limits();
    const std::lock_guard lock(mutex);
    spec_hash = response.policy().spec_hash();
    return {std::move(*response.mutable_policy()),
            Limits{limits.max_batch_size(), limits.max_receive_message_bytes(), limits.max_send_message_bytes()}};
  }

  std::string spec_hash_once(const Due& due) {
    {
      const std::lock_guard lock(mutex);
      if (!spec_hash.empty()) return spec_hash;
    }
    return describe(due).policy.spec_hash();
  }

  const std::string target;
  const ClientOptions options;
  const v1::PolicyRef policy;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::PolicyService::Stub> stub;
  std::atomic<bool> answered = false;
  std::mutex mutex;
  std::string spec_hash;
};

Client::Client(std::string target, ClientOptions options)
    : impl_(std::make_unique<Impl>(std::move(target), std::move(options))) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Actions Client::act(Observation observation, const ActOptions& options) {
  const auto due = impl_->due(options.timeout);
  v1::ActRequest request;
  *request.mutable_policy() = impl_->policy;
  request.set_spec_hash(impl_->spec_hash_once(due));
  *request.mutable_observation() = std::move(observation).message();
  if (options.action_mask) write_tensor(*request.mutable_action_mask(), *options.action_mask);
  request.set_state(options.state);
  request.set_mode(act_mode(options.mode));
  if (options.seed) request.set_seed(*options.seed);
  set_outputs(request, options.outputs);
  return read_actions(impl_->invoke(&v1::PolicyService::Stub::Act, request, due));
}

Session Client::play(const PlayOptions& options) {
  auto due = impl_->due(options.timeout);
  v1::PlayRequest first;
  *first.mutable_policy() = impl_->policy;
  if (options.simulator) {
    auto& simulator = *first.mutable_simulator();
    *simulator.mutable_observation_space() = options.simulator->observation_space;
    *simulator.mutable_action_space() = options.simulator->action_space;
    simulator.set_environments(options.simulator->environments);
    simulator.set_name(options.simulator->name);
    simulator.set_version(options.simulator->version);
  } else {
    const auto spec_hash = impl_->spec_hash_once(due);
    impl_->get_policy(due);  // waits for a server that restarts, because opening a session is not retried
    first.set_spec_hash(spec_hash);
  }
  first.set_mode(act_mode(options.mode));
  if (options.seed) first.set_seed(*options.seed);
  set_outputs(first, options.outputs);
  return Session(
      std::make_unique<Session::Impl>(impl_->channel, std::move(first), std::move(due.call), impl_->options.token));
}

PolicyInfo Client::describe(std::optional<Timeout> timeout) { return impl_->describe(impl_->due(timeout)); }

std::vector<PolicyInfo> Client::policies(std::optional<Timeout> timeout) {
  auto response = impl_->invoke(&v1::PolicyService::Stub::ListPolicies, v1::ListPoliciesRequest(), impl_->due(timeout));
  std::vector<PolicyInfo> infos;
  for (auto& policy : *response.mutable_policies()) infos.push_back({std::move(policy)});
  return infos;
}

}  // namespace pgkeras

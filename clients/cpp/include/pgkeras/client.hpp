// Client: asks a policy server for actions.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pgkeras/actions.hpp"
#include "pgkeras/error.hpp"
#include "pgkeras/session.hpp"
#include "pgkeras/tensor.hpp"
#include "pgkeras/v1/service.pb.h"

namespace pgkeras {

struct TlsOptions {
  std::string root_certificates = {};   // PEM of the authorities to trust; the system's if empty
  std::string client_certificate = {};  // PEM, with its key, if the server asks for one
  std::string client_key = {};
  std::string server_name = {};  // the name in the server's certificate, if it is not the target's
};

struct ClientOptions {
  std::string policy = {};                     // which policy; may be empty when the server has only one
  std::optional<std::int64_t> version = {};    // which version of it; the newest if neither this nor a label is given
  std::optional<std::string> label = {};       // the version that has this label
  Timeout timeout = std::chrono::seconds(10);  // of any call, connecting and retries included
  std::optional<TlsOptions> tls = {};          // unencrypted if not given
  std::string token = {};                      // sent as a bearer token, over TLS or to this machine
};

// What a server accepts.
struct Limits {
  std::int64_t max_batch_size = 0;
  std::int64_t max_receive_message_bytes = 0;
  std::int64_t max_send_message_bytes = 0;
};

// A policy as a server offers it.
struct PolicyInfo {
  v1::Policy policy;
  std::optional<Limits> limits = {};  // not in a list of policies
};

// A connection to a policy server, and one policy on it. Safe for use by several threads.
//
// A call that finds the server unavailable is made again, with back-off, as long as its timeout allows: a server that
// is restarted is waited for. Only a client that was never answered says so at once, since its address may be wrong.
//
// Every method throws ServerUnavailableError when nobody answers at the target, DeadlineExceededError when no answer
// came in time, PolicyNotFoundError when there is no such policy, version or label, and any other child of Error.
class Client {
 public:
  // target: HOST:PORT. Throws InvalidRequestError if both a version and a label are given, if the token has characters
  // that no header can hold, or others could read it on its way, and if a certificate or a key is not PEM.
  explicit Client(std::string target, ClientOptions options = {});
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  // Asks for the action for one observation, or for each of a batch. Calls `describe` before the first time.
  Actions act(Observation observation, const ActOptions& options = {});

  // Opens a session for one simulator, of one or many environments, once the server answers.
  Session play(const PlayOptions& options = {});

  // Describes the policy and the server's limits.
  PolicyInfo describe(std::optional<Timeout> timeout = {});

  // Describes every policy and version that the server has ready, by name, then by version.
  std::vector<PolicyInfo> policies(std::optional<Timeout> timeout = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pgkeras

/// @file
/// Client: a connection to a policy server.
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

/// TLS settings of a connection.
struct TlsOptions {
  std::string root_certificates = {};   ///< PEM of the trusted certificate authorities; the system's if empty
  std::string client_certificate = {};  ///< PEM of the client's certificate, if the server requires one
  std::string client_key = {};          ///< PEM of its private key
  std::string server_name = {};         ///< the name in the server's certificate, if it differs from the target's host
};

/// Options of a client.
struct ClientOptions {
  std::string policy = {};                     ///< name of the policy; may be empty if the server has only one
  std::optional<std::int64_t> version = {};    ///< a fixed version; the newest if neither version nor label is given
  std::optional<std::string> label = {};       ///< selects the version that has this label
  Timeout timeout = std::chrono::seconds(10);  ///< default timeout of a call, including connecting and retries
  std::optional<TlsOptions> tls = {};          ///< unencrypted if not given
  std::string token = {};                      ///< bearer token; requires TLS or a target on this machine
};

/// The limits of a server.
struct Limits {
  std::int64_t max_batch_size = 0;
  std::int64_t max_receive_message_bytes = 0;
  std::int64_t max_send_message_bytes = 0;
};

/// The server's description of a policy.
struct PolicyInfo {
  v1::Policy policy;
  std::optional<Limits> limits = {};  ///< empty in a list of policies
};

/// A connection to a policy server, bound to one policy. Thread-safe.
///
/// If the server is unavailable, a call is retried with backoff until its timeout, so it survives a restart of the
/// server. A client that has never received a response fails immediately instead, because its address may be wrong.
///
/// Every method throws ServerUnavailableError if no server responds at the target, DeadlineExceededError if no response
/// arrives in time, PolicyNotFoundError if the policy, version or label does not exist, and other subclasses of Error.
class Client {
 public:
  /// Creates a client of the server at target, HOST:PORT. The first call connects. Throws InvalidRequestError if both a
  /// version and a label are given, if the token has characters that are invalid in a header or would be sent
  /// unencrypted, and if a certificate or a key is not PEM.
  explicit Client(std::string target, ClientOptions options = {});
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  /// Returns the action for one observation, or the actions for a batch. The first call also describes the policy.
  Actions act(Observation observation, const ActOptions& options = {});

  /// Opens a session for a simulator with one or many environments, as soon as the server responds.
  Session play(const PlayOptions& options = {});

  /// Returns the policy's description and the server's limits.
  PolicyInfo describe(std::optional<Timeout> timeout = {});

  /// Returns the description of every policy version that is ready on the server, sorted by name, then by version.
  std::vector<PolicyInfo> policies(std::optional<Timeout> timeout = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pgkeras

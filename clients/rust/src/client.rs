use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Status};

use crate::actions::{mode_number, output_numbers, read_actions};
use crate::status::{Call, after, error_of};
use crate::v1::policy_service_client::PolicyServiceClient;
use crate::v1::{self, policy_ref::Select};
use crate::{ActOptions, Actions, Error, Observation, PlayOptions, Session, Simulator};

// gRPC's default of 4 MB is too small for batches of images.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
// A silent connection is pinged, and closed if there is no response, because nothing else detects a peer that has
// vanished, for example after a power failure. By default a server permits a ping every 10 s. A ping timeout shorter
// than that of a call would end sessions that the network only delays.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Selects the version of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VersionChoice {
    /// The newest version.
    #[default]
    Newest,
    /// A fixed version.
    Version(i64),
    /// The version that has this label.
    Label(String),
}

/// TLS settings of a connection. All certificates and keys are PEM.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The certificate authorities to trust. Default: the system's.
    pub root_certificates: Option<String>,
    /// The client's certificate and its key, if the server requires one.
    pub identity: Option<(String, String)>,
    /// The name in the server's certificate, if it differs from the target's host.
    pub server_name: Option<String>,
}

/// Options of a [`Client`].
#[derive(Clone)]
pub struct ClientOptions {
    /// Name of the policy. May be empty if the server has only one.
    pub policy: String,
    /// Version of the policy.
    pub version: VersionChoice,
    /// Timeout of calls that do not set their own, including connecting and retries.
    pub timeout: Duration,
    /// TLS settings. Unencrypted if `None`.
    pub tls: Option<Tls>,
    /// Bearer token. Requires TLS or a target on this machine.
    pub token: Option<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let timeout = Duration::from_secs(10);
        ClientOptions { policy: String::new(), version: VersionChoice::Newest, timeout, tls: None, token: None }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "...");
        let ClientOptions { policy, version, timeout, .. } = self;
        write!(formatter, "ClientOptions {{ {policy:?}, {version:?}, {timeout:?}, token: {token:?} }}")
    }
}

/// The limits of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of observations in one request.
    pub max_batch_size: i64,
    /// Largest message that the server receives.
    pub max_receive_message_bytes: i64,
    /// Largest message that the server sends.
    pub max_send_message_bytes: i64,
}

/// The server's description of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyInfo {
    /// Name, version, spec, spec hash, engine, load time and provenance.
    pub policy: v1::Policy,
    /// The server's limits; `None` in a list of policies.
    pub limits: Option<Limits>,
}

/// A connection to a policy server, bound to one policy. Clones share the connection.
///
/// If the server is unavailable, a call is retried with backoff until its timeout, so it survives a restart of the
/// server. A client that has never received a response fails immediately instead, because its address may be wrong.
#[derive(Clone, Debug)]
pub struct Client {
    target: String,
    options: ClientOptions,
    token: Option<MetadataValue<Ascii>>,
    stub: PolicyServiceClient<Channel>,
    shared: Arc<Shared>,
}

/// The deadline that all calls of one client method share.
struct Due {
    call: Call,
    at: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    answered: AtomicBool,
    spec_hash: RwLock<Option<String>>,
}

impl Client {
    /// Creates a client of the server at `target`, HOST:PORT. The first call connects.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`] if the target is not an address, if a certificate or key is not PEM, or if the token
    /// has characters that are invalid in a header or would be sent unencrypted.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub fn new(target: impl Into<String>, options: ClientOptions) -> Result<Self, Error> {
        let target = target.into();
        let endpoint = endpoint(&target, options.tls.as_ref())?;
        if options.token.is_some() && options.tls.is_none() && !is_this_machine(&endpoint) {
            return Err(Error::invalid(
                "token",
                "tls, as others could read it on the way",
                format!("{target} without it"),
            ));
        }
        let stub = PolicyServiceClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX); // see `check_size`
        let token = options.token.as_deref().map(bearer).transpose()?;
        Ok(Client { target, options, token, stub, shared: Arc::default() })
    }

    /// Returns the action for one observation, or the actions for a batch. The first call also describes the policy.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn act(&self, observation: impl Into<Observation>, options: &ActOptions<'_>) -> Result<Actions, Error> {
        let due = self.due(options.timeout);
        let request = v1::ActRequest {
            policy: Some(self.policy()),
            spec_hash: self.spec_hash(&due).await?,
            observation: Some(observation.into().0),
            action_mask: options.action_mask.as_ref().map(crate::Array::message),
            state: options.state.clone(),
            mode: mode_number(options.mode),
            seed: options.seed,
            outputs: output_numbers(options.outputs),
        };
        let call = async |mut stub: PolicyServiceClient<Channel>, request| stub.act(request).await;
        read_actions(self.invoke(call, request, &due).await?)
    }

    /// Opens a session for a simulator with one or many environments, as soon as the server responds.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn play(&self, options: &PlayOptions<'_>) -> Result<Session, Error> {
        let due = self.due(options.timeout);
        let mut spec_hash = String::new();
        if options.simulator.is_none() {
            spec_hash = self.spec_hash(&due).await?;
            // Opening a session is not retried, so this call waits for a server that restarts.
            self.get_policy(&due).await?;
        }
        let first = v1::PlayRequest {
            policy: Some(self.policy()),
            spec_hash,
            mode: mode_number(options.mode),
            seed: options.seed,
            outputs: output_numbers(options.outputs),
            simulator: options.simulator.as_ref().map(Simulator::message),
            ..Default::default()
        };
        Ok(Session::open(self.stub.clone(), self.token.clone(), first, due.call))
    }

    /// Returns the policy's description and the server's limits.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn describe(&self) -> Result<PolicyInfo, Error> {
        self.describe_within(&self.due(None)).await
    }

    /// Returns the description of every policy version that is ready on the server, sorted by name, then by version.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn policies(&self) -> Result<Vec<PolicyInfo>, Error> {
        let call = async |mut stub: PolicyServiceClient<Channel>, request| stub.list_policies(request).await;
        let response = self.invoke(call, v1::ListPoliciesRequest {}, &self.due(None)).await?;
        Ok(response.policies.into_iter().map(|policy| PolicyInfo { policy, limits: None }).collect())
    }

    fn due(&self, timeout: Option<Duration>) -> Due {
        let timeout = timeout.unwrap_or(self.options.timeout);
        Due { call: Call { target: self.target.clone(), timeout }, at: after(timeout) }
    }

    async fn describe_within(&self, due: &Due) -> Result<PolicyInfo, Error> {
        let response = self.get_policy(due).await?;
        let policy = response.policy.unwrap_or_default();
        let limits = response.limits.map(|limits| Limits {
            max_batch_size: limits.max_batch_size,
            max_receive_message_bytes: limits.max_receive_message_bytes,
            max_send_message_bytes: limits.max_send_message_bytes,
        });
        *self.shared.spec_hash.write().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some(policy.spec_hash.clone());
        Ok(PolicyInfo { policy, limits })
    }

    async fn spec_hash(&self, due: &Due) -> Result<String, Error> {
        let known = self.shared.spec_hash.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        match known {
            Some(hash) => Ok(hash),
            None => Ok(self.describe_within(due).await?.policy.spec_hash),
        }
    }

    async fn get_policy(&self, due: &Due) -> Result<v1::GetPolicyResponse, Error> {
        let call = async |mut stub: PolicyServiceClient<Channel>, request| stub.get_policy(request).await;
        self.invoke(call, v1::GetPolicyRequest { policy: Some(self.policy()) }, due).await
    }

    fn policy(&self) -> v1::PolicyRef {
        let select = match &self.options.version {
            VersionChoice::Newest => None,
            VersionChoice::Version(version) => Some(Select::Version(*version)),
            VersionChoice::Label(label) => Some(Select::Label(label.clone())),
        };
        v1::PolicyRef { name: self.options.policy.clone(), select }
    }

    async fn invoke<M: prost::Message + Clone, R, F>(
        &self,
        method: impl Fn(PolicyServiceClient<Channel>, Request<M>) -> F,
        message: M,
        due: &Due,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        check_size(&message)?;
        let Due { call, at: deadline } = due;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut backoff = FIRST_BACKOFF;
        let mut last = None;
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(left());
            if let Some(token) = &self.token {
                request.metadata_mut().insert("authorization", token.clone());
            }
            let status = match timeout_at(*deadline, method(self.stub.clone(), request)).await {
                Ok(Ok(response)) => {
                    self.shared.answered.store(true, Ordering::Relaxed);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) if !left().is_zero() => status,
                // The reason why earlier attempts failed is more informative than the timeout.
                _ => return Err(last.unwrap_or_else(|| call.late())),
            };
            let error = error_of(&status, call);
            let Error::ServerUnavailable { retry_after, .. } = &error else { return Err(error) };
            let wait = retry_after.unwrap_or_default().max(shortened(backoff));
            if !self.shared.answered.load(Ordering::Relaxed) || wait >= left() {
                return Err(error);
            }
            sleep(wait).await;
            last = Some(error);
            backoff = (2 * backoff).min(LONGEST_BACKOFF);
        }
    }
}

/// Refuses messages that are too large to send, because tonic would only report "internal error".
pub(crate) fn check_size(message: &impl prost::Message) -> Result<(), Error> {
    match message.encoded_len() {
        0..=MAX_MESSAGE_BYTES => Ok(()),
        length => {
            Err(Error::invalid("message", format!("at most {MAX_MESSAGE_BYTES} bytes"), format!("{length} bytes")))
        }
    }
}

fn endpoint(target: &str, tls: Option<&Tls>) -> Result<Endpoint, Error> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let wrong = |_| Error::invalid("target", "HOST:PORT", target);
    let endpoint = Endpoint::from_shared(format!("{scheme}://{target}"))
        .map_err(wrong)?
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let Some(tls) = tls else { return Ok(endpoint) };
    let not_pem = |got: String| Error::invalid("tls", "certificates and keys in PEM", got);
    // rustls accepts a text without any certificate.
    if tls.root_certificates.as_ref().is_some_and(|pem| !pem.contains("CERTIFICATE-----")) {
        return Err(not_pem("root_certificates without one; are they a file's name?".to_owned()));
    }
    let mut config = ClientTlsConfig::new();
    config = match &tls.root_certificates {
        Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
        None => config.with_native_roots(),
    };
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    endpoint.tls_config(config).map_err(|error| not_pem(error.to_string()))
}

/// Returns the authorization header for a token.
fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Error> {
    let wrong = || Error::invalid("token", "printable ASCII without spaces around it", "other characters, or none");
    if token.is_empty() || token.trim() != token || !token.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(wrong());
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether messages to the endpoint stay on this machine.
fn is_this_machine(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Subtracts up to a half at random, because clients of a restarted server should not reconnect at the same time.
fn shortened(backoff: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64;
    backoff.mul_f64(1.0 - random / 2.0)
}

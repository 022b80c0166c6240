package io.pgkeras.client;

import io.grpc.ChannelCredentials;
import io.grpc.ClientInterceptor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import io.pgkeras.v1.ActRequest;
import io.pgkeras.v1.ActResponse;
import io.pgkeras.v1.GetPolicyRequest;
import io.pgkeras.v1.GetPolicyResponse;
import io.pgkeras.v1.ListPoliciesRequest;
import io.pgkeras.v1.ListPoliciesResponse;
import io.pgkeras.v1.PlayRequest;
import io.pgkeras.v1.Policy;
import io.pgkeras.v1.PolicyRef;
import io.pgkeras.v1.PolicyServiceGrpc;
import io.pgkeras.v1.Space;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * A connection to a policy server, bound to one policy. Thread-safe.
 *
 * <p>If the server cannot be reached, a call is retried with backoff until its timeout, so it
 * survives a restart of the server. A client that has never received a response fails immediately
 * instead, because its address may be wrong. Failures are thrown as {@link PolicyServiceException}.
 */
public final class PolicyClient implements AutoCloseable {
  /** The default timeout of a call. */
  public static final Duration DEFAULT_TIMEOUT = Duration.ofSeconds(10);

  /** The largest message that is received. gRPC's default of 4 MiB is too small for images. */
  public static final int MAX_MESSAGE_BYTES = 64 << 20;

  // By default a server permits a ping every 10 s. A ping timeout shorter than that of a call would
  // end sessions that the network only delays.
  private static final Duration KEEPALIVE = Duration.ofSeconds(20);
  private static final Duration KEEPALIVE_TIMEOUT = Duration.ofSeconds(10);

  private static final Set<Output> OUTPUTS =
      Set.of(Output.LOG_PROB, Output.ENTROPY, Output.DISTRIBUTION);

  private final ManagedChannel channel;
  private final PolicyServiceGrpc.PolicyServiceStub stub;
  private final PolicyRef policy;
  private final Duration timeout;
  private final Calls calls;
  private volatile PolicyInfo known;

  private PolicyClient(Builder settings) {
    policy =
        settings
            .policy(); // before the channel exists, because nothing would close it if this throws
    ManagedChannelBuilder<?> builder =
        Grpc.newChannelBuilder(settings.target, settings.credentials)
            .maxInboundMessageSize(MAX_MESSAGE_BYTES)
            // Closes a connection whose peer has vanished. Nothing else detects it.
            .keepAliveTime(KEEPALIVE.toSeconds(), TimeUnit.SECONDS)
            .keepAliveTimeout(KEEPALIVE_TIMEOUT.toSeconds(), TimeUnit.SECONDS)
            .keepAliveWithoutCalls(true);
    if (settings.serverName != null) {
      builder.overrideAuthority(settings.serverName);
    }
    channel = builder.build();
    stub = PolicyServiceGrpc.newStub(channel).withInterceptors(settings.authentication());
    timeout = Due.bounded(settings.timeout);
    calls = new Calls(channel, settings.target);
  }

  /**
   * Returns a client of the only policy at a target, HOST:PORT or unix:PATH. The first call
   * connects.
   */
  public static PolicyClient connect(String target) {
    return builder(target).build();
  }

  /** Returns a builder of a client of a target, HOST:PORT or unix:PATH. */
  public static Builder builder(String target) {
    return new Builder(target);
  }

  /**
   * Returns the policy's description and the server's limits. Later requests carry the spec hash
   * that it returned.
   */
  public PolicyInfo describe() {
    return describe(timeout);
  }

  /** The same with a separate timeout. */
  public PolicyInfo describe(Duration within) {
    return await(start(Due.bounded(within), this::describeAsync));
  }

  /** Returns the description of every policy version that is ready on the server. */
  public List<Policy> policies() {
    return await(
            start(
                timeout,
                due ->
                    calls.<ListPoliciesRequest, ListPoliciesResponse>make(
                        (deadline, request, observer) ->
                            stub.withDeadline(deadline).listPolicies(request, observer),
                        ListPoliciesRequest.getDefaultInstance(),
                        due)))
        .getPoliciesList();
  }

  /**
   * Samples the action for one observation, or the actions for a batch, which has a leading batch
   * axis.
   */
  public Actions act(Value observation) {
    return act(observation, ActOptions.sample());
  }

  /**
   * Returns the action for one observation, or the actions for a batch, which has a leading batch
   * axis.
   */
  public Actions act(Value observation, ActOptions options) {
    return await(actAsync(observation, options));
  }

  /**
   * The same without blocking. Long-running dependent stages should use a separate executor ({@code
   * thenApplyAsync}). Cancelling the future cancels the call.
   */
  public CompletableFuture<Actions> actAsync(Value observation, ActOptions options) {
    ActRequest.Builder request =
        ActRequest.newBuilder()
            .setPolicy(policy)
            .setObservation(observation.toMessage())
            .setMode(options.mode)
            .setState(options.state)
            .addAllOutputs(options.outputsOr(OUTPUTS));
    if (options.seed != null) {
      request.setSeed(options.seed);
    }
    if (options.mask != null) {
      request.setActionMask(options.mask.toTensorMessage());
    }
    return start(
        within(options),
        due ->
            describeOnce(due)
                .thenCompose(
                    info ->
                        calls.<ActRequest, ActResponse>make(
                            (deadline, message, observer) ->
                                stub.withDeadline(deadline).act(message, observer),
                            request.setSpecHash(info.policy().getSpecHash()).build(),
                            due))
                .thenApply(Actions::decode));
  }

  /** Opens a session that samples its actions. */
  public Session play() {
    return play(ActOptions.sample());
  }

  /**
   * Opens a session for a simulator with one or many environments. The policy version stays the
   * same throughout it.
   *
   * <pre>{@code
   * try (Session session = client.play(ActOptions.greedy())) {
   *   long action = session.step(first).action().longs()[0];
   *   while (playing) {
   *     ...
   *     action = session.step(observation, reward, terminated, truncated).action().longs()[0];
   *   }
   * }
   * }</pre>
   *
   * @param options mode, seed, outputs (only the action by default) and the timeout of each step; a
   *     mask or a state is refused
   */
  public Session play(ActOptions options) {
    checkForSession(options);
    Duration within = within(options);
    // Opening a session is not retried, so GetPolicy waits for a server that restarts.
    PolicyInfo info =
        await(
            start(
                within,
                due ->
                    describeOnce(due)
                        .thenCompose(found -> getPolicy(due).thenApply(response -> found))));
    PlayRequest.Builder first =
        PlayRequest.newBuilder().setPolicy(policy).setSpecHash(info.policy().getSpecHash());
    Space space = info.policy().getSpec().getObservationSpace();
    return new Session(stub, first, space, options, calls.target(), within);
  }

  /**
   * Opens a session for a simulator that declares itself. It can also train a policy. While the
   * policy is being updated, the server reports that every few seconds, and the timeout of a step
   * restarts.
   *
   * @param simulator the declaration
   * @param options as in {@link #play(ActOptions)}
   */
  public Session play(Simulator simulator, ActOptions options) {
    checkForSession(options);
    PlayRequest.Builder first =
        PlayRequest.newBuilder().setPolicy(policy).setSimulator(simulator.toMessage());
    // No call precedes the stream, and gRPC's backoff grows to two minutes.
    channel.resetConnectBackoff();
    return new Session(
        stub, first, simulator.observationSpace(), options, calls.target(), within(options));
  }

  /** Closes the connection. Calls in flight fail. */
  @Override
  public void close() {
    channel.shutdownNow();
    try {
      channel.awaitTermination(1, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private CompletableFuture<PolicyInfo> describeOnce(Due due) {
    PolicyInfo info = known;
    return info == null ? describeAsync(due) : CompletableFuture.completedFuture(info);
  }

  private CompletableFuture<PolicyInfo> describeAsync(Due due) {
    return getPolicy(due)
        .thenApply(response -> known = new PolicyInfo(response.getPolicy(), response.getLimits()));
  }

  private CompletableFuture<GetPolicyResponse> getPolicy(Due due) {
    return calls.make(
        (deadline, request, observer) -> stub.withDeadline(deadline).getPolicy(request, observer),
        GetPolicyRequest.newBuilder().setPolicy(policy).build(),
        due);
  }

  private Duration within(ActOptions options) {
    return options.timeout == null ? timeout : Due.bounded(options.timeout);
  }

  private static void checkForSession(ActOptions options) {
    if (options.mask != null) {
      throw new InvalidRequestException(
          "action_mask", "one for each step, as StepOptions.withActionMask", "one for the session");
    }
    if (!options.state.isEmpty()) {
      throw new InvalidRequestException(
          "state", "none, as the server keeps a session's", options.state.size() + " bytes");
    }
  }

  /** Starts calls and returns a future of their result. Cancelling it cancels the calls. */
  private static <T> CompletableFuture<T> start(
      Duration within, Function<Due, CompletableFuture<T>> calls) {
    CompletableFuture<T> result = new CompletableFuture<>();
    calls
        .apply(Due.in(within, result))
        .whenComplete(
            (found, error) -> {
              if (error == null) {
                result.complete(found);
              } else {
                result.completeExceptionally(error);
              }
            });
    return result;
  }

  private <T> T await(CompletableFuture<T> answer) {
    try {
      return answer.get();
    } catch (ExecutionException failed) {
      if (failed.getCause() instanceof PolicyServiceException typed) {
        typed.setStackTrace(
            new Throwable()
                .getStackTrace()); // the caller's stack; the cause has that of gRPC's thread
        throw typed;
      }
      throw new IllegalStateException("a defect of this client", failed.getCause());
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      answer.cancel(true);
      throw new ServerUnavailableException(
          "interrupted while waiting for " + calls.target(), null, interrupted);
    }
  }

  /** Configures the connection of a client and selects its policy. */
  public static final class Builder {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final String target;
    private String policy = "";
    private Long version;
    private String label;
    private Duration timeout = DEFAULT_TIMEOUT;
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private boolean secured;
    private String serverName;
    private String token;

    private Builder(String target) {
      this.target = target;
    }

    /** Selects the policy by name. May be omitted if the server has only one policy. */
    public Builder policy(String name) {
      policy = name;
      return this;
    }

    /** Selects a fixed version instead of the newest. */
    public Builder version(long value) {
      version = value;
      return this;
    }

    /** Selects the version that has this label, such as "stable". */
    public Builder label(String value) {
      label = value;
      return this;
    }

    /** Limits calls that do not set their own timeout. */
    public Builder timeout(Duration value) {
      timeout = value;
      return this;
    }

    /** Encrypts the connection. Trusts the certificate authorities that come with Java. */
    public Builder tls() {
      return tls(TlsChannelCredentials.create());
    }

    /**
     * Encrypts the connection with custom credentials, such as other certificate authorities or a
     * client certificate: {@code
     * TlsChannelCredentials.newBuilder().trustManager(file).keyManager(chain, key).build()}.
     */
    public Builder tls(ChannelCredentials value) {
      credentials = value;
      secured = true;
      return this;
    }

    /** Sets the name in the server's certificate, if it differs from the target's host. */
    public Builder serverName(String value) {
      serverName = value;
      return this;
    }

    /**
     * Authenticates every call. Requires TLS or a target on this machine, because a token that is
     * sent unencrypted can be read on the way.
     */
    public Builder token(String value) {
      token = value;
      return this;
    }

    /**
     * Builds the client.
     *
     * @throws IllegalArgumentException if the target is not an address
     * @throws InvalidRequestException if both a version and a label are given, or if the token is
     *     malformed or would be sent unencrypted
     */
    public PolicyClient build() {
      checkToken();
      return new PolicyClient(this);
    }

    private void checkToken() {
      if (token == null) {
        return;
      }
      if (!token.matches("[!-~]([ -~]*[!-~])?")) {
        throw new InvalidRequestException(
            "token",
            "printable ASCII without spaces around it, as pgkeras token makes it",
            "another"); // the token is a secret
      }
      if (!secured && !target.matches("(localhost|127(\\.\\d+){3}|\\[::1\\]):\\d+|unix:.*")) {
        throw new InvalidRequestException(
            "token", "tls(), as others could read it on the way", target + " without it");
      }
    }

    private PolicyRef policy() {
      PolicyRef.Builder reference = PolicyRef.newBuilder().setName(policy);
      if (version != null && label != null) {
        throw new InvalidRequestException(
            "policy",
            "a version or a label",
            "version " + version + " and label \"" + label + "\"");
      }
      if (version != null) {
        reference.setVersion(version);
      }
      if (label != null) {
        reference.setLabel(label);
      }
      return reference.build();
    }

    private ClientInterceptor authentication() {
      Metadata headers = new Metadata();
      if (token != null) {
        headers.put(AUTHORIZATION, "Bearer " + token);
      }
      return MetadataUtils.newAttachHeadersInterceptor(headers);
    }
  }
}

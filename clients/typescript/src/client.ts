import { setTimeout as sleep } from "node:timers/promises";
import {
  type CallOptions,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
  type VerifyOptions,
} from "@grpc/grpc-js";
import { type Actions, type Mode, modeNumber, type Output, outputNumbers, readActions } from "./actions.js";
import { InvalidRequestError, integer, isLate, ServerUnavailableError, translate } from "./errors.js";
import type { Policy, PolicyRef } from "./generated/pgkeras/v1/policy.js";
import {
  type GetPolicyResponse,
  type Limits,
  type PlayRequest,
  PolicyServiceClient,
} from "./generated/pgkeras/v1/service.js";
import { LONGEST_TIMEOUT_MS, PlaySession } from "./session.js";
import type { Simulator, Space } from "./spaces.js";
import { encodeObservation, encodeTensor, type Observation, type Tensor } from "./tensor.js";

/** TLS settings of a connection. Omitted fields use the system's defaults. */
export interface TlsOptions {
  /** PEM of the trusted certificate authorities. */
  readonly ca?: Buffer;
  /** PEM of the client's certificate chain, for servers that require client certificates. `key` is its private key. */
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly verify?: VerifyOptions;
}

/** Options of a {@link PolicyClient}. */
export interface ClientOptions {
  /** Name of the policy. May be omitted if the server has only one. */
  readonly policy?: string;
  /** A fixed version, instead of the newest. */
  readonly version?: number;
  /** Selects the version that has this label. */
  readonly label?: string;
  /** Timeout of calls that do not set their own. Default: 10 000. */
  readonly timeoutMs?: number;
  /** Encrypts the connection. `{}` trusts the system's certificate authorities. */
  readonly tls?: TlsOptions;
  /**
   * Authenticates every call. Requires TLS or a target on this machine, because a token that is sent unencrypted can be
   * read on the way.
   */
  readonly token?: string;
}

/** Selects how actions are chosen and what a response contains besides them. */
export interface ActOptions {
  readonly mode?: Mode;
  /** Makes sampling reproducible: an integer in [0, 2^64). */
  readonly seed?: bigint | number;
  /** Default: log-probability, entropy and distribution. */
  readonly outputs?: readonly Output[];
  /** bool, [maskSize], or [batch, maskSize] for a batch: true where an action is allowed. */
  readonly mask?: Tensor;
  /** For policies with memory: the state of the previous response. Omit it at the first step of an episode. */
  readonly state?: Uint8Array;
  readonly timeoutMs?: number;
}

/** Options of a session. Without `outputs`, a response contains only the action. */
export interface PlayOptions extends Pick<ActOptions, "mode" | "seed" | "outputs" | "timeoutMs"> {
  /** Declares the simulator. One that declares itself can also train a policy. */
  readonly simulator?: Simulator;
}

/** The server's description of a policy. */
export interface PolicyInfo {
  readonly policy: Policy;
  /** The server's limits; undefined in a list of policies. */
  readonly limits?: Limits;
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: CallOptions,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

const DEFAULT_TIMEOUT_MS = 10_000;
// gRPC's default of 4 MB is too small for images.
const MAX_MESSAGE_BYTES = 64 * 2 ** 20;
const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 1000;
// By default a server permits a ping every 10 s. A ping timeout shorter than that of a call would end sessions that the
// network only delays.
const KEEPALIVE_MS = 20_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
// Targets on this machine, where an unencrypted token cannot be read on the way.
const LOOPBACK = /^unix:|^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/;

const TOKEN = /^[!-~]([ -~]*[!-~])?$/;

/** The deadline that all calls of one client method share. */
interface Due {
  /** The timeout that the deadline was computed from. */
  readonly timeoutMs: number;
  /** The deadline, on the clock of Date.now(). */
  readonly at: number;
}

/**
 * A connection to a policy server, bound to one policy.
 *
 * If the server cannot be reached, a call is retried with backoff until its timeout, so it survives a restart of the
 * server. A client that has never received a response fails immediately instead, because its address may be wrong.
 * Every method rejects with a subclass of {@link PolicyServiceError}.
 */
export class PolicyClient {
  readonly #stub: PolicyServiceClient;
  readonly #policy: PolicyRef;
  readonly #timeoutMs: number;
  readonly #metadata = new Metadata();
  #answered = false;
  #closed = false;
  #known: PolicyInfo | undefined;
  readonly #sessions = new Set<PlaySession>();

  /**
   * @param target - HOST:PORT. The first call connects.
   * @throws {@link InvalidRequestError} if both a version and a label are given, if the version is not an integer, or
   *   if
   *   the token is malformed or would be sent unencrypted.
   */
  constructor(
    readonly target: string,
    options: ClientOptions = {},
  ) {
    const { policy, version, label, tls, token } = options;
    if (version !== undefined && label !== undefined) {
      throw new InvalidRequestError("policy", "a version or a label", `version ${version} and label ${label}`);
    }
    this.#policy = { name: policy };
    if (version !== undefined) {
      this.#policy.select = { $case: "version", value: integer(version, "policy.version") };
    } else if (label !== undefined) {
      this.#policy.select = { $case: "label", value: label };
    }
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    if (token !== undefined) {
      if (!TOKEN.test(token)) {
        const expected = "printable ASCII without spaces around it, as pgkeras token makes it";
        throw new InvalidRequestError("token", expected, "another"); // the token is a secret
      }
      if (!tls && !LOOPBACK.test(target)) {
        throw new InvalidRequestError("token", "tls, as others could read it on the way", `${target} without it`);
      }
      this.#metadata.set("authorization", `Bearer ${token}`);
    }
    const secured = tls ? credentials.createSsl(tls.ca, tls.key, tls.cert, tls.verify) : credentials.createInsecure();
    this.#stub = new PolicyServiceClient(target, secured, {
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
      // Reconnects within a second after a restart. gRPC's default backoff grows to two minutes.
      "grpc.initial_reconnect_backoff_ms": FIRST_BACKOFF_MS,
      "grpc.max_reconnect_backoff_ms": LONGEST_BACKOFF_MS,
      // Closes a connection whose peer has vanished. Nothing else detects it.
      "grpc.keepalive_time_ms": KEEPALIVE_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      "grpc.keepalive_permit_without_calls": 1,
      // Ignores http_proxy for targets on this machine.
      ...(LOOPBACK.test(target) ? { "grpc.enable_http_proxy": 0 } : {}),
    });
  }

  /** Returns the action for one observation, or the actions for a batch. */
  async act(observation: Observation, options: ActOptions = {}): Promise<Actions> {
    const { outputs = ["logProb", "entropy", "distribution"], mode = "sample", seed, mask, timeoutMs } = options;
    const due = this.#due(timeoutMs);
    const asked = {
      policy: this.#policy,
      observation: encodeObservation(observation),
      actionMask: mask && encodeTensor(mask),
      state: options.state,
      mode: modeNumber(mode),
      seed: seed === undefined ? undefined : checkSeed(seed),
      outputs: outputNumbers(outputs),
    };
    const { policy } = await this.#describeOnce(due);
    const request = { ...asked, specHash: policy.specHash };
    return readActions(await this.#call(this.#stub.act.bind(this.#stub), request, due));
  }

  /** Opens a session for a simulator with one or many environments. The policy version stays the same throughout it. */
  async play(options: PlayOptions = {}): Promise<PlaySession> {
    const { mode = "sample", seed, outputs = [] } = options;
    const due = this.#due(options.timeoutMs);
    const first = {
      mode: modeNumber(mode),
      seed: seed === undefined ? undefined : checkSeed(seed),
      outputs: outputNumbers(outputs),
    };
    if (options.simulator !== undefined) {
      const { environments = 0, ...declared } = options.simulator;
      const simulator = { ...declared, environments: integer(environments, "simulator.environments") };
      const request = { ...first, policy: this.#policy, simulator };
      return this.#open(request, simulator.observationSpace, due.timeoutMs);
    }
    const info = await this.#describeOnce(due);
    await this.#getPolicy(due); // waits for a server that restarts, because opening a session is not retried
    const request = { ...first, policy: this.#policy, specHash: info.policy.specHash };
    return this.#open(request, info.policy.spec?.observationSpace, due.timeoutMs);
  }

  /** Returns the policy's description and the server's limits. Later requests carry the spec hash that it returned. */
  async describe(timeoutMs?: number): Promise<PolicyInfo> {
    return this.#describe(this.#due(timeoutMs));
  }

  /** Returns the description of every policy version that is ready on the server. */
  async policies(timeoutMs?: number): Promise<PolicyInfo[]> {
    const response = await this.#call(this.#stub.listPolicies.bind(this.#stub), {}, this.#due(timeoutMs));
    return (response.policies ?? []).map((policy) => ({ policy }));
  }

  /** Closes the sessions, and the connection as soon as no calls are in flight. */
  close(): void {
    this.#closed = true;
    for (const session of this.#sessions) {
      session.close();
    }
    this.#stub.close();
  }

  #due(timeoutMs = this.#timeoutMs): Due {
    return { timeoutMs, at: Date.now() + Math.min(timeoutMs, LONGEST_TIMEOUT_MS) };
  }

  #open(first: PlayRequest, observationSpace: Space | undefined, timeoutMs: number): PlaySession {
    try {
      const stream = this.#stub.play(this.#metadata);
      const session = new PlaySession(stream, first, observationSpace, this.target, timeoutMs);
      this.#sessions.add(session);
      stream.once("status", () => this.#sessions.delete(session));
      return session;
    } catch (error) {
      throw translate(error, this.target, timeoutMs); // for example because this client has been closed
    }
  }

  async #describeOnce(due: Due): Promise<PolicyInfo> {
    return this.#known ?? this.#describe(due);
  }

  async #describe(due: Due): Promise<PolicyInfo> {
    const { policy = {}, limits } = await this.#getPolicy(due);
    this.#known = { policy, limits };
    return this.#known;
  }

  #getPolicy(due: Due): Promise<GetPolicyResponse> {
    return this.#call(this.#stub.getPolicy.bind(this.#stub), { policy: this.#policy }, due);
  }

  async #call<Request, Response>(
    method: Unary<Request, Response>,
    request: Request,
    { timeoutMs, at: deadline }: Due,
  ): Promise<Response> {
    let last: ServerUnavailableError | undefined;
    for (let backoff = FIRST_BACKOFF_MS; ; backoff = Math.min(2 * backoff, LONGEST_BACKOFF_MS)) {
      try {
        const response = await new Promise<Response>((resolve, reject) => {
          method(request, this.#metadata, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
        });
        this.#answered = true;
        return response;
      } catch (error) {
        if (last !== undefined && isLate(error)) {
          throw last; // the error before says why there was no response
        }
        const failure = translate(error, this.target, timeoutMs);
        if (this.#closed || !this.#answered || !(failure instanceof ServerUnavailableError)) {
          throw failure;
        }
        const wait = Math.max(failure.retryAfterMs ?? 0, backoff * (1 - Math.random() / 2));
        if (Date.now() + wait >= deadline) {
          throw failure;
        }
        last = failure;
        await sleep(wait);
      }
    }
  }
}

function checkSeed(seed: bigint | number): bigint {
  if ((typeof seed === "number" && !Number.isSafeInteger(seed)) || seed < 0 || seed >= 2n ** 64n) {
    throw new InvalidRequestError("seed", "an integer from 0 to 2^64 - 1, as a bigint if it is large", `${seed}`);
  }
  return BigInt(seed);
}

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

/** How a connection is secured; what is left out is the system's. */
export interface TlsOptions {
  /** PEM of the authorities that are trusted. */
  readonly ca?: Buffer;
  /** PEM of the client's own certificate chain and its key, for servers that demand one. */
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly verify?: VerifyOptions;
}

/** Whom to ask, and how. */
export interface ClientOptions {
  /** Which policy; may be left out when the server has only one. */
  readonly policy?: string;
  /** Which version, instead of the newest. */
  readonly version?: number;
  /** The version that has this label. */
  readonly label?: string;
  /** How long a call may take that is not given its own time; 10 000. */
  readonly timeoutMs?: number;
  /** Secures the connection; `{}` trusts the system's authorities. */
  readonly tls?: TlsOptions;
  /** Authenticates every call, over TLS or to this machine: unencrypted, others could read it on the way. */
  readonly token?: string;
}

/** How an action is chosen, and what is answered besides it. */
export interface ActOptions {
  readonly mode?: Mode;
  /** Makes the draw reproducible: an integer in [0, 2^64). */
  readonly seed?: bigint | number;
  /** Log-probability, entropy and distribution when left out. */
  readonly outputs?: readonly Output[];
  /** bool, [maskSize], or [batch, maskSize] for a batch: true where an action is allowed. */
  readonly mask?: Tensor;
  /** For policies with memory: the state of the previous answer; none at the first step of an episode. */
  readonly state?: Uint8Array;
  readonly timeoutMs?: number;
}

/** How a session's actions are chosen; the action alone is answered unless outputs are named. */
export interface PlayOptions extends Pick<ActOptions, "mode" | "seed" | "outputs" | "timeoutMs"> {
  /** Who plays: a simulator that declares itself can also teach a policy. */
  readonly simulator?: Simulator;
}

/** A policy as the server describes it. */
export interface PolicyInfo {
  readonly policy: Policy;
  /** What the server accepts; undefined in a list of policies. */
  readonly limits?: Limits;
}

type Unary<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: CallOptions,
  callback: (error: ServiceError | null, response: Response) => void,
) => ClientUnaryCall;

const DEFAULT_TIMEOUT_MS = 10_000;
// gRPC's own 4 MB is too small for images.
const MAX_MESSAGE_BYTES = 64 * 2 ** 20;
const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 1000;
// A server permits pings every 10 s, unless it is told otherwise. A shorter patience than a call's own would end sessions
// that a network only delays.
const KEEPALIVE_MS = 20_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
// This machine, to which nobody else can see what is sent.
const LOOPBACK = /^unix:|^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/;

const TOKEN = /^[!-~]([ -~]*[!-~])?$/;

/** When a method of the client has to be done, whatever calls it makes. */
interface Due {
  /** How long it was given. */
  readonly timeoutMs: number;
  /** By Date.now(). */
  readonly at: number;
}

/**
 * A connection to a policy server, and one policy on it.
 *
 * A call for which the server cannot be reached is made again, with back-off, as long as its timeout allows: a server
 * that is restarted is waited for. Only a client that was never answered says so at once, since its address may be
 * wrong. Every method rejects with a child of PolicyServiceError.
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
   * @param target HOST:PORT. The client connects with its first call.
   * @throws InvalidRequestError Both a version and a label are given; or the version is no integer; or the token cannot
   *   be sent, or would travel unencrypted.
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
        throw new InvalidRequestError("token", expected, "another"); // which is a secret
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
      // A server that comes back is found within a second; gRPC's own patience grows to two minutes.
      "grpc.initial_reconnect_backoff_ms": FIRST_BACKOFF_MS,
      "grpc.max_reconnect_backoff_ms": LONGEST_BACKOFF_MS,
      // A connection that leads nowhere any more is given up; nothing else would tell.
      "grpc.keepalive_time_ms": KEEPALIVE_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      "grpc.keepalive_permit_without_calls": 1,
      // No proxy leads to this machine, whatever http_proxy says.
      ...(LOOPBACK.test(target) ? { "grpc.enable_http_proxy": 0 } : {}),
    });
  }

  /** Asks for the action for one observation, or for each of a batch. */
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

  /** Opens a session for one simulator, of one or many environments; its version stays the same throughout. */
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
    await this.#getPolicy(due); // a session is not made again, so this is what waits for a server that restarts
    const request = { ...first, policy: this.#policy, specHash: info.policy.specHash };
    return this.#open(request, info.policy.spec?.observationSpace, due.timeoutMs);
  }

  /** Describes the policy and the server's limits. From then on, requests carry the spec hash that it gives. */
  async describe(timeoutMs?: number): Promise<PolicyInfo> {
    return this.#describe(this.#due(timeoutMs));
  }

  /** Describes every policy and version that the server has ready. */
  async policies(timeoutMs?: number): Promise<PolicyInfo[]> {
    const response = await this.#call(this.#stub.listPolicies.bind(this.#stub), {}, this.#due(timeoutMs));
    return (response.policies ?? []).map((policy) => ({ policy }));
  }

  /** Closes the sessions, and the connection once it has no calls in flight. */
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
      throw translate(error, this.target, timeoutMs); // such as that this client has been closed
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
          throw last; // which tells why there was no answer
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

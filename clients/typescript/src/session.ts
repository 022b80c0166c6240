import type { ClientDuplexStream } from "@grpc/grpc-js";
import { type Actions, readStep } from "./actions.js";
import { InvalidRequestError, late, type PolicyServiceError, ServerUnavailableError, translate } from "./errors.js";
import type { PlayRequest, PlayResponse } from "./generated/pgkeras/v1/service.js";
import type { Space } from "./generated/pgkeras/v1/spaces.js";
import type { Tensor as Message } from "./generated/pgkeras/v1/tensors.js";
import { isSingle } from "./spaces.js";
import { encodeObservation, encodeTensor, isTensor, isTexts, type Observation, type Tensor } from "./tensor.js";

/** Options of a session's step. */
export interface StepOptions {
  /** Whether the observation is the first of an episode. Default: true if the step before it ended an episode. */
  readonly episodeStart?: boolean | ArrayLike<boolean | number>;
  /** bool, [maskSize], or [batch, maskSize] for a batch: true where an action is allowed. */
  readonly mask?: Tensor;
  readonly timeoutMs?: number;
}

/** How long to wait for the server to end a session that has been closed. */
const CLOSING_MS = 1000;

/** 25 days. Node's timers fire immediately if they are set for longer. */
export const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

interface Waiting {
  readonly id: bigint;
  readonly resolve: (response: PlayResponse) => void;
  readonly reject: (error: PolicyServiceError) => void;
  /** Restarts the timeout of the step. */
  readonly renew: () => void;
}

/** A simulator's session, created by {@link PolicyClient.play}. It makes one step at a time. */
export class PlaySession {
  #next: PlayRequest;
  #id = 0n;
  #waiting: Waiting | undefined;
  #failure: PolicyServiceError | undefined;
  readonly #space: Space | undefined;

  constructor(
    private readonly stream: ClientDuplexStream<PlayRequest, PlayResponse>,
    first: PlayRequest,
    observationSpace: Space | undefined,
    private readonly target: string,
    private readonly timeoutMs: number,
  ) {
    this.#next = first;
    this.#space = observationSpace;
    stream.on("data", (response: PlayResponse) => {
      const waiting = this.#waiting;
      if (waiting === undefined || waiting.id !== response.id) {
        return; // a response to a step that timed out
      }
      if (response.result?.$case === "waiting") {
        waiting.renew(); // a policy in training is being updated
      } else {
        waiting.resolve(response);
      }
    });
    stream.on("error", (error) => this.#end(translate(error, target, timeoutMs)));
    stream.on("end", () => this.#end(new ServerUnavailableError(`${target} has ended the session; open a new one`)));
  }

  /**
   * Reports the outcome of the previous action and returns the next one.
   *
   * The observation has the observation space's shape for a single environment, or a leading axis of B environments,
   * the same B at every step. In a Dict or Tuple, the first tensor decides. Reward, terminated and truncated are a
   * number and booleans, or have one element per environment. Omit them at the first step; they may also be omitted if
   * every environment starts an episode.
   *
   * After an InvalidRequestError the session is as if the step had not been made. After a ServerBusyError the same step
   * may be retried. A step that times out counts, even if the server reads it later, and its action is lost. A server
   * that has too many sessions, refuses the simulator, or has seen the session idle for too long ends it with one of
   * these errors, so check `isOver` after an error.
   */
  async step(
    observation: Observation,
    reward?: number | ArrayLike<number>,
    terminated?: boolean | ArrayLike<boolean | number>,
    truncated?: boolean | ArrayLike<boolean | number>,
    options: StepOptions = {},
  ): Promise<Actions> {
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    if (this.#waiting !== undefined) {
      throw new InvalidRequestError("step", "one at a time: await a step before the next", "another under way");
    }
    const single = isSingle(observation, this.#space) === true;
    const batch = single ? withBatchAxis(observation) : observation;
    const { mask } = options;
    this.#id += 1n;
    const request: PlayRequest = {
      ...this.#next,
      id: this.#id,
      observation: encodeObservation(batch),
      reward: floats(reward),
      terminated: flags(terminated),
      truncated: flags(truncated),
      episodeStart: flags(options.episodeStart),
      actionMask: mask && encodeTensor(single && mask.shape.length === 1 ? asRow(mask) : mask),
    };
    // The server reads the other fields only in the first message.
    this.#next = { mode: this.#next.mode, outputs: this.#next.outputs };
    const response = await this.#exchange(request, options.timeoutMs ?? this.timeoutMs);
    return readStep(response, single);
  }

  /** Whether the session has ended, by an error or by close(). Later steps fail with the error that ended it. */
  get isOver(): boolean {
    return this.#failure !== undefined;
  }

  /** Ends the session. Later steps fail. */
  close(): void {
    this.#end(new ServerUnavailableError("the session has been closed; open a new one"));
    this.stream.end();
    // The stream of a server that does not respond would keep the process alive.
    setTimeout(() => this.stream.cancel(), CLOSING_MS).unref();
  }

  #exchange(request: PlayRequest, timeoutMs: number): Promise<PlayResponse> {
    let timer: NodeJS.Timeout | undefined;
    return new Promise<PlayResponse>((resolve, reject) => {
      const renew = () => {
        clearTimeout(timer);
        timer = setTimeout(() => reject(late(this.target, timeoutMs)), Math.min(timeoutMs, LONGEST_TIMEOUT_MS));
      };
      this.#waiting = { id: this.#id, resolve, reject, renew };
      renew();
      this.stream.write(request);
    }).finally(() => {
      clearTimeout(timer);
      this.#waiting = undefined;
    });
  }

  #end(reason: PolicyServiceError): void {
    this.#failure ??= reason;
    this.#waiting?.reject(this.#failure);
  }
}

/** Returns one observation as a batch of one. */
function withBatchAxis(observation: Observation): Observation {
  if (isTensor(observation)) {
    return asRow(observation);
  }
  if (isTexts(observation)) {
    return observation;
  }
  return Object.fromEntries(Object.entries(observation).map(([key, part]) => [key, withBatchAxis(part)]));
}

function asRow(tensor: Tensor): Tensor {
  return { ...tensor, shape: [1, ...tensor.shape] };
}

function floats(values: number | ArrayLike<number> | undefined): Message | undefined {
  if (values === undefined) {
    return undefined;
  }
  const array = typeof values === "number" ? Float32Array.of(values) : asArray(values, Float32Array);
  return encodeTensor({ dtype: "float32", shape: [array.length], values: array });
}

function flags(values: boolean | ArrayLike<boolean | number> | undefined): Message | undefined {
  if (values === undefined) {
    return undefined;
  }
  const array = typeof values === "boolean" ? Uint8Array.of(Number(values)) : asArray(values, Uint8Array);
  return encodeTensor({ dtype: "bool", shape: [array.length], values: array });
}

function asArray<T extends Float32Array | Uint8Array>(
  values: ArrayLike<boolean | number>,
  type: { new (values: ArrayLike<number>): T },
): T {
  return values instanceof type ? values : new type(Array.from(values, Number));
}

import type { ClientDuplexStream } from "@grpc/grpc-js";
import { type Actions, readStep } from "./actions.js";
import { InvalidRequestError, late, type PolicyServiceError, ServerUnavailableError, translate } from "./errors.js";
import type { PlayRequest, PlayResponse } from "./generated/pgkeras/v1/service.js";
import type { Space } from "./generated/pgkeras/v1/spaces.js";
import type { Tensor as Message } from "./generated/pgkeras/v1/tensors.js";
import { isSingle } from "./spaces.js";
import { encodeObservation, encodeTensor, isTensor, isTexts, type Observation, type Tensor } from "./tensor.js";

/** Further parts of a session's step. */
export interface StepOptions {
  /** Whether the observation is the first of an episode. Left out, it is after a step that ended one. */
  readonly episodeStart?: boolean | ArrayLike<boolean | number>;
  /** bool, [maskSize], or [batch, maskSize] for a batch: true where an action is allowed. */
  readonly mask?: Tensor;
  readonly timeoutMs?: number;
}

/** How long a server may take to end a session that is closed. */
const CLOSING_MS = 1000;

/** Node's timers fire at once if they are set for longer: 25 days. */
export const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

interface Waiting {
  readonly id: bigint;
  readonly resolve: (response: PlayResponse) => void;
  readonly reject: (error: PolicyServiceError) => void;
  /** Begins the time of the step anew. */
  readonly renew: () => void;
}

/** One simulator's session, made by PolicyClient.play. One step at a time. */
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
        return; // it is one whose deadline has passed
      }
      if (response.result?.$case === "waiting") {
        waiting.renew(); // a policy in training is being improved
      } else {
        waiting.resolve(response);
      }
    });
    stream.on("error", (error) => this.#end(translate(error, target, timeoutMs)));
    stream.on("end", () => this.#end(new ServerUnavailableError(`${target} has ended the session; open a new one`)));
  }

  /**
   * Reports what the last action led to, and asks for the next.
   *
   * The observation is of the observation space's shape for a single environment, or has a leading axis of B
   * environments, as many at every step; of a Dict or Tuple, that of its first array tells which. Reward, terminated and
   * truncated are a number and booleans, or have one element for each environment; they are left out at the first step,
   * and may be where every environment starts an episode.
   *
   * An InvalidRequestError leaves the session as if the step had not been made; after a ServerBusyError the same step
   * may be made again; a step whose time is over counts, even if the server reads it later, and its action is lost. But a server that has too many
   * sessions, that refuses the simulator, or for which a session was idle for too long, ends the session with such an
   * error: after an error, `isOver` tells whether the session goes on.
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
    this.#next = { mode: this.#next.mode, outputs: this.#next.outputs }; // the rest is read in the first message alone
    const response = await this.#exchange(request, options.timeoutMs ?? this.timeoutMs);
    return readStep(response, single);
  }

  /** Whether the session has ended, with an error or by close(); a step then fails with what ended it. */
  get isOver(): boolean {
    return this.#failure !== undefined;
  }

  /** Ends the session; a step after it fails. */
  close(): void {
    this.#end(new ServerUnavailableError("the session has been closed; open a new one"));
    this.stream.end();
    // The stream of a server that does not answer would keep the process alive.
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

/** One observation as a batch of one. */
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

import type { Distribution as DistributionMessage } from "./generated/pgkeras/v1/policy.js";
import { ActMode, ActOutput, type ActResponse, type PlayResponse } from "./generated/pgkeras/v1/service.js";
import type { Tensor as TensorMessage, Value } from "./generated/pgkeras/v1/tensors.js";
import { errorOfStatus, InvalidRequestError, ServerFailedError, asServerFailure, unreadable } from "./errors.js";
import { decodeTensor, type DType, type Elements, type Tensor, textOf } from "./tensor.js";

/** How an action is selected: sampled from the distribution, or its mode (the most probable action, or the mean). */
export type Mode = "sample" | "greedy";

/** The optional parts of a response; the action is always included. */
export type Output = "logProb" | "entropy" | "distribution" | "greedyAction";

/** An action distribution. */
export interface Distribution {
  /** The name of the message's field in policy.proto, such as `categorical` or `diagonal_gaussian`. */
  readonly kind: string;
  /**
   * The parameters by name, such as `probabilities`. In a structured distribution the part's path precedes the name, as
   * in `move.probabilities`.
   */
  readonly parameters: Readonly<Record<string, Tensor>>;
}

/** The response for one observation or a batch. Tensors have a batch axis if the observations had one. */
export interface Actions {
  /** Has the action space's dtype and shape. It has no elements if the space is a Dict or Tuple. */
  readonly action: Tensor;
  /**
   * The action's leaves if the action space is a Dict or Tuple. Keys are paths, with dots between the parts: `move`, or
   * `hands.1` for the second part of a Tuple.
   */
  readonly parts?: Readonly<Record<string, Tensor>>;
  /** ln P(action | observation), one per observation. Undefined if not requested, like the fields below. */
  readonly logProb?: Float32Array;
  /** Entropy of the distribution, in nats. */
  readonly entropy?: Float32Array;
  /** The action that mode "greedy" would have returned. */
  readonly greedyAction?: Tensor;
  /** The leaves of the greedy action, keyed like `parts`. */
  readonly greedyParts?: Readonly<Record<string, Tensor>>;
  /** Also undefined if this client does not know the distribution's kind. */
  readonly distribution?: Distribution;
  /** Memory of a policy with memory, to be sent with the next observation. A session keeps it itself. */
  readonly state?: Uint8Array;
  /** Name of the policy that responded; `version` is its version. */
  readonly policy: string;
  readonly version: number;
  /**
   * From a policy in training. Where it is 1, the environment should not take its action but send the same first
   * observation again in the next step, with `episodeStart`. Undefined if no environment should wait.
   */
  readonly hold?: Uint8Array;
}

const NO_ACTION: Tensor = { dtype: "float32", shape: [0], values: new Float32Array(0) };

const OUTPUTS: Record<Output, ActOutput> = {
  logProb: ActOutput.LOG_PROB,
  entropy: ActOutput.ENTROPY,
  distribution: ActOutput.DISTRIBUTION,
  greedyAction: ActOutput.GREEDY_ACTION,
};

export function modeNumber(mode: Mode): ActMode {
  return mode === "greedy" ? ActMode.GREEDY : ActMode.SAMPLE;
}

export function outputNumbers(outputs: readonly Output[]): ActOutput[] {
  return [ActOutput.ACTION, ...outputs.map((output) => OUTPUTS[output])];
}

/**
 * Decodes the response to a session's step. Removes the batch axis for a single environment.
 *
 * @throws {@link PolicyServiceError} the error in the response.
 * @throws {@link ServerFailedError} if the response is malformed, or does not have one row for a single environment.
 */
export function readStep({ result, hold }: PlayResponse, single: boolean): Actions {
  if (result?.$case === "error") {
    const { code, message, details } = result.value;
    throw errorOfStatus({ code, message, details });
  }
  if (result?.$case !== "act") {
    throw unreadable("it has neither actions nor an error");
  }
  const actions = readActions(result.value);
  const held = { ...actions, hold: hold && asServerFailure(() => valuesOf(hold, "hold", "bool") as Uint8Array) };
  return single ? firstRow(held, [result.value.logProb, result.value.entropy, hold]) : held;
}

/**
 * Decodes a response.
 *
 * @throws {@link ServerFailedError} if it is malformed.
 */
export function readActions(response: ActResponse): Actions {
  if (!response.action && !response.structuredAction) {
    throw unreadable("it has no action");
  }
  return asServerFailure(() => decodeActions(response));
}

function decodeActions(response: ActResponse): Actions {
  return {
    action: response.structuredAction ? NO_ACTION : decodeTensor(response.action, "action"),
    parts: response.structuredAction && readParts(response.structuredAction, "structured_action"),
    greedyParts:
      response.structuredGreedyAction && readParts(response.structuredGreedyAction, "structured_greedy_action"),
    logProb: response.logProb && (valuesOf(response.logProb, "log_prob", "float32") as Float32Array),
    entropy: response.entropy && (valuesOf(response.entropy, "entropy", "float32") as Float32Array),
    greedyAction: response.greedyAction && decodeTensor(response.greedyAction, "greedy_action"),
    distribution: response.distribution && readDistribution(response.distribution),
    state: response.state?.length ? response.state : undefined,
    policy: response.policy?.name ?? "",
    version: Number(response.policy?.version ?? 0n),
  };
}

/** Returns the elements of a tensor, which must have the given dtype. */
function valuesOf(message: TensorMessage, field: string, dtype: DType): Elements {
  const tensor = decodeTensor(message, field);
  if (tensor.dtype !== dtype) {
    throw new InvalidRequestError(`${field}.dtype`, dtype, tensor.dtype);
  }
  return tensor.values;
}

/** Returns the leaves of a value, keyed by path. */
function readParts(value: Value, field: string, path = ""): Record<string, Tensor> {
  if (value.kind?.$case !== "fields") {
    return { [path]: decodeTensor(value.kind?.$case === "tensor" ? value.kind.value : undefined, `${field}.${path}`) };
  }
  const found: Record<string, Tensor> = {};
  for (const [key, part] of Object.entries(value.kind.value.fields ?? {})) {
    Object.assign(found, readParts(part, field, path ? `${path}.${key}` : key));
  }
  return found;
}

/** Decodes a distribution. Returns undefined if this client does not know its kind. */
export function readDistribution(message: DistributionMessage): Distribution | undefined {
  if (message.kind === undefined) {
    return undefined; // an unknown kind
  }
  const kind = message.kind.$case.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const parameters: Record<string, Tensor> = {};
  if (message.kind.$case === "structured") {
    for (const [key, part] of Object.entries(message.kind.value.parts ?? {})) {
      for (const [name, parameter] of Object.entries(readDistribution(part)?.parameters ?? {})) {
        parameters[`${key}.${name}`] = parameter;
      }
    }
    return { kind, parameters };
  }
  for (const [name, parameter] of Object.entries(message.kind.value) as [string, TensorMessage][]) {
    parameters[name] = decodeTensor(parameter, `distribution.${kind}.${name}`);
  }
  return { kind, parameters };
}

/**
 * Removes the batch axis of the response to a batch of one.
 *
 * @param numbers - The messages that have one number per observation.
 * @throws {@link ServerFailedError} if there is not exactly one row.
 */
function firstRow(actions: Actions, numbers: readonly (TensorMessage | undefined)[]): Actions {
  const { distribution, greedyAction, greedyParts, parts } = actions;
  for (const { shape = [] } of numbers.filter((message) => message !== undefined)) {
    if (shape.length !== 1 || shape[0] !== 1n) {
      throw notOne(shape);
    }
  }
  return {
    ...actions,
    action: parts ? actions.action : withoutAxis(actions.action),
    parts: parts && rowsOf(parts),
    greedyParts: greedyParts && rowsOf(greedyParts),
    greedyAction: greedyAction && withoutAxis(greedyAction),
    distribution: distribution && { kind: distribution.kind, parameters: rowsOf(distribution.parameters) },
  };
}

function rowsOf(tensors: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, withoutAxis(tensor)]));
}

function withoutAxis(tensor: Tensor): Tensor {
  if (tensor.shape[0] !== 1) {
    throw notOne(tensor.shape);
  }
  return { ...tensor, shape: tensor.shape.slice(1) };
}

function notOne(shape: readonly (number | bigint)[]): ServerFailedError {
  return new ServerFailedError(`the server answered one observation with an array of shape ${textOf(shape)}`);
}

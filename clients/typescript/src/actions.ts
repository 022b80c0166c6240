import type { Distribution as DistributionMessage } from "./generated/pgkeras/v1/policy.js";
import { ActMode, ActOutput, type ActResponse } from "./generated/pgkeras/v1/service.js";
import type { Tensor as TensorMessage } from "./generated/pgkeras/v1/tensors.js";
import { decodeTensor, type Tensor } from "./tensor.js";

/** How an action is chosen: drawn from the distribution, or the most probable one (or the mean). */
export type Mode = "sample" | "greedy";

/** What an answer can have besides the action. */
export type Output = "logProb" | "entropy" | "distribution" | "greedyAction";

/** An action distribution. */
export interface Distribution {
  /** The name of the message's field in policy.proto, such as `categorical` or `diagonal_gaussian`. */
  readonly kind: string;
  /** Its parameters by name, such as `probabilities`. */
  readonly parameters: Readonly<Record<string, Tensor>>;
}

/** The answer for one observation or a batch; tensors have a batch axis if the observations had one. */
export interface Actions {
  /** Of the action space's dtype and shape. */
  readonly action: Tensor;
  /** ln P(action | observation), one for each observation; undefined if not asked for, like what follows. */
  readonly logProb?: Float32Array;
  /** In nats. */
  readonly entropy?: Float32Array;
  /** What mode "greedy" would have done. */
  readonly greedyAction?: Tensor;
  readonly distribution?: Distribution;
  /** For policies with memory: what to send with the next observation. A session holds it itself. */
  readonly state?: Uint8Array;
  /** Who answered. */
  readonly policy: string;
  readonly version: number;
  /**
   * From a policy in training: 1 for each environment that should not take its action, but show the same first observation
   * again in the next step, with `episodeStart`. Undefined where none should wait.
   */
  readonly hold?: Uint8Array;
}

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

/** An answer as arrays. */
export function readActions(response: ActResponse): Actions {
  return {
    action: decodeTensor(response.action, "action"),
    logProb: response.logProb && (decodeTensor(response.logProb, "log_prob").values as Float32Array),
    entropy: response.entropy && (decodeTensor(response.entropy, "entropy").values as Float32Array),
    greedyAction: response.greedyAction && decodeTensor(response.greedyAction, "greedy_action"),
    distribution: response.distribution && readDistribution(response.distribution),
    state: response.state?.length ? response.state : undefined,
    policy: response.policy?.name ?? "",
    version: Number(response.policy?.version ?? 0n),
  };
}

/** A distribution of whatever kind as arrays. */
export function readDistribution(message: DistributionMessage): Distribution | undefined {
  if (message.kind === undefined) {
    return undefined; // of a kind that this client does not know
  }
  const kind = message.kind.$case.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const parameters: Record<string, Tensor> = {};
  for (const [name, parameter] of Object.entries(message.kind.value) as [string, TensorMessage][]) {
    parameters[name] = decodeTensor(parameter, `distribution.${kind}.${name}`);
  }
  return { kind, parameters };
}

/** The only row of answers to a batch of one. */
export function firstRow(actions: Actions): Actions {
  const { distribution, greedyAction } = actions;
  return {
    ...actions,
    action: withoutAxis(actions.action),
    greedyAction: greedyAction && withoutAxis(greedyAction),
    distribution: distribution && {
      kind: distribution.kind,
      parameters: Object.fromEntries(
        Object.entries(distribution.parameters).map(([name, parameter]) => [name, withoutAxis(parameter)]),
      ),
    },
  };
}

function withoutAxis(tensor: Tensor): Tensor {
  return { ...tensor, shape: tensor.shape.slice(1) };
}

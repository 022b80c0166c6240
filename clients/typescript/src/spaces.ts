import { integer } from "./errors.js";
import type { Space } from "./generated/pgkeras/v1/spaces.js";
import { DataType } from "./generated/pgkeras/v1/tensors.js";
import { isTensor, isTexts, type Observation } from "./tensor.js";

export type { Space };

/**
 * Describes the simulator that opens a session. A simulator that declares itself can also train a policy, by connecting
 * to `pgkeras train --listen`. A server of trained policies checks that the spaces match the policy's.
 */
export interface Simulator {
  readonly observationSpace: Space;
  readonly actionSpace: Space;
  /** Number of environments that it steps in parallel; omitted means unspecified. */
  readonly environments?: number;
  /** Informational, like `version`. */
  readonly name?: string;
  readonly version?: string;
}

/** A bound: one number for all elements, or one per element in C order. */
type Bound = number | readonly number[];

/**
 * Constructors of observation and action spaces. The kinds are those of gymnasium.spaces. They throw an
 * {@link InvalidRequestError} that names the field if a number must be an integer and is not.
 */
export const spaces = {
  /** Arrays of float32 numbers within bounds, which may be infinite. */
  box(shape: readonly number[], low: Bound, high: Bound): Space {
    const value = { dtype: DataType.FLOAT32, shape: lengths(shape), low: bounds(low), high: bounds(high) };
    return { kind: { $case: "box", value } };
  },
  /** uint8 images. */
  pixels(shape: readonly number[]): Space {
    const value = { dtype: DataType.UINT8, shape: lengths(shape), low: [0], high: [255] };
    return { kind: { $case: "box", value } };
  },
  /** The integers 0 to n - 1. */
  discrete(n: number): Space {
    return { kind: { $case: "discrete", value: { n: integer(n, "space.n"), dtype: DataType.INT64 } } };
  },
  /** Integer vectors, whose element i is in 0 to counts[i] - 1. */
  multiDiscrete(counts: readonly number[]): Space {
    const value = {
      nvec: counts.map((count) => integer(count, "space.nvec")),
      start: counts.map(() => 0n),
      shape: [BigInt(counts.length)],
      dtype: DataType.INT64,
    };
    return { kind: { $case: "multiDiscrete", value } };
  },
  /** Arrays of zeros and ones. */
  multiBinary(shape: readonly number[]): Space {
    return { kind: { $case: "multiBinary", value: { shape: lengths(shape) } } };
  },
  /**
   * Named parts, in this order. Use pairs of key and space for keys such as "1", because JavaScript moves them to the
   * beginning of an object.
   */
  dict(parts: Readonly<Record<string, Space>> | readonly (readonly [string, Space])[]): Space {
    const pairs: readonly (readonly [string, Space])[] = Array.isArray(parts) ? parts : Object.entries(parts);
    const named = pairs.map(([key, space]) => ({ key, space }));
    return { kind: { $case: "dict", value: { spaces: named } } };
  },
  /** Ordered parts. */
  tuple(...parts: readonly Space[]): Space {
    return { kind: { $case: "tuple", value: { spaces: [...parts] } } };
  },
};

/**
 * Whether a value is one observation rather than a batch. The first tensor decides. Returns undefined if there is none:
 * texts do not decide, because they have a batch axis in both cases.
 */
export function isSingle(observation: Observation, space: Space | undefined): boolean | undefined {
  if (isTensor(observation)) {
    return observation.shape.length === rankOf(space);
  }
  if (isTexts(observation)) {
    return undefined;
  }
  for (const [key, part] of partsOf(space)) {
    const inner = observation[key];
    const single = inner && isSingle(inner, part);
    if (single !== undefined) {
      return single;
    }
  }
  return undefined;
}

/** Returns the number of axes of one value of a space, or -1 if the value is not a tensor. */
function rankOf(space: Space | undefined): number {
  switch (space?.kind?.$case) {
    case "box":
    case "multiDiscrete":
    case "multiBinary":
      return (space.kind.value.shape ?? []).length;
    case "discrete":
      return 0;
    default:
      return -1;
  }
}

/** Returns the parts of a Dict or Tuple space with their keys in an observation; none for other spaces. */
function partsOf(space: Space | undefined): [string, Space | undefined][] {
  switch (space?.kind?.$case) {
    case "dict":
      return (space.kind.value.spaces ?? []).map(({ key, space: part }) => [key ?? "", part]);
    case "tuple":
      return (space.kind.value.spaces ?? []).map((part, i) => [`${i}`, part]);
    default:
      return [];
  }
}

function lengths(shape: readonly number[]): bigint[] {
  return shape.map((length) => integer(length, "space.shape"));
}

function bounds(bound: Bound): number[] {
  return typeof bound === "number" ? [bound] : [...bound];
}

import { integer } from "./errors.js";
import type { Space } from "./generated/pgkeras/v1/spaces.js";
import { DataType } from "./generated/pgkeras/v1/tensors.js";
import { isTensor, isTexts, type Observation } from "./tensor.js";

export type { Space };

/**
 * Who plays. A simulator that declares itself can also teach a policy, where `pgkeras train --listen` listens; a server of
 * trained policies checks that the spaces are the policy's.
 */
export interface Simulator {
  readonly observationSpace: Space;
  readonly actionSpace: Space;
  /** How many environments it steps side by side; left out, that is open. */
  readonly environments?: number;
  /** What people call it. */
  readonly name?: string;
  readonly version?: string;
}

/** A bound: one number for all elements, or one for each in C order. */
type Bound = number | readonly number[];

/**
 * What a simulator shows and takes. The kinds are those of gymnasium.spaces. An InvalidRequestError says which number is
 * no integer where one is needed.
 */
export const spaces = {
  /** Arrays of float32 numbers within bounds, which may be infinite. */
  box(shape: readonly number[], low: Bound, high: Bound): Space {
    const value = { dtype: DataType.FLOAT32, shape: lengths(shape), low: bounds(low), high: bounds(high) };
    return { kind: { $case: "box", value } };
  },
  /** Images, of bytes. */
  pixels(shape: readonly number[]): Space {
    const value = { dtype: DataType.UINT8, shape: lengths(shape), low: [0], high: [255] };
    return { kind: { $case: "box", value } };
  },
  /** The integers 0 to n - 1. */
  discrete(n: number): Space {
    return { kind: { $case: "discrete", value: { n: integer(n, "space.n"), dtype: DataType.INT64 } } };
  },
  /** Several integers at once: element i is one of 0 to counts[i] - 1. */
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
   * Named parts, in this order. As pairs of key and space they may have keys such as "1", which JavaScript moves to the
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
 * Whether a value is one observation and not a batch, going by its first tensor; undefined if it has none: texts are a
 * batch, be it of one.
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

/** How many axes one value of a space has; -1 if it is no tensor. */
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

/** The parts of a Dict or Tuple space, by the keys that they have in an observation; none of another. */
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

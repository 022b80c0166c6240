import { tensor } from "../src/index.js";

export const ROW = tensor(Float32Array.of(0, 0.1, 0, -0.1));
export const SHORT_ROW = tensor(Float32Array.of(0, 0.1, 0));

/** Thrown by a scenario that cannot be run. The message says why. */
export class Skip extends Error {}

export function check(right: boolean, complaint: string): asserts right {
  if (!right) {
    throw new Error(complaint);
  }
}

type Numbers = ArrayLike<number | bigint> | undefined;

export function near(got: Numbers, expected: Numbers): void {
  const a = Array.from(got ?? [], Number);
  const b = Array.from(expected ?? [], Number);
  const same = b.every((value, i) => Math.abs((a[i] ?? Number.NaN) - value) <= 1e-5 * Math.max(1, Math.abs(value)));
  check(a.length === b.length && b.length > 0 && same, `got ${a}, not ${b}`);
}

type Kind<E> = abstract new (...args: never[]) => E;

/** Returns the error of a call that must fail with one of the given types. */
export async function failure<E extends Error>(kinds: readonly Kind<E>[], call: Promise<unknown>): Promise<E> {
  try {
    await call;
  } catch (error) {
    const kind = kinds.find((one) => error instanceof one);
    check(kind !== undefined, `got ${error}, expected ${kinds.map((one) => one.name)}`);
    return error as E;
  }
  throw new Error(`the call succeeded, expected ${kinds.map((one) => one.name)}`);
}

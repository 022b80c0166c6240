import assert from "node:assert/strict";
import { test } from "node:test";
import { readDistribution } from "../src/actions.js";
import { errorOfStatus, statusOf } from "../src/errors.js";
import { Distribution } from "../src/generated/pgkeras/v1/policy.js";
import { Space } from "../src/generated/pgkeras/v1/spaces.js";
import { DataType, Tensor as Message } from "../src/generated/pgkeras/v1/tensors.js";
import * as pgkeras from "../src/index.js";
import { decodeTensor, encodeTensor } from "../src/tensor.js";
import { bytes, vectors } from "./vectors.js";

interface ArrayVector {
  dtype: pgkeras.DType;
  shape: number[];
  values: (number | string | boolean)[];
}

const KINDS = {
  invalid_request: pgkeras.InvalidRequestError,
  policy_not_found: pgkeras.PolicyNotFoundError,
  spec_mismatch: pgkeras.SpecMismatchError,
  server_busy: pgkeras.ServerBusyError,
  deadline_exceeded: pgkeras.DeadlineExceededError,
  server_unavailable: pgkeras.ServerUnavailableError,
  unauthenticated: pgkeras.UnauthenticatedError,
  server_failed: pgkeras.ServerFailedError,
};

/** Returns the vector's values in the array type of its dtype. */
function elements({ dtype, values }: ArrayVector): pgkeras.Elements {
  switch (dtype) {
    case "bool":
    case "uint8":
      return Uint8Array.from(values, Number);
    case "int8":
      return Int8Array.from(values, Number);
    case "uint16":
      return Uint16Array.from(values, Number);
    case "int16":
      return Int16Array.from(values, Number);
    case "int32":
      return Int32Array.from(values, Number);
    case "int64":
      return BigInt64Array.from(values as string[], BigInt);
    case "float16":
      return Uint16Array.from(values, (value) => half(Number(value)));
    case "float32":
      return Float32Array.from(values, Number);
    case "float64":
      return Float64Array.from(values, Number);
  }
}

/** Returns the bits of a number that binary16 represents exactly. */
function half(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size === Number.POSITIVE_INFINITY) {
    return sign | 0x7c00;
  }
  if (size < 2 ** -14) {
    return sign | (size * 2 ** 24);
  }
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
}

function compare(got: pgkeras.Tensor | undefined, vector: ArrayVector): void {
  assert.equal(got?.dtype, vector.dtype);
  assert.deepEqual(got?.shape, vector.shape);
  assert.deepEqual(got?.values, elements(vector));
}

for (const vector of vectors.tensors) {
  test(`tensor ${vector.name}`, () => {
    compare(decodeTensor(Message.decode(bytes(vector.message)), "tensor"), vector);
    const made = encodeTensor(pgkeras.tensor(elements(vector), vector.shape, vector.dtype));
    assert.deepEqual(made.data, bytes(vector.data));
    assert.deepEqual(Message.decode(Message.encode(made).finish()), Message.decode(bytes(vector.message)));
  });
}

for (const vector of vectors.bad_tensors) {
  test(`bad tensor ${vector.name}`, () => {
    assert.throws(
      () => decodeTensor(Message.decode(bytes(vector.message)), "tensor"),
      (error) => error instanceof pgkeras.InvalidRequestError && error.field === vector.field,
    );
  });
}

test("decoded tensors share aligned memory, and copy memory that is not aligned", () => {
  for (let offset = 0; offset < 8; offset++) {
    const data = new Uint8Array(32).subarray(offset, offset + 24);
    data.set([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
    const decoded = decodeTensor({ dtype: DataType.INT64, shape: [3n], data }, "tensor");
    assert.deepEqual(decoded.values, BigInt64Array.of(1n, 2n, 3n));
    assert.equal(decoded.values.buffer === data.buffer, offset === 0);
  }
});

test("a tensor whose shape or dtype does not match its values is refused", () => {
  assert.throws(() => pgkeras.tensor(Float32Array.of(1, 2), [3]), pgkeras.InvalidRequestError);
  assert.throws(() => pgkeras.tensor(Float32Array.of(1, 2), [2], "bool"), pgkeras.InvalidRequestError);
});

for (const vector of vectors.spaces) {
  test(`space ${vector.name}`, () => {
    const space = Space.decode(bytes(vector.message));
    const kind = space.kind?.$case.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    assert.equal(kind, vector.kind);
    const value = space.kind?.value ?? {};
    if ("shape" in value && vector.shape !== undefined) {
      assert.deepEqual(value.shape?.map(Number) ?? [], vector.shape);
    }
    if ("dtype" in value && value.dtype !== undefined) {
      assert.equal(DataType[value.dtype].toLowerCase(), vector.dtype);
    }
    assert.deepEqual(Space.encode(space).finish(), bytes(vector.message));
  });
}

for (const vector of vectors.distributions) {
  test(`distribution ${vector.name}`, () => {
    const found = readDistribution(Distribution.decode(bytes(vector.message)));
    assert.equal(found?.kind, vector.kind);
    assert.deepEqual(Object.keys(found?.parameters ?? {}).sort(), Object.keys(vector.parameters).sort());
    for (const [name, parameter] of Object.entries(vector.parameters)) {
      compare(found?.parameters[name], parameter as ArrayVector);
    }
  });
}

for (const vector of vectors.errors) {
  test(`error ${vector.name}`, () => {
    const trailer = vector.status === null ? undefined : bytes(vector.status);
    const error = errorOfStatus(statusOf(vector.code, vector.message, trailer));
    const { error: kind, retry_after_seconds, message = "", ...fields } = vector.expected;
    assert.equal(error.constructor, KINDS[kind as keyof typeof KINDS]);
    assert.ok(error.message.includes(message));
    for (const [name, value] of Object.entries(fields)) {
      assert.equal(error[name as keyof typeof error], value);
    }
    if (retry_after_seconds !== undefined) {
      assert.equal("retryAfterMs" in error && error.retryAfterMs, retry_after_seconds * 1000);
    }
  });
}

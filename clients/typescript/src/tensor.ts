import { endianness } from "node:os";
import { InvalidRequestError } from "./errors.js";
import { DataType, type Tensor as Message, type Value } from "./generated/pgkeras/v1/tensors.js";

/** The type of a tensor's elements. */
export type DType =
  "bool" | "uint8" | "int8" | "uint16" | "int16" | "int32" | "int64" | "float16" | "float32" | "float64";

/** The arrays that hold a tensor's elements. bool is stored as bytes of 0 or 1, float16 as IEEE 754 binary16 bits. */
export type Elements =
  Uint8Array | Int8Array | Uint16Array | Int16Array | Int32Array | BigInt64Array | Float32Array | Float64Array;

/** A dense array in C order. */
export interface Tensor {
  readonly dtype: DType;
  /** Length of every axis. Empty for a scalar. */
  readonly shape: readonly number[];
  readonly values: Elements;
}

/**
 * An observation, or a batch of observations whose tensors have a leading batch axis. It is a tensor, an array of
 * strings for a Text space, or an object of parts for a Dict space or (with keys "0", "1", ...) a Tuple space. A single
 * string next to tensors without a batch axis belongs to a single observation.
 */
export type Observation = Tensor | readonly string[] | { readonly [part: string]: Observation };

type ElementsConstructor = new (buffer: ArrayBufferLike, offset: number, length: number) => Elements;

const MAX_AXES = 32;
const IS_LITTLE_ENDIAN = endianness() === "LE";
const TYPES: Record<DType, [DataType, ElementsConstructor & { BYTES_PER_ELEMENT: number }]> = {
  bool: [DataType.BOOL, Uint8Array],
  uint8: [DataType.UINT8, Uint8Array],
  int8: [DataType.INT8, Int8Array],
  uint16: [DataType.UINT16, Uint16Array],
  int16: [DataType.INT16, Int16Array],
  int32: [DataType.INT32, Int32Array],
  int64: [DataType.INT64, BigInt64Array],
  float16: [DataType.FLOAT16, Uint16Array],
  float32: [DataType.FLOAT32, Float32Array],
  float64: [DataType.FLOAT64, Float64Array],
};
const DTYPES = new Map(Object.entries(TYPES).map(([dtype, [number]]) => [number, dtype as DType]));
const DEFAULTS = new Map<unknown, DType>([
  [Int8Array, "int8"],
  [Uint16Array, "uint16"],
  [Int16Array, "int16"],
  [Int32Array, "int32"],
  [BigInt64Array, "int64"],
  [Float32Array, "float32"],
  [Float64Array, "float64"],
]);

/**
 * Returns a tensor of values in C order, which shares their memory.
 *
 * @param shape - Length of every axis. Default: a vector of all values.
 * @param dtype - Default: the dtype of the array. Needed only for bool and float16.
 * @throws {@link InvalidRequestError} if the number of values does not match the shape, or their type not the dtype.
 */
export function tensor(
  values: Elements | Uint8ClampedArray,
  shape: readonly number[] = [values.length],
  dtype?: DType,
): Tensor {
  const chosen = dtype ?? DEFAULTS.get(values.constructor) ?? "uint8";
  const wanted = TYPES[chosen][1].name;
  const kind: string = values[Symbol.toStringTag]; // "Uint8Array" for a Buffer, too
  if (kind !== wanted && !(chosen === "uint8" && kind === "Uint8ClampedArray")) {
    throw new InvalidRequestError("tensor.dtype", `${wanted} for ${chosen}`, kind);
  }
  const isLength = (length: number) => Number.isSafeInteger(length) && length >= 0;
  if (!shape.every(isLength) || shape.reduce((product, length) => product * length, 1) !== values.length) {
    throw new InvalidRequestError("tensor.shape", `${values.length} elements`, textOf(shape));
  }
  const isClamped = values instanceof Uint8ClampedArray;
  const elements = isClamped ? new Uint8Array(values.buffer, values.byteOffset, values.length) : values;
  return { dtype: chosen, shape, values: elements };
}

/** Encodes a tensor. Copies the values, because gRPC may read the message after the caller has overwritten them. */
export function encodeTensor({ dtype, shape, values }: Tensor): Message {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
  return {
    dtype: TYPES[dtype][0],
    shape: shape.map((length) => BigInt(length)),
    data: inOrder(data, values.BYTES_PER_ELEMENT),
  };
}

/** Encodes an observation. */
export function encodeObservation(observation: Observation): Value {
  if (isTensor(observation)) {
    return { kind: { $case: "tensor", value: encodeTensor(observation) } };
  }
  if (isTexts(observation)) {
    return { kind: { $case: "texts", value: { texts: [...observation] } } };
  }
  const fields: Record<string, Value> = {};
  for (const [key, part] of Object.entries(observation)) {
    fields[key] = encodeObservation(part);
  }
  return { kind: { $case: "fields", value: { fields } } };
}

/** Whether an observation is a tensor. */
export function isTensor(observation: Observation): observation is Tensor {
  return "dtype" in observation && typeof observation.dtype === "string";
}

/**
 * Decodes a tensor. Shares the message's memory where it is aligned.
 *
 * @param field - Path of the tensor in the response, for the error.
 * @throws {@link InvalidRequestError} if the dtype is unknown, the shape is invalid, or the data does not match them.
 */
export function decodeTensor(message: Message | undefined, field: string): Tensor {
  const dtype = DTYPES.get(message?.dtype ?? DataType.UNSPECIFIED);
  if (message === undefined || dtype === undefined) {
    throw new InvalidRequestError(`${field}.dtype`, "a DataType other than UNSPECIFIED", `${message?.dtype}`);
  }
  const lengths = message.shape ?? [];
  if (lengths.length > MAX_AXES) {
    throw new InvalidRequestError(`${field}.shape`, `at most ${MAX_AXES} axes`, `${lengths.length} axes`);
  }
  if (lengths.some((length) => length < 0n)) {
    throw new InvalidRequestError(`${field}.shape`, "lengths of at least 0", textOf(lengths));
  }
  const type = TYPES[dtype][1];
  const data = message.data ?? new Uint8Array();
  const size = lengths.reduce((product, length) => product * length, BigInt(type.BYTES_PER_ELEMENT));
  if (size !== BigInt(data.length)) {
    throw new InvalidRequestError(
      `${field}.data`,
      `${size} bytes for shape ${textOf(lengths)}`,
      `${data.length} bytes`,
    );
  }
  if (dtype === "bool" && data.some((byte) => byte > 1)) {
    throw new InvalidRequestError(`${field}.data`, "bytes of 0 or 1 for a bool", `${Math.max(...data)}`);
  }
  const ordered = inOrder(data, type.BYTES_PER_ELEMENT);
  // A typed array must begin at a multiple of its element size. The bytes of a message may begin anywhere.
  const aligned = ordered.byteOffset % type.BYTES_PER_ELEMENT === 0 ? ordered : new Uint8Array(ordered);
  const values = new type(aligned.buffer, aligned.byteOffset, data.length / type.BYTES_PER_ELEMENT);
  return { dtype, shape: lengths.map(Number), values };
}

/** Formats a shape as the other clients do: `[2, 4]`. */
export function textOf(shape: readonly (number | bigint)[]): string {
  return `[${shape.join(", ")}]`;
}

/** Whether an observation is an array of strings. */
export function isTexts(observation: Observation): observation is readonly string[] {
  return Array.isArray(observation);
}

/** Converts between this machine's byte order and little-endian. Copies only on big-endian machines. */
function inOrder(data: Uint8Array, size: number): Uint8Array {
  if (IS_LITTLE_ENDIAN || size === 1) {
    return data;
  }
  const copy = Buffer.from(data);
  return size === 2 ? copy.swap16() : size === 4 ? copy.swap32() : copy.swap64();
}

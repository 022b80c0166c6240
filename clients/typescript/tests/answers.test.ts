import assert from "node:assert/strict";
import { test } from "node:test";
import { type ActResponse, PlayResponse } from "../src/generated/pgkeras/v1/service.js";
import { DataType, type Tensor } from "../src/generated/pgkeras/v1/tensors.js";
import { answer, each, ROW, serve } from "./serving.js";
import { bytes, vectors } from "./vectors.js";

const { FLOAT32, INT64 } = DataType;
const SIZES = new Map([
  [FLOAT32, 4],
  [INT64, 8],
]);

function zeros(dtype: DataType, ...lengths: number[]): Tensor {
  const count = lengths.reduce((product, length) => product * length, SIZES.get(dtype) ?? 0);
  return { dtype, shape: lengths.map(BigInt), data: new Uint8Array(count) };
}

function acting(value: ActResponse): PlayResponse {
  return { result: { $case: "act", value } };
}

const ACTION = zeros(INT64, 1);

/** Malformed responses to a single environment that the vectors do not cover, with part of the error message. */
const WRONG: [string, PlayResponse][] = [
  ["it has no action", acting({})],
  ["array of shape [0]", acting({ action: ACTION, greedyAction: zeros(INT64, 0) })],
  ["array of shape [3]", acting({ action: ACTION, logProb: zeros(FLOAT32, 3) })],
  [
    "the server answered one observation with an array of shape []",
    acting({
      action: ACTION,
      distribution: { kind: { $case: "categorical", value: { probabilities: zeros(FLOAT32) } } },
    }),
  ],
  [
    "the server's answer cannot be read: structured_action.",
    acting({ structuredAction: { kind: { $case: "texts", value: { texts: ["a"] } } } }),
  ],
  ["all is well", { result: { $case: "error", value: { code: 0, message: "all is well" } } }],
];

for (const [i, [words, wrong]] of WRONG.entries()) {
  test(`malformed response ${i} to a step is a server failure`, () => isServerFailure(wrong, words));
}

for (const { name, message, says } of vectors.bad_answers) {
  test(`bad answer ${name} to a step is a server failure`, () =>
    isServerFailure(PlayResponse.decode(bytes(message)), says));
}

/** Checks that a step with this response fails with this message and leaves the session open. */
async function isServerFailure(wrong: PlayResponse, words: string): Promise<void> {
  const client = await serve({
    play: each((request, stream) => {
      if (request.id === 1n) {
        stream.write({ ...wrong, id: 1n });
      } else {
        answer(request, stream);
      }
    }),
  });
  const session = await client.play();
  await assert.rejects(session.step(ROW), (error: Error) => {
    assert.equal(error.name, "ServerFailedError");
    assert.ok(error.message.includes(words), error.message);
    return true;
  });
  assert.ok(!session.isOver);
  assert.deepEqual((await session.step(ROW)).action.values, BigInt64Array.of(2n));
  session.close();
}

test("a malformed response to a call is a server failure", async () => {
  const client = await serve({ act: (_call, callback) => callback(null, {}) });
  await assert.rejects(client.act(ROW), { name: "ServerFailedError", message: /is the server newer/ });
});

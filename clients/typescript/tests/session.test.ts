import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { type PlayRequest, type PlayResponse, PolicyServiceService } from "../src/generated/pgkeras/v1/service.js";
import type { Value } from "../src/generated/pgkeras/v1/tensors.js";
import * as pgkeras from "../src/index.js";
import { encodeTensor } from "../src/tensor.js";

type Stream = ServerDuplexStream<PlayRequest, PlayResponse>;

const SPACE = pgkeras.spaces.box([2], -1, 1);
const ROW = pgkeras.tensor(Float32Array.of(0, 0));

/** A client of a server on a real socket, which answers every message with the action of its id unless a test says more. */
async function serve(play: (request: PlayRequest, stream: Stream) => void): Promise<pgkeras.PolicyClient> {
  const server = new Server();
  server.addService(PolicyServiceService, {
    getPolicy: (_call: unknown, callback: (error: null, response: object) => void) =>
      callback(null, { policy: { specHash: "hash", spec: { observationSpace: SPACE } } }),
    play: (stream: Stream) => {
      stream.on("data", (request: PlayRequest) => play(request, stream));
      stream.on("end", () => stream.end());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const client = new pgkeras.PolicyClient(`127.0.0.1:${port}`);
  after(() => {
    client.close();
    server.forceShutdown();
  });
  return client;
}

function answer({ id }: PlayRequest, stream: Stream): void {
  const action = encodeTensor(pgkeras.tensor(BigInt64Array.of(id ?? 0n)));
  stream.write({ id, result: { $case: "act", value: { action } } });
}

test("a single observation of parts becomes a batch of one", async () => {
  const seen: string[] = [];
  const client = await serve((request, stream) => {
    const leaves = (value: Value | undefined): string => {
      switch (value?.kind?.$case) {
        case "tensor":
          return `[${value.kind.value.shape}]`;
        case "texts":
          return `${value.kind.value.texts}`;
        default: {
          const fields = value?.kind?.value.fields ?? {};
          return `{${Object.keys(fields)
            .sort()
            .map((key) => leaves(fields[key]))}}`;
        }
      }
    };
    seen.push(leaves(request.observation));
    answer(request, stream);
  });
  const { box, dict, discrete, tuple } = pgkeras.spaces;
  const text: pgkeras.Space = { kind: { $case: "text", value: {} } };
  const observationSpace = dict({ words: text, pair: tuple(discrete(3), box([2], -1, 1)) });
  const session = await client.play({ simulator: { observationSpace, actionSpace: discrete(2) } });
  const number = BigInt64Array.of(2n);
  const single = await session.step({ words: ["go left"], pair: { 0: pgkeras.tensor(number, []), 1: ROW } });
  const rows = pgkeras.tensor(Float32Array.of(0, 0), [1, 2]);
  const batch = await session.step({ words: ["go left"], pair: { 0: pgkeras.tensor(number), 1: rows } });
  assert.deepEqual(seen, ["{{[1],[1,2]},go left}", "{{[1],[1,2]},go left}"]);
  assert.deepEqual([single.action.shape, batch.action.shape], [[], [1]]);
  session.close();
});

test("a timeout that is longer than timers can be set for is waited for", async () => {
  const client = await serve(answer);
  for (const timeoutMs of [2 ** 31, Number.POSITIVE_INFINITY]) {
    await client.describe(timeoutMs);
    const session = await client.play({ timeoutMs });
    assert.deepEqual((await session.step(ROW)).action.shape, []);
    session.close();
  }
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import type { Value } from "../src/generated/pgkeras/v1/tensors.js";
import * as pgkeras from "../src/index.js";
import { answer, DESCRIBED, each, ROW, serve as serveBy, SPACE, type Stream } from "./serving.js";

/** Returns a client of a server on a real socket, whose GetPolicy takes slownessMs. */
async function serve(play: (stream: Stream) => void, slownessMs = 0): Promise<pgkeras.PolicyClient> {
  return serveBy({
    getPolicy: (_call, callback) => {
      const reply = () => callback(null, DESCRIBED);
      // Replies synchronously, because grpc-js servers cancel a call at once if its deadline exceeds the range of a
      // timer.
      if (slownessMs) {
        setTimeout(reply, slownessMs);
      } else {
        reply();
      }
    },
    play,
  });
}

test("a single observation of parts becomes a batch of one", async () => {
  const seen: string[] = [];
  const client = await serve(
    each((request, stream) => {
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
    }),
  );
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

test("a timeout may be longer than the range of timers", async () => {
  const client = await serve(each(answer));
  for (const timeoutMs of [2 ** 31, Number.POSITIVE_INFINITY]) {
    await client.describe(timeoutMs);
    const session = await client.play({ timeoutMs });
    assert.deepEqual((await session.step(ROW)).action.shape, []);
    session.close();
  }
});

test("concurrent first calls have separate timeouts", async () => {
  const client = await serve(each(answer), 200);
  const [hasty, patient] = await Promise.allSettled([client.play({ timeoutMs: 100 }), client.play()]);
  assert.ok(hasty.status === "rejected" && hasty.reason instanceof pgkeras.DeadlineExceededError);
  assert.equal(patient.status, "fulfilled");
});

test("opening the first session respects the timeout", async () => {
  const client = await serve(each(answer), 300);
  await assert.rejects(client.play({ timeoutMs: 400 }), pgkeras.DeadlineExceededError); // calls GetPolicy twice
});

test("closing ends a session whose server does not respond", { timeout: 10_000 }, async () => {
  for (const what of ["session", "client"]) {
    let cut: Promise<unknown> | undefined;
    const client = await serve((stream) => {
      cut = once(stream, "cancelled");
      stream.resume();
    });
    const session = await client.play();
    await assert.rejects(session.step(ROW, undefined, undefined, undefined, { timeoutMs: 50 }));
    (what === "session" ? session : client).close();
    await cut;
    assert.ok(session.isOver);
  }
});

test("a message that waits to be sent keeps its values", async () => {
  let read = () => {};
  const seen: number[] = [];
  const client = await serve((stream) => {
    read = () =>
      each((request, stream) => {
        seen.push((request.observation?.kind?.value as { data: Uint8Array }).data[0] ?? -1);
        answer(request, stream);
      })(stream);
  });
  const session = await client.play();
  const values = new Float32Array(2 ** 19);
  const rows = pgkeras.tensor(values, [2 ** 18, 2]);
  const soon = { timeoutMs: 200 };
  const mark = (byte: number) => new Uint8Array(values.buffer).fill(byte, 0, 1);
  for (const byte of [1, 2]) {
    mark(byte);
    await assert.rejects(session.step(rows, undefined, undefined, undefined, soon), pgkeras.DeadlineExceededError);
  }
  mark(9);
  read();
  await session.step(ROW);
  assert.deepEqual(seen, [1, 2, 0]);
  session.close();
});

test("a call that is cut off says so", async () => {
  const client = await serve(each((_request, stream) => stream.emit("error", { code: status.CANCELLED })));
  const session = await client.play();
  await assert.rejects(session.step(ROW), { name: "ServerUnavailableError", message: /has cut the call off/ });
});

test("a session of a closed client is refused", async () => {
  const client = await serve(each(answer));
  await client.describe();
  client.close();
  const simulator = { observationSpace: SPACE, actionSpace: pgkeras.spaces.discrete(2) };
  await assert.rejects(client.play({ simulator }), pgkeras.ServerUnavailableError);
});

test("a token is not sent unencrypted", () => {
  const connect = (target: string, tls?: object) => new pgkeras.PolicyClient(target, { token: "secret", tls }).close();
  for (const target of ["robot.example:50051", "10.0.0.7:50051", "127.example.com:50051", "dns:///robot.example:1"]) {
    assert.throws(() => connect(target), { name: "InvalidRequestError", field: "token" });
    connect(target, {});
  }
  for (const target of ["127.0.0.1:1", "127.0.0.5:1", "localhost:1", "[::1]:1", "unix:socket"]) {
    connect(target);
  }
});

test("a tensor requires an array of its dtype", () => {
  for (const [values, dtype] of [
    [Int32Array.of(1), "float32"],
    [Uint16Array.of(1), "int16"],
    [Float64Array.of(1), "int64"],
    [Int8Array.of(1), "bool"],
  ] as [pgkeras.Tensor["values"], pgkeras.DType][]) {
    assert.throws(() => pgkeras.tensor(values, [1], dtype), { name: "InvalidRequestError", field: "tensor.dtype" });
  }
  assert.equal(pgkeras.tensor(Uint8Array.of(1), [1], "bool").dtype, "bool");
  assert.equal(pgkeras.tensor(Uint16Array.of(1), [1], "float16").dtype, "float16");
  assert.equal(pgkeras.tensor(Buffer.of(1)).dtype, "uint8");
  const clamped = Uint8ClampedArray.of(1); // the type of a canvas' pixels
  const pixels = pgkeras.tensor(clamped);
  clamped[0] = 7;
  assert.deepEqual([pixels.dtype, pixels.values], ["uint8", Uint8Array.of(7)]);
});

test("a shape consists of non-negative integers that match the values", () => {
  const values = new Float32Array(4);
  for (const shape of [[-2, -2], [2.5, 1.6], [Number.NaN], [5]]) {
    assert.throws(() => pgkeras.tensor(values, shape), { name: "InvalidRequestError", field: "tensor.shape" });
  }
  assert.deepEqual(pgkeras.tensor(new Float32Array(0), [3, 0]).shape, [3, 0]);
});

test("non-integers are refused where integers are required", async () => {
  const invalid = (field: string) => ({ name: "InvalidRequestError", field });
  for (const number of [1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
    assert.throws(() => new pgkeras.PolicyClient("127.0.0.1:1", { version: number }), invalid("policy.version"));
    assert.throws(() => pgkeras.spaces.discrete(number), invalid("space.n"));
    assert.throws(() => pgkeras.spaces.box([number], -1, 1), invalid("space.shape"));
    const simulator = { observationSpace: SPACE, actionSpace: pgkeras.spaces.discrete(2), environments: number };
    const client = await serve(each(answer));
    await assert.rejects(client.play({ simulator }), invalid("simulator.environments"));
  }
});

test("a token is printable ASCII", () => {
  const connect = (token: string) => new pgkeras.PolicyClient("127.0.0.1:1", { token }).close();
  for (const token of ["", "two\nlines", "sécret", " before", "after ", "\t", "\x7f"]) {
    assert.throws(
      () => connect(token),
      (error) => {
        assert.ok(error instanceof pgkeras.InvalidRequestError && error.field === "token");
        assert.ok(!token.trim() || !error.message.includes(token.trim()), "the message contains the token");
        return true;
      },
    );
  }
  connect("two words~!");
});

test("a step during another step is refused, and the other one completes", async () => {
  const waiting: (() => void)[] = [];
  const client = await serve(each((request, stream) => waiting.push(() => answer(request, stream))));
  const session = await client.play();
  const first = session.step(ROW);
  for (let i = 0; i < 2; i++) {
    await assert.rejects(session.step(ROW), { name: "InvalidRequestError", field: "step" });
  }
  while (waiting.length === 0) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  waiting.pop()?.();
  assert.deepEqual((await first).action.values, BigInt64Array.of(1n));
  assert.ok(!session.isOver);
  session.close();
});

test("the parts of a Dict keep the order of their pairs", () => {
  const { dict, discrete } = pgkeras.spaces;
  const keys = (space: pgkeras.Space) => space.kind?.$case === "dict" && space.kind.value.spaces?.map(({ key }) => key);
  const pairs = [
    ["b", discrete(2)],
    ["2", discrete(2)],
    ["1", discrete(2)],
  ] as const;
  assert.deepEqual(keys(dict(pairs)), ["b", "2", "1"]);
  assert.deepEqual(keys(dict({ b: discrete(2), a: discrete(2) })), ["b", "a"]);
});

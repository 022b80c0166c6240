import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, connect as dial, type Socket } from "node:net";
import { after, test } from "node:test";
import { Metadata, status } from "@grpc/grpc-js";
import { RetryInfo } from "../src/generated/google/rpc/error_details.js";
import { Status } from "../src/generated/google/rpc/status.js";
import type { PlayRequest } from "../src/generated/pgkeras/v1/service.js";
import { connect, DESCRIBED, each, listen, ROW, serve } from "./serving.js";

const YEAR_MS = 365 * 24 * 3600 * 1000;
const LARGEST = 2n ** 63n - 1n;

interface Delay {
  readonly seconds: bigint;
  readonly nanos: number;
}

function details(delay: Delay): Status["details"] {
  const value = RetryInfo.encode({ retryDelay: delay }).finish();
  return [{ typeUrl: "type.googleapis.com/google.rpc.RetryInfo", value }];
}

function failure(delay?: Delay): { code: status; details: string; metadata: Metadata } {
  const metadata = new Metadata();
  const found = { code: status.UNAVAILABLE, message: "draining", details: delay && details(delay) };
  metadata.set("grpc-status-details-bin", Buffer.from(Status.encode(found).finish()));
  return { code: status.UNAVAILABLE, details: "draining", metadata };
}

/** Returns a client that has received one response from a server whose further calls fail, and its number of calls. */
async function failingClient(fail: (call: number) => ReturnType<typeof failure> | undefined) {
  const count = { calls: 0 };
  const client = await serve({
    getPolicy: (_call, callback) => {
      const call = count.calls++;
      const failed = fail(call);
      if (call === 0) {
        callback(null, DESCRIBED);
      } else if (failed !== undefined) {
        callback(failed);
      }
    },
  });
  await client.describe();
  return { client, count };
}

for (const [delay, retryAfterMs] of [
  [{ seconds: 0n, nanos: 0 }, undefined],
  [{ seconds: -1n, nanos: 0 }, undefined],
  [{ seconds: -LARGEST, nanos: -1 }, undefined],
  [{ seconds: 10n ** 10n, nanos: 0 }, YEAR_MS],
  [{ seconds: LARGEST, nanos: 2 ** 31 - 1 }, YEAR_MS],
] as [Delay, number | undefined][]) {
  test(`a retry delay of ${delay.seconds} s`, async () => {
    const { client, count } = await failingClient(() => failure(delay));
    await assert.rejects(client.describe(1000), { name: "ServerUnavailableError", message: "draining", retryAfterMs });
    // With pauses of at least 50, 100, 200, 400 and 500 ms, six calls take longer than a second.
    const made = count.calls - 1;
    assert.ok(made >= 1 && made <= (retryAfterMs === undefined ? 5 : 1), `${made} calls in a second`);
    const full = await serve({
      play: each((request: PlayRequest, stream) => {
        const value = { code: status.RESOURCE_EXHAUSTED, message: "full", details: details(delay) };
        stream.write({ id: request.id, result: { $case: "error", value } });
      }),
    });
    const session = await full.play();
    await assert.rejects(session.step(ROW), { name: "ServerBusyError", retryAfterMs: retryAfterMs ?? 1000 });
    session.close();
  });
}

test("a deadline that passes during retries returns the last error", async () => {
  const { client } = await failingClient((call) => (call < 3 ? failure({ seconds: 0n, nanos: 0 }) : undefined));
  await assert.rejects(client.describe(1000), { name: "ServerUnavailableError", message: "draining" });
});

test("a lost connection is replaced", async () => {
  const port = await listen({});
  const lost = new Set<Socket>();
  const open: Socket[] = [];
  const proxy = createServer((near) => {
    const far = dial(port, "127.0.0.1");
    open.push(near, far);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on("data", (data) => void (lost.has(near) || to.write(data)));
      from.on("close", () => void (lost.has(near) || to.destroy()));
      from.on("error", () => undefined); // "close" follows
    }
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  after(() => {
    proxy.close();
    for (const socket of open) {
      socket.destroy();
    }
  });
  const address = proxy.address();
  assert.ok(typeof address === "object" && address !== null);
  const client = connect(address.port);
  await client.describe();
  for (const socket of open) {
    lost.add(socket);
  }
  await client.describe(120_000); // a ping is sent after 20 s
});

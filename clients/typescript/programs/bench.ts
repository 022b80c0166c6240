/** Measures sessions of the client and bare gRPC streams. conformance/README.md describes its commands. */

import { createInterface } from "node:readline";
import { credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import {
  type PlayRequest,
  type PlayResponse,
  PolicyServiceClient,
  PolicyServiceService,
} from "../src/generated/pgkeras/v1/service.js";
import { DataType } from "../src/generated/pgkeras/v1/tensors.js";
import { PolicyClient, tensor } from "../src/index.js";
import { encodeObservation, encodeTensor } from "../src/tensor.js";

async function serve(): Promise<object> {
  const server = new Server();
  server.addService(PolicyServiceService, {
    play: (call: import("@grpc/grpc-js").ServerDuplexStream<PlayRequest, PlayResponse>) => {
      call.on("data", (request: PlayRequest) => {
        const kind = request.observation?.kind;
        const rows = kind?.$case === "tensor" ? (kind.value.shape?.[0] ?? 0n) : 0n;
        const action = { dtype: DataType.INT64, shape: [rows], data: new Uint8Array(8 * Number(rows)) };
        call.write({ id: request.id, result: { $case: "act", value: { action } } });
      });
      call.on("end", () => call.end());
    },
  } as never);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { port };
}

function outcome(environments: number) {
  return {
    observation: tensor(new Float32Array(4 * environments), [environments, 4]),
    reward: new Float32Array(environments).fill(1),
    ends: new Uint8Array(environments),
  };
}

async function play(target: string, environments: number, seconds: number): Promise<object> {
  const client = new PolicyClient(target, { policy: "cartpole-v1" });
  const session = await client.play({ mode: "greedy" });
  const { observation, reward, ends } = outcome(environments);
  await session.step(observation);
  const report = await measure(seconds, () => session.step(observation, reward, ends, ends));
  session.close();
  client.close();
  return report;
}

async function echo(target: string, environments: number, seconds: number): Promise<object> {
  const stub = new PolicyServiceClient(target, credentials.createInsecure());
  const stream = stub.play({ deadline: Date.now() + (seconds + 30) * 1000 });
  const { observation, reward, ends } = outcome(environments);
  const flags = encodeTensor({ dtype: "bool", shape: [environments], values: ends });
  const request: PlayRequest = {
    id: 1n,
    observation: encodeObservation(observation),
    reward: encodeTensor(tensor(reward)),
    terminated: flags,
    truncated: flags,
  };
  let resolve: () => void;
  let reject: (error: Error) => void;
  stream.on("data", () => resolve());
  stream.on("error", (error) => reject(error));
  const report = await measure(seconds, () => {
    return new Promise<void>((accept, refuse) => {
      resolve = accept;
      reject = refuse;
      stream.write(request);
    });
  });
  stream.end();
  stub.close();
  return report;
}

async function measure(seconds: number, step: () => Promise<unknown>): Promise<object> {
  const latencies: number[] = [];
  const begin = performance.now();
  while (performance.now() - begin < seconds * 1000) {
    const start = performance.now();
    await step();
    latencies.push((performance.now() - start) * 1000);
  }
  const elapsed = (performance.now() - begin) / 1000;
  latencies.sort((a, b) => a - b);
  const at = (share: number) => latencies[Math.floor(share * (latencies.length - 1))];
  return { messages: latencies.length, seconds: elapsed, p50_us: at(0.5), p99_us: at(0.99) };
}

async function execute(command: string): Promise<object> {
  const [verb, target = "", environments, seconds] = command.trim().split(/\s+/);
  if (verb === "serve") {
    return serve();
  }
  if ((verb === "play" || verb === "echo") && seconds !== undefined) {
    return (verb === "play" ? play : echo)(target, Number(environments), Number(seconds));
  }
  throw new Error(`unknown command ${command}`);
}

for await (const command of createInterface(process.stdin)) {
  console.log(JSON.stringify(await execute(command)));
}
process.exit(); // a listening server would keep the process alive

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type ClientOptions,
  DeadlineExceededError,
  InvalidRequestError,
  PolicyClient,
  PolicyServiceError,
  ServerBusyError,
  ServerUnavailableError,
  UnauthenticatedError,
} from "../src/index.js";
import type { Program } from "./conformance.js";
import { check, failure, ROW, SHORT_ROW } from "./judging.js";

async function badShape({ client }: Program): Promise<void> {
  const error = await failure([InvalidRequestError], client.act(SHORT_ROW));
  check(error.field === "observation" && error.expected.includes("[4]"), error.message);
}

async function deadline(program: Program): Promise<void> {
  const client = new PolicyClient(program.flag("slow-target"), { policy: "cartpole-v1", timeoutMs: 20_000 });
  const begin = performance.now();
  await failure([DeadlineExceededError], client.act(ROW, { timeoutMs: 300 }));
  check(performance.now() - begin < 900, `it came after ${performance.now() - begin} ms`);
  await client.act(ROW);
  const session = await client.play();
  await failure([DeadlineExceededError], session.step(ROW, undefined, undefined, undefined, { timeoutMs: 300 }));
  session.close();
  client.close();
}

async function nobody(program: Program): Promise<void> {
  const target = program.flag("dead-target");
  const client = new PolicyClient(target, { timeoutMs: 2000 });
  const begin = performance.now();
  const error = await failure([ServerUnavailableError, DeadlineExceededError], client.act(ROW));
  check(performance.now() - begin < 4000, `it came after ${performance.now() - begin} ms`);
  check(error.message.includes(target), `message ${error.message}`);
  client.close();
}

async function busy(program: Program): Promise<void> {
  const client = new PolicyClient(program.flag("busy-target"), { policy: "cartpole-v1" });
  const first = await client.play();
  await first.step(ROW);
  const second = await client.play();
  let error = await failure([ServerBusyError], second.step(ROW));
  check(second.isOver && !first.isOver, "the second session is not over, or the first one is");
  check(error.retryAfterMs > 0, `retry after ${error.retryAfterMs} ms`);
  first.close();
  for (let tries = 0; ; tries++) {
    await sleep(error.retryAfterMs);
    try {
      await stepOnce(client);
      break;
    } catch (again) {
      check(again instanceof ServerBusyError && tries < 9, `${again}`);
      error = again;
    }
  }
  client.close();
}

async function tlsAndToken(program: Program): Promise<void> {
  const target = program.flag("tls-target");
  const token = program.flag("token");
  const tls = { ca: readFileSync(program.flag("ca")) };
  const ask = async (options: ClientOptions) => {
    const client = new PolicyClient(target, { policy: "cartpole-v1", ...options });
    try {
      await client.act(ROW);
      await stepOnce(client);
    } finally {
      client.close();
    }
  };
  await ask({ tls, token });
  await failure([UnauthenticatedError], ask({ tls }));
  await failure([PolicyServiceError], ask({ token }));
}

async function stepOnce(client: PolicyClient): Promise<void> {
  const session = await client.play();
  try {
    await session.step(ROW);
  } finally {
    session.close();
  }
}

export const faults = { badShape, deadline, nobody, busy, tlsAndToken };

import {
  type Actions,
  InvalidRequestError,
  type PlaySession,
  ServerUnavailableError,
  type Tensor,
  tensor,
} from "../src/index.js";
import type { Program } from "./conformance.js";
import { check, failure, near, ROW, SHORT_ROW } from "./judging.js";

async function seeded({ client, vectors }: Program): Promise<void> {
  for (const { name, seed, steps } of vectors.sessions) {
    const session = await client.play({ seed: BigInt(seed) });
    for (const [i, { observation, reward, terminated, truncated, action }] of steps.entries()) {
      const row = tensor(Float32Array.from(observation.values), observation.shape);
      const answer = await session.step(row, reward, terminated, truncated);
      check(`${answer.action.values}` === `${action}`, `${name}: step ${i}: ${answer.action.values}`);
    }
    session.close();
  }
}

async function goesOn({ client }: Program): Promise<void> {
  const session = await client.play({ mode: "greedy" });
  await session.step(ROW);
  const error = await failure([InvalidRequestError], session.step(SHORT_ROW, 1, false, false));
  check(error.field === "observation", `field ${error.field}`);
  check(!session.isOver, "the session is over");
  const answer = await session.step(ROW, 1, false, false);
  check(answer.action.shape.length === 0, `an action of shape [${answer.action.shape}]`);
  session.close();
}

async function masks(program: Program): Promise<void> {
  const client = await program.fixture("masked");
  const session = await client.play({ seed: 3, outputs: ["distribution"] });
  const observation = tensor(new Float32Array(128), [32, 4]);
  const ends = new Uint8Array(32);
  let stepped = false;
  await masked((mask) => client.act(observation, { seed: 3, mask }));
  await masked((mask) => {
    const outcome = stepped ? ([new Float32Array(32), ends, ends] as const) : ([] as const);
    stepped = true;
    return session.step(observation, outcome[0], outcome[1], outcome[2], { mask });
  });
  session.close();
  client.close();
}

async function masked(ask: (mask: Tensor) => Promise<Actions>): Promise<void> {
  const allow = (allowed: (row: number, action: number) => boolean) =>
    tensor(
      Uint8Array.from({ length: 160 }, (_, i) => Number(allowed(Math.floor(i / 5), i % 5))),
      [32, 5],
      "bool",
    );
  const only = await ask(allow((row, action) => action === row % 5));
  for (const [row, action] of only.action.values.entries()) {
    check(Number(action) === row % 5, `row ${row}: action ${action}`);
  }
  const odd = await ask(allow((_, action) => action % 2 === 1));
  check(
    Array.from(odd.action.values as BigInt64Array).every((action) => action % 2n === 1n),
    `actions ${odd.action.values}`,
  );
  const probabilities = odd.distribution?.parameters.probabilities?.values as Float32Array;
  check(
    probabilities.length === 160 && probabilities.every((probability, i) => (i % 5) % 2 === 1 || probability < 1e-6),
    `probabilities ${probabilities}`,
  );
  const error = await failure([InvalidRequestError], ask(allow(() => false)));
  check(error.field === "action_mask", `field ${error.field}`);
}

async function structured(program: Program): Promise<void> {
  const client = await program.fixture("structured");
  const zeros = tensor(new Float32Array(128), [32, 4]);
  const allowed = Uint8Array.from({ length: 224 }, (_, i) => {
    const [row, column] = [Math.floor(i / 7), i % 7];
    return Number(column < 4 ? column === row % 4 : column - 4 === row % 3);
  });
  const mask = tensor(allowed, [32, 7], "bool");
  const outputs = ["distribution", "greedyAction"] as const;
  inParts(await client.act(zeros, { seed: 3, mask, outputs }));
  const session = await client.play({ seed: 3, outputs });
  inParts(await session.step(zeros, undefined, undefined, undefined, { mask }));
  session.close();
  const alone = await client.play();
  const { parts } = await alone.step(tensor(new Float32Array(4)));
  const shapes = [parts?.aim?.shape, parts?.move?.shape];
  check(JSON.stringify(shapes) === "[[2],[]]", `shapes ${JSON.stringify(shapes)} of a single action`);
  alone.close();
  client.close();
}

function inParts({ parts, greedyParts, distribution }: Actions): void {
  for (const found of [parts, greedyParts]) {
    const aim = Array.from(found?.aim?.values as Float32Array);
    check(aim.length === 64 && aim.every((x) => Math.abs(x) <= 1), `aim ${aim}`);
    const bits = Array.from(found?.["hands.0"]?.values as Int8Array);
    check(bits.length === 96 && bits.every((bit) => bit === 0 || bit === 1), `hands.0 ${bits}`);
    near(
      found?.["hands.1"]?.values,
      Array.from({ length: 32 }, (_, i) => i % 4),
    );
    near(
      found?.move?.values,
      Array.from({ length: 32 }, (_, i) => i % 3),
    );
  }
  const names = Object.keys(distribution?.parameters ?? {}).sort();
  const expected = "aim.mean,aim.stddev,hands.0.probabilities,hands.1.probabilities,move.probabilities";
  check(distribution?.kind === "structured" && names.join() === expected, `${distribution?.kind}: ${names}`);
  const probabilities = Array.from({ length: 96 }, (_, i) => Number(i % 3 === Math.floor(i / 3) % 3));
  near(distribution?.parameters["move.probabilities"]?.values, probabilities);
}

async function memory(program: Program): Promise<void> {
  const client = await program.fixture("memory");
  const ones = tensor(Float32Array.of(1, 1, 1, 1));
  const first = await client.act(ones, { mode: "greedy" });
  const second = await client.act(ones, { mode: "greedy", state: first.state });
  const third = await client.act(ones, { mode: "greedy" });
  const [a, b, c] = [first, second, third].map(
    (answer) => answer.distribution?.parameters.probabilities?.values as Float32Array,
  );
  check(a?.some((value, i) => Math.abs(value - (b?.[i] ?? 0)) > 1e-4) ?? false, `the state changes nothing: ${a}`);
  near(c, a);
  const session = await client.play({ mode: "greedy", outputs: ["distribution"] });
  for (const [i, expected] of [a, b, c].entries()) {
    const answer =
      i === 0 ? await session.step(ones) : await session.step(ones, 1, false, false, { episodeStart: i === 2 });
    near(answer.distribution?.parameters.probabilities?.values, expected);
  }
  session.close();
  client.close();
}

async function restart(program: Program): Promise<void> {
  const { client } = program;
  const before = await client.play({ mode: "greedy" });
  await tenSteps(before, true);
  console.log("WAIT restart");
  await program.readLine();
  await failure([ServerUnavailableError], tenSteps(before, false));
  before.close();
  await client.act(ROW, { timeoutMs: 30_000 });
  const after = await client.play({ mode: "greedy" });
  await tenSteps(after, true);
  after.close();
}

async function tenSteps(session: PlaySession, areFirst: boolean): Promise<void> {
  for (let i = 0; i < 10; i++) {
    await (areFirst && i === 0 ? session.step(ROW) : session.step(ROW, 1, false, false));
  }
}

export const sessions = { seeded, goesOn, masks, memory, structured, restart };

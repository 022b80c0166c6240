import { type Actions, InvalidRequestError, type Observation, tensor } from "../src/index.js";
import type { Program } from "./conformance.js";
import { check, failure, near } from "./judging.js";

const ROWS = 16;

export async function structuredObservations(program: Program): Promise<void> {
  const client = await program.fixture("parts");
  const { seed, action, probabilities } = program.vectors.structured_observations;
  const options = { seed: BigInt(seed), outputs: ["distribution"] } as const;
  const judge = (answer: Actions, row: number, batch: readonly number[] = []) => {
    const end = row + (batch[0] ?? 1);
    check(`${answer.action.shape}` === `${batch}`, `row ${row}: actions of shape [${answer.action.shape}]`);
    check(`${answer.action.values}` === `${action.slice(row, end)}`, `row ${row}: actions ${answer.action.values}`);
    near(answer.distribution?.parameters.probabilities?.values, probabilities.slice(row, end).flat());
  };
  const act = (observation: Observation) => client.act(observation, options);
  judge(await act(parts(0, [ROWS])), 0, [ROWS]);
  await wrongParts(act, 0, [ROWS]);
  const session = await client.play(options);
  judge(await session.step(parts(0, [ROWS])), 0, [ROWS]);
  session.close();
  const alone = await client.play(options);
  judge(await alone.step(parts(0)), 0);
  const step = (observation: Observation) => alone.step(observation, 1, false, false);
  await wrongParts(step, 1);
  check(!alone.isOver, "the session is over");
  for (let row = 1; row < ROWS; row++) {
    judge(await step(parts(row)), row);
  }
  alone.close();
  client.close();
}

/** Checks that observations with a missing part and with a part of the wrong shape fail with an error that names it. */
async function wrongParts(
  ask: (observation: Observation) => Promise<Actions>,
  row: number,
  batch: readonly number[] = [],
): Promise<void> {
  const right = parts(row, batch);
  const missing = await failure([InvalidRequestError], ask({ ...right, hands: { 0: right.hands[0] } }));
  check(missing.field === "observation.hands.1", `field ${missing.field}`);
  const position = tensor(new Float32Array(3 * (batch[0] ?? 1)), [...batch, 3]);
  const { field, expected } = await failure([InvalidRequestError], ask({ ...right, position }));
  check(field === "observation.position" && expected.includes("[4]"), `${field}: ${expected}`);
}

/** Returns the scenario's observations from a row on: a batch of the given length, or a single observation. */
function parts(row: number, batch: readonly number[] = []) {
  const places = (size: number) => Array.from({ length: size * (batch[0] ?? 1) }, (_, i) => row * size + i);
  return {
    camera: tensor(
      Uint8Array.from(places(48), (i) => i % 251),
      [...batch, 4, 4, 3],
    ),
    hands: {
      0: tensor(
        Int8Array.from(places(3), (i) => i % 2),
        [...batch, 3],
      ),
      1: tensor(
        BigInt64Array.from(places(1), (i) => BigInt(i % 4)),
        batch,
      ),
    },
    position: tensor(
      Float32Array.from(places(4), (i) => ((i % 9) - 4) / 4),
      [...batch, 4],
    ),
  };
}

/** The conformance program of the TypeScript client. conformance/README.md specifies it. */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { DistributionKind } from "../src/generated/pgkeras/v1/policy.js";
import { DataType } from "../src/generated/pgkeras/v1/tensors.js";
import { type Actions, PolicyClient, PolicyNotFoundError, tensor } from "../src/index.js";
import { faults } from "./faults.js";
import { check, failure, near, ROW, Skip } from "./judging.js";
import { structuredObservations } from "./observations.js";
import { sessions } from "./sessions.js";

export interface Program {
  readonly options: Readonly<Record<string, string | undefined>>;
  readonly vectors: any;
  readonly client: PolicyClient;
  flag(name: string): string;
  /** Returns a client of a fixture policy. Throws Skip if the server does not have it. */
  fixture(policy: string): Promise<PolicyClient>;
  readLine(): Promise<void>;
}

export type Scenario = (program: Program) => Promise<void>;

async function describe({ client, vectors }: Program): Promise<void> {
  const { policy, limits } = await client.describe();
  const observed = policy.spec?.observationSpace?.kind;
  const done = policy.spec?.actionSpace?.kind;
  check(observed?.$case === "box" && done?.$case === "discrete", `kinds ${observed?.$case} and ${done?.$case}`);
  const expected = vectors.policy;
  const got = {
    name: policy.name,
    version: Number(policy.version),
    spec_hash: policy.specHash,
    observation_shape: observed.value.shape?.map(Number),
    observation_dtype: DataType[observed.value.dtype ?? 0]?.toLowerCase(),
    actions: Number(done.value.n),
    distribution: DistributionKind[policy.spec?.distribution ?? 0]?.toLowerCase(),
  };
  check(JSON.stringify(got) === JSON.stringify(expected), `${JSON.stringify(got)}, not ${JSON.stringify(expected)}`);
  for (const limit of ["maxBatchSize", "maxReceiveMessageBytes", "maxSendMessageBytes"] as const) {
    check((limits?.[limit] ?? 0n) > 0n, `${limit} is ${limits?.[limit]}`);
  }
  const names = (await client.policies()).map((other) => other.policy.name);
  check(names.includes(expected.name), `it is not among ${names}`);
}

async function single({ client }: Program): Promise<void> {
  const answer = await client.act(ROW, { mode: "greedy" });
  check(answer.action.shape.length === 0, `an action of shape [${answer.action.shape}]`);
  check(answer.logProb?.length === 1 && answer.entropy?.length === 1, "log_prob and entropy are not scalars");
  check(`${answer.distribution?.parameters.probabilities?.shape}` === "2", "probabilities of another shape");
  sumToOne(answer);
  check(answer.policy === "cartpole-v1" && answer.version === 1, `${answer.policy} ${answer.version}`);
}

async function batch({ client }: Program): Promise<void> {
  const rows = Float32Array.from({ length: 256 }, (_, i) => (i - 128) / 256);
  const answer = await client.act(tensor(rows, [64, 4]), { mode: "greedy" });
  check(`${answer.action.shape}` === "64" && answer.logProb?.length === 64, `shape [${answer.action.shape}]`);
  check(`${answer.distribution?.parameters.probabilities?.shape}` === "64,2", "probabilities of another shape");
  for (const i of [0, 31, 63]) {
    const alone = await client.act(tensor(rows.subarray(4 * i, 4 * i + 4)), { mode: "greedy" });
    check(alone.action.values[0] === answer.action.values[i], `row ${i} differs alone`);
    near(alone.logProb, answer.logProb?.subarray(i, i + 1));
  }
}

async function seededCalls({ client, vectors }: Program): Promise<void> {
  for (const { name, mode, seed, observation, ...expected } of vectors.calls) {
    for (let again = 0; again < 2; again++) {
      const answer = await client.act(tensor(Float32Array.from(observation.values), observation.shape), {
        mode,
        seed: seed === null ? undefined : BigInt(seed),
      });
      check(`${answer.action.values}` === `${[expected.action].flat()}`, `${name}: actions ${answer.action.values}`);
      near(answer.logProb, [expected.log_prob].flat());
      near(answer.entropy, [expected.entropy].flat());
      near(answer.distribution?.parameters.probabilities?.values, expected.probabilities.flat());
    }
  }
}

async function image(program: Program): Promise<void> {
  const client = await program.fixture("image");
  const pixels = Uint8Array.from({ length: 8 * 2 ** 20 }, (_, i) => i % 251);
  const answer = await client.act(tensor(pixels, [1024, 2048, 4]));
  check([0n, 1n, 2n].includes(answer.action.values[0] as bigint), `action ${answer.action.values[0]}`);
  sumToOne(answer);
  client.close();
}

async function unknownPolicy({ options }: Program): Promise<void> {
  const client = new PolicyClient(options.target ?? "", { policy: "no-such-policy" });
  const error = await failure([PolicyNotFoundError], client.act(ROW));
  check(error.message.includes("cartpole-v1"), `message ${error.message}`);
  client.close();
}

function sumToOne(answer: Actions): void {
  const probabilities = answer.distribution?.parameters.probabilities?.values as Float32Array;
  near([probabilities.reduce((sum, value) => sum + value, 0)], [1]);
}

const SCENARIOS: Record<string, Scenario> = {
  describe,
  single,
  batch,
  seeded_calls: seededCalls,
  seeded_sessions: sessions.seeded,
  session_goes_on: sessions.goesOn,
  unknown_policy: unknownPolicy,
  bad_shape: faults.badShape,
  image,
  masks: sessions.masks,
  memory: sessions.memory,
  structured: sessions.structured,
  structured_observations: structuredObservations,
  deadline: faults.deadline,
  nobody: faults.nobody,
  busy: faults.busy,
  tls_and_token: faults.tlsAndToken,
  restart: sessions.restart,
};

const FLAGS = ["target", "vectors", "slow-target", "dead-target", "busy-target", "tls-target", "ca", "token", "only"];
const { values } = parseArgs({
  strict: false,
  options: Object.fromEntries(FLAGS.map((flag) => [flag, { type: "string" as const }])),
});
const options = values as Record<string, string | undefined>;
const input = createInterface(process.stdin);
const program: Program = {
  options,
  vectors: JSON.parse(readFileSync(options.vectors ?? "", "utf8")),
  client: new PolicyClient(options.target ?? "", { policy: "cartpole-v1" }),
  flag: (name) => {
    const value = options[name];
    if (value === undefined) {
      throw new Skip(`no --${name}`);
    }
    return value;
  },
  fixture: async (policy) => {
    const client = new PolicyClient(options.target ?? "", { policy });
    try {
      await client.describe();
    } catch (error) {
      client.close();
      throw error instanceof PolicyNotFoundError ? new Skip(`the server has no policy ${policy}`) : error;
    }
    return client;
  },
  readLine: async () => {
    await input.question("");
  },
};
for (const [name, scenario] of Object.entries(SCENARIOS)) {
  if (options.only !== undefined && options.only !== name) {
    continue;
  }
  try {
    await scenario(program);
    console.log(`PASS ${name}`);
  } catch (error) {
    if (error instanceof Skip) {
      console.log(`SKIP ${name}: ${error.message}`);
    } else {
      process.exitCode = 1;
      console.log(`FAIL ${name}: ${error}`.replaceAll("\n", " "));
    }
  }
}
// A session that a failed scenario has left open would keep Node alive.
process.exit();

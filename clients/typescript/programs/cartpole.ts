/**
 * Simulates CartPole-v1 and requests its actions from a policy server, through a session.
 *
 * Equations and constants are from gymnasium's envs/classic_control/cartpole.py, after Barto, Sutton & Anderson,
 * "Neuronlike adaptive elements that can solve difficult learning control problems" (1983).
 */

import { setTimeout } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Actions, type PlaySession, PolicyClient, ServerUnavailableError, spaces, tensor } from "../src/index.js";

const GRAVITY = 9.8;
const MASS_CART = 1.0;
const MASS_POLE = 0.1;
const TOTAL_MASS = MASS_CART + MASS_POLE;
const LENGTH = 0.5; // half the length of the pole
const FORCE = 10.0;
const TAU = 0.02; // seconds per step
const MAX_X = 2.4;
const MAX_ANGLE = (12 * 2 * Math.PI) / 360;
const MAX_STEPS = 500;

/** Many carts. A cart whose episode has ended is reset immediately. */
class CartPoles {
  readonly observation: Float32Array;
  readonly reward: Float32Array;
  readonly terminated: Uint8Array;
  readonly truncated: Uint8Array;
  readonly episodeStart: Uint8Array;
  private readonly states: Float64Array;
  private readonly ages: Uint32Array;

  constructor(readonly environments: number) {
    this.states = new Float64Array(4 * environments);
    this.ages = new Uint32Array(environments);
    this.observation = new Float32Array(4 * environments);
    this.reward = new Float32Array(environments).fill(1);
    this.terminated = new Uint8Array(environments);
    this.truncated = new Uint8Array(environments);
    this.episodeStart = new Uint8Array(environments);
    for (let i = 0; i < environments; i++) {
      this.reset(i);
    }
    this.observation.set(this.states);
  }

  /** Steps all carts. A cart that is held repeats the first observation of its episode. */
  step(actions: BigInt64Array, hold?: Uint8Array): void {
    for (let i = 0; i < this.environments; i++) {
      if (hold?.[i]) {
        this.terminated[i] = 0;
        this.truncated[i] = 0;
        this.episodeStart[i] = 1;
        continue;
      }
      this.stepOne(i, actions[i] === 1n ? FORCE : -FORCE);
    }
    this.observation.set(this.states);
  }

  private stepOne(i: number, force: number): void {
    const state = this.states.subarray(4 * i, 4 * i + 4);
    const [x = 0, speed = 0, angle = 0, angularSpeed = 0] = state;
    const cosine = Math.cos(angle);
    const sine = Math.sin(angle);
    const push = (force + MASS_POLE * LENGTH * angularSpeed ** 2 * sine) / TOTAL_MASS;
    const angularAcceleration =
      (GRAVITY * sine - cosine * push) / (LENGTH * (4 / 3 - (MASS_POLE * cosine ** 2) / TOTAL_MASS));
    const acceleration = push - (MASS_POLE * LENGTH * angularAcceleration * cosine) / TOTAL_MASS;
    state[0] = x + TAU * speed;
    state[1] = speed + TAU * acceleration;
    state[2] = angle + TAU * angularSpeed;
    state[3] = angularSpeed + TAU * angularAcceleration;
    const age = (this.ages[i] ?? 0) + 1;
    const fallen = Math.abs(state[0]) > MAX_X || Math.abs(state[2]) > MAX_ANGLE;
    this.ages[i] = age;
    this.terminated[i] = Number(fallen);
    this.truncated[i] = Number(!fallen && age >= MAX_STEPS);
    this.episodeStart[i] = Number(fallen || age >= MAX_STEPS);
    if (this.episodeStart[i]) {
      this.reset(i);
    }
  }

  private reset(i: number): void {
    for (let j = 0; j < 4; j++) {
      this.states[4 * i + j] = Math.random() * 0.1 - 0.05;
    }
    this.ages[i] = 0;
  }
}

async function step(session: PlaySession, carts: CartPoles, isFirst: boolean): Promise<Actions> {
  const observation = tensor(carts.observation, [carts.environments, 4]);
  const { reward, terminated, truncated, episodeStart } = carts;
  return isFirst
    ? session.step(observation)
    : // The observation of a cart whose episode has ended is the first of its next episode.
      session.step(observation, reward, terminated, truncated, { episodeStart });
}

async function requestActions(session: PlaySession, carts: CartPoles, isFirst: boolean): Promise<BigInt64Array> {
  return (await step(session, carts, isFirst)).action.values as BigInt64Array;
}

async function play(session: PlaySession, episodes: number): Promise<object> {
  const carts = new CartPoles(1);
  let steps = 0;
  for (let ended = 0; ended < episodes; ended += carts.episodeStart[0] ?? 0) {
    carts.step(await requestActions(session, carts, steps === 0));
    steps++;
  }
  return { episodes, mean_return: steps / episodes, steps };
}

async function measure(session: PlaySession, environments: number, steps: number): Promise<object> {
  const carts = new CartPoles(environments);
  let actions = await requestActions(session, carts, true);
  const begin = performance.now();
  for (let i = 0; i < steps; i++) {
    carts.step(actions);
    actions = await requestActions(session, carts, false);
  }
  const seconds = (performance.now() - begin) / 1000;
  return { environments, steps, environment_steps_per_second: (environments * steps) / seconds };
}

/** Plays until no run has responded for patienceMs. A run that stops may be started again. */
async function teach(client: PolicyClient, environments: number, patienceMs: number): Promise<object> {
  const bounds = [2 * MAX_X, Number.POSITIVE_INFINITY, 2 * MAX_ANGLE, Number.POSITIVE_INFINITY];
  const simulator = {
    observationSpace: spaces.box(
      [4],
      bounds.map((bound) => -bound),
      bounds,
    ),
    actionSpace: spaces.discrete(2),
    environments,
    name: "CartPole in TypeScript",
  };
  let messages = 0;
  for (let lastResponse = performance.now(); ;) {
    const before = messages;
    const session = await client.play({ simulator });
    const carts = new CartPoles(environments);
    try {
      for (let isFirst = true; ; isFirst = false) {
        const { action, hold } = await step(session, carts, isFirst);
        carts.step(action.values as BigInt64Array, hold);
        messages++;
      }
    } catch (error) {
      if (!(error instanceof ServerUnavailableError)) {
        throw error;
      }
      if (messages > before) {
        lastResponse = performance.now(); // also while the policy is being updated
      }
      if (performance.now() - lastResponse >= patienceMs) {
        if (messages === 0) {
          throw error;
        }
        return { environments, messages };
      }
      await setTimeout(500);
    }
  }
}

const { values: options } = parseArgs({
  options: {
    target: { type: "string", default: "127.0.0.1:50051" },
    episodes: { type: "string", default: "20" },
    environments: { type: "string" },
    steps: { type: "string", default: "1000" },
    policy: { type: "string", default: "cartpole-v1" },
    teach: { type: "string" },
    patience: { type: "string", default: "10" },
  },
});
const client = new PolicyClient(options.target, { policy: options.teach ? undefined : options.policy });
if (options.teach) {
  console.log(JSON.stringify(await teach(client, Number(options.teach), 1000 * Number(options.patience))));
} else {
  const session = await client.play({ mode: "greedy" });
  const report = options.environments
    ? await measure(session, Number(options.environments), Number(options.steps))
    : await play(session, Number(options.episodes));
  console.log(JSON.stringify(report));
  session.close();
}
client.close();

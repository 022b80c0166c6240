import { after } from "node:test";
import { type sendUnaryData, Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import {
  type ActResponse,
  type GetPolicyResponse,
  type PlayRequest,
  type PlayResponse,
  PolicyServiceService,
} from "../src/generated/pgkeras/v1/service.js";
import * as pgkeras from "../src/index.js";
import { encodeTensor } from "../src/tensor.js";

export type Stream = ServerDuplexStream<PlayRequest, PlayResponse>;

/** Handlers of a test server. */
export interface Handlers {
  readonly getPolicy?: (call: unknown, callback: sendUnaryData<GetPolicyResponse>) => void;
  readonly act?: (call: unknown, callback: sendUnaryData<ActResponse>) => void;
  readonly play?: (stream: Stream) => void;
}

export const SPACE = pgkeras.spaces.box([2], -1, 1);
export const ROW = pgkeras.tensor(Float32Array.of(0, 0));
export const DESCRIBED: GetPolicyResponse = { policy: { specHash: "hash", spec: { observationSpace: SPACE } } };

/** Starts a server on a real socket, which stops after the test. Returns its port. */
export async function listen(handlers: Handlers): Promise<number> {
  const server = new Server();
  server.addService(PolicyServiceService, {
    getPolicy: (_call: unknown, callback: sendUnaryData<GetPolicyResponse>) => callback(null, DESCRIBED),
    play: each(answer),
    ...handlers,
  });
  after(() => server.forceShutdown());
  return new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
}

/** Starts a server and returns a client of it. */
export async function serve(handlers: Handlers): Promise<pgkeras.PolicyClient> {
  return connect(await listen(handlers));
}

export function connect(port: number, options?: pgkeras.ClientOptions): pgkeras.PolicyClient {
  const client = new pgkeras.PolicyClient(`127.0.0.1:${port}`, options);
  after(() => client.close());
  return client;
}

/** Handles every message of a session, and ends the session when the client does. */
export function each(play: (request: PlayRequest, stream: Stream) => void): (stream: Stream) => void {
  return (stream) => {
    stream.on("data", (request: PlayRequest) => play(request, stream));
    stream.on("end", () => stream.end());
  };
}

/** Responds to a message with an action equal to its id. */
export function answer({ id }: PlayRequest, stream: Stream): void {
  const action = encodeTensor(pgkeras.tensor(BigInt64Array.of(id ?? 0n)));
  stream.write({ id, result: { $case: "act", value: { action } } });
}

export type { Actions, Distribution, Mode, Output } from "./actions.js";
export type { ActOptions, ClientOptions, PlayOptions, PolicyInfo, TlsOptions } from "./client.js";
export { PolicyClient } from "./client.js";
export {
  DeadlineExceededError,
  InvalidRequestError,
  PolicyNotFoundError,
  PolicyServiceError,
  ServerBusyError,
  ServerFailedError,
  ServerUnavailableError,
  SpecMismatchError,
  UnauthenticatedError,
} from "./errors.js";
export type { PlaySession, StepOptions } from "./session.js";
export { type Simulator, type Space, spaces } from "./spaces.js";
export { type DType, type Elements, type Observation, type Tensor, tensor } from "./tensor.js";

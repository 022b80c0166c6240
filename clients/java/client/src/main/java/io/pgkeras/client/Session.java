package io.pgkeras.client;

import io.grpc.Deadline;
import io.grpc.StatusRuntimeException;
import io.pgkeras.v1.PlayError;
import io.pgkeras.v1.PlayRequest;
import io.pgkeras.v1.PlayResponse;
import io.pgkeras.v1.PolicyServiceGrpc;
import io.pgkeras.v1.Space;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/**
 * A simulator's session with one or many environments, created by {@link PolicyClient#play}. Not
 * thread-safe.
 */
public final class Session implements AutoCloseable {
  private static final Duration CLOSING = Duration.ofSeconds(1);

  private final Exchange exchange;
  private final String target;
  private final Duration timeout;
  private final Space space;
  private final PlayRequest later;
  private PlayRequest template;
  private long id;
  private PolicyServiceException failure;

  Session(
      PolicyServiceGrpc.PolicyServiceStub stub,
      PlayRequest.Builder first,
      Space observationSpace,
      ActOptions options,
      String target,
      Duration timeout) {
    this.target = target;
    this.timeout = timeout;
    space = observationSpace;
    later =
        PlayRequest.newBuilder()
            .setMode(options.mode)
            .addAllOutputs(options.outputsOr(Set.of()))
            .build();
    first.mergeFrom(later);
    if (options.seed != null) {
      first.setSeed(options.seed);
    }
    template = first.build();
    exchange = new Exchange(target);
    stub.withExecutor(Runnable::run).play(exchange);
  }

  /**
   * Makes the first step, or one at which every environment starts an episode. It reports no
   * outcome.
   */
  public Actions step(Value observation) {
    return step(observation, StepOptions.NONE);
  }

  /** The same with a mask or another timeout. */
  public Actions step(Value observation, StepOptions options) {
    return step(observation, null, null, null, options);
  }

  /** Makes a step of a single environment. */
  public Actions step(Value observation, float reward, boolean terminated, boolean truncated) {
    return step(observation, reward, terminated, truncated, StepOptions.NONE);
  }

  /** Makes a step of a single environment, with options. */
  public Actions step(
      Value observation, float reward, boolean terminated, boolean truncated, StepOptions options) {
    return step(
        observation,
        new float[] {reward},
        new boolean[] {terminated},
        new boolean[] {truncated},
        options);
  }

  /** Makes a step of several environments. */
  public Actions step(
      Value observation, float[] reward, boolean[] terminated, boolean[] truncated) {
    return step(observation, reward, terminated, truncated, StepOptions.NONE);
  }

  /**
   * Reports the outcome of the previous actions and returns the next ones.
   *
   * <p>After an {@link InvalidRequestException} the session is as if the step had not been made.
   * After a {@link ServerBusyException} the same step may be retried. A step that times out counts,
   * and its action is lost. A timeout that passes while the server does not read ends the session.
   * A server that has too many sessions, refuses the simulator, or has seen the session idle for
   * too long also ends it with one of these exceptions, so check {@link #isOver} after an
   * exception.
   *
   * @param observation the observation, with the observation space's shape for a single
   *     environment, or with a leading axis of B environments, the same B at every step. In a Dict
   *     or Tuple, the first array decides
   * @param reward the reward of each environment, {@code [B]}. Like the next two it is null at the
   *     first step, and may be null if every environment starts an episode
   * @param terminated whether the episode ended in a terminal state
   * @param truncated whether the episode was cut off
   * @param options further fields of the step
   * @return the actions, with a leading axis if the observation has one
   */
  public Actions step(
      Value observation,
      float[] reward,
      boolean[] terminated,
      boolean[] truncated,
      StepOptions options) {
    if (failure != null) {
      throw failure;
    }
    Duration within = options.timeout() == null ? timeout : Due.bounded(options.timeout());
    Deadline deadline = Due.deadline(within);
    boolean single = Spaces.isSingle(observation, space).orElse(false);
    PlayRequest.Builder request = template.toBuilder().setId(id + 1);
    request.setObservation((single ? withBatchAxis(observation) : observation).toMessage());
    if (reward != null) {
      request.setReward(Tensor.of(reward).toTensorMessage());
    }
    if (terminated != null) {
      request.setTerminated(Tensor.of(terminated).toTensorMessage());
    }
    if (truncated != null) {
      request.setTruncated(Tensor.of(truncated).toTensorMessage());
    }
    if (options.episodeStart() != null) {
      request.setEpisodeStart(Tensor.of(options.episodeStart()).toTensorMessage());
    }
    if (options.actionMask() != null) {
      Tensor mask = options.actionMask();
      boolean row = single && mask.shape().length == 1;
      request.setActionMask((row ? asRow(mask) : mask).toTensorMessage());
    }
    PlayResponse response;
    try {
      if (!exchange.send(request.build(), deadline)) {
        // Nothing was sent, because the server does not read.
        failure = Failures.late(target, within, null);
        exchange.cancel();
        throw failure;
      }
      id++;
      template = later;
      response = exchange.receive(id, deadline);
      while (response != null && response.hasWaiting()) { // a policy in training is being updated
        deadline = Due.deadline(within);
        response = exchange.receive(id, deadline);
      }
    } catch (StatusRuntimeException | ServerUnavailableException ended) {
      failure = Failures.translate(ended, target, within);
      throw failure;
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      exchange.cancel();
      failure =
          new ServerUnavailableException(
              "interrupted while waiting for " + target, null, interrupted);
      throw failure;
    }
    if (response == null) {
      throw Failures.late(target, within, null);
    }
    return read(response, single);
  }

  /**
   * Whether the session has ended, by an exception or by {@link #close}. Later steps throw the
   * exception that ended it.
   */
  public boolean isOver() {
    return failure != null;
  }

  /** Ends the session. The server then counts no more episodes of it. */
  @Override
  public void close() {
    if (failure == null) {
      failure =
          new ServerUnavailableException("the session has been closed; open a new one", null, null);
    }
    try {
      exchange.close(Due.deadline(CLOSING));
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
    exchange.cancel();
  }

  private static Actions read(PlayResponse response, boolean single) {
    if (response.hasError()) {
      PlayError error = response.getError();
      throw Failures.of(
          com.google.rpc.Status.newBuilder()
              .setCode(error.getCode())
              .setMessage(error.getMessage())
              .addAllDetails(error.getDetailsList())
              .build(),
          null);
    }
    return Actions.decode(response, single);
  }

  /** Returns one observation as a batch of one. */
  private static Value withBatchAxis(Value observation) {
    if (observation instanceof Tensor tensor) {
      return asRow(tensor);
    }
    if (observation instanceof Value.Fields parts) {
      Map<String, Value> batch = new HashMap<>();
      parts.fields().forEach((key, part) -> batch.put(key, withBatchAxis(part)));
      return new Value.Fields(batch);
    }
    return observation;
  }

  private static Tensor asRow(Tensor tensor) {
    long[] shape = new long[tensor.shape().length + 1];
    shape[0] = 1;
    System.arraycopy(tensor.shape(), 0, shape, 1, shape.length - 1);
    return tensor.reshape(shape);
  }
}

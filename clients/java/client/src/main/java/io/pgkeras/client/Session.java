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
 * One simulator's session, of one or many environments; made by {@link PolicyClient#play}. For one
 * thread at a time.
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
   * The first step, or one at which every environment starts an episode: there is nothing to
   * report.
   */
  public Actions step(Value observation) {
    return step(observation, StepOptions.NONE);
  }

  /** The same with a mask or another timeout. */
  public Actions step(Value observation, StepOptions options) {
    return step(observation, null, null, null, options);
  }

  /** A step of a single environment. */
  public Actions step(Value observation, float reward, boolean terminated, boolean truncated) {
    return step(observation, reward, terminated, truncated, StepOptions.NONE);
  }

  /** A step of a single environment, with more to say. */
  public Actions step(
      Value observation, float reward, boolean terminated, boolean truncated, StepOptions options) {
    return step(
        observation,
        new float[] {reward},
        new boolean[] {terminated},
        new boolean[] {truncated},
        options);
  }

  /** A step of several environments. */
  public Actions step(
      Value observation, float[] reward, boolean[] terminated, boolean[] truncated) {
    return step(observation, reward, terminated, truncated, StepOptions.NONE);
  }

  /**
   * Reports what the last actions led to, and asks for the next.
   *
   * <p>An {@link InvalidRequestException} leaves the session as if the step had not been made;
   * after a {@link ServerBusyException} the same step may be made again; a step whose timeout
   * passes counts, and its action is lost. But a timeout that passes while the server takes nothing
   * ends the session, and a server that has too many sessions, that refuses the simulator, or for
   * which a session was idle for too long, ends it with such an exception: after an exception,
   * {@link #isOver} tells whether the session goes on.
   *
   * @param observation of the observation space's shape for a single environment, or with a leading
   *     axis of B environments, as many at every step; of a Dict or Tuple, that of its first array
   *     tells which
   * @param reward what the last actions earned, {@code [B]}; like the next two null at the first
   *     step, and where every environment starts an episode
   * @param terminated whether they ended the episode in a terminal state
   * @param truncated whether the episode was cut off after them
   * @param options what else there is to say
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
        // Nothing was sent, and the server takes nothing.
        failure = Failures.late(target, within, null);
        exchange.cancel();
        throw failure;
      }
      id++;
      template = later;
      response = exchange.receive(id, deadline);
      while (response != null && response.hasWaiting()) { // a policy in training is being improved
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
   * Whether the session has ended, with an exception or by {@link #close}; a step then throws what
   * ended it.
   */
  public boolean isOver() {
    return failure != null;
  }

  /** Ends the session; the server then counts no more of its episodes. */
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

  /** One observation as a batch of one. */
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

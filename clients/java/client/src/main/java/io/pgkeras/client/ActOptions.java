package io.pgkeras.client;

import com.google.protobuf.ByteString;
import io.pgkeras.v1.ActMode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;

/**
 * Options of a call or a session: how actions are selected, and what a response contains besides
 * them. Immutable; every method returns a new object.
 *
 * <pre>{@code
 * client.act(observation, ActOptions.sample().withSeed(7).withOutputs(Output.LOG_PROB));
 * }</pre>
 */
public final class ActOptions {
  private static final ActOptions SAMPLE =
      new ActOptions(ActMode.ACT_MODE_SAMPLE, null, null, null, ByteString.EMPTY, null);

  final ActMode mode;
  final Long seed;
  final Set<Output> outputs;
  final Tensor mask;
  final ByteString state;
  final Duration timeout;

  private ActOptions(
      ActMode mode,
      Long seed,
      Set<Output> outputs,
      Tensor mask,
      ByteString state,
      Duration timeout) {
    this.mode = mode;
    this.seed = seed;
    this.outputs = outputs;
    this.mask = mask;
    this.state = state;
    this.timeout = timeout;
  }

  /** Samples actions from the distribution. */
  public static ActOptions sample() {
    return SAMPLE;
  }

  /** Selects the distribution's mode: the most probable action, or the mean. */
  public static ActOptions greedy() {
    return new ActOptions(ActMode.ACT_MODE_GREEDY, null, null, null, ByteString.EMPTY, null);
  }

  /**
   * Makes sampling reproducible: of one call, or of a whole session. The value is read as an
   * unsigned number.
   */
  public ActOptions withSeed(long value) {
    return new ActOptions(mode, value, outputs, mask, state, timeout);
  }

  /**
   * Selects what a response contains besides the action. Default: log_prob, entropy and
   * distribution for a call, nothing for a session.
   */
  public ActOptions withOutputs(Output... values) {
    return new ActOptions(mode, seed, Set.copyOf(Arrays.asList(values)), mask, state, timeout);
  }

  /**
   * Allows only the actions where the mask is true: bool, {@code [mask_size]} or {@code [batch,
   * mask_size]}. Not supported by play.
   */
  public ActOptions withActionMask(Tensor value) {
    return new ActOptions(mode, seed, outputs, value, state, timeout);
  }

  /**
   * Passes the state of the previous response to a policy with memory. Without it, an episode
   * starts. Not supported by play.
   */
  public ActOptions withState(ByteString value) {
    return new ActOptions(mode, seed, outputs, mask, value, timeout);
  }

  /**
   * Limits the call, or the opening of the session and each of its steps. Default: the client's
   * timeout.
   */
  public ActOptions withTimeout(Duration value) {
    return new ActOptions(mode, seed, outputs, mask, state, value);
  }

  /**
   * Returns the outputs as messages. They include the action, because an empty list would select
   * the server's default.
   */
  List<io.pgkeras.v1.ActOutput> outputsOr(Set<Output> byDefault) {
    List<io.pgkeras.v1.ActOutput> messages = new ArrayList<>();
    messages.add(io.pgkeras.v1.ActOutput.ACT_OUTPUT_ACTION);
    (outputs == null ? byDefault : outputs)
        .stream().map(output -> output.message).forEach(messages::add);
    return messages;
  }
}

package io.pgkeras.client;

import com.google.protobuf.ByteString;
import io.pgkeras.v1.ActMode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;

/**
 * How actions are chosen, and what is answered besides them. Every method gives a new object.
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

  /** Draws from the distribution. */
  public static ActOptions sample() {
    return SAMPLE;
  }

  /** Takes the distribution's mode: the most probable action, or the mean. */
  public static ActOptions greedy() {
    return new ActOptions(ActMode.ACT_MODE_GREEDY, null, null, null, ByteString.EMPTY, null);
  }

  /**
   * Makes the draw reproducible; that of a whole session, when it opens one. Read as an unsigned
   * number.
   */
  public ActOptions withSeed(long value) {
    return new ActOptions(mode, value, outputs, mask, state, timeout);
  }

  /**
   * What to answer besides the action: log_prob, entropy and distribution by default, nothing in a
   * session.
   */
  public ActOptions withOutputs(Output... values) {
    return new ActOptions(mode, seed, Set.copyOf(Arrays.asList(values)), mask, state, timeout);
  }

  /**
   * Allows only the actions where it is true: bool, {@code [mask_size]} or {@code [batch,
   * mask_size]}. Not for play.
   */
  public ActOptions withActionMask(Tensor value) {
    return new ActOptions(mode, seed, outputs, value, state, timeout);
  }

  /**
   * For policies with memory: the state of the answer before; none starts an episode. Not for play.
   */
  public ActOptions withState(ByteString value) {
    return new ActOptions(mode, seed, outputs, mask, value, timeout);
  }

  /**
   * How long the call may take, or opening the session and each of its steps; the client's own by
   * default.
   */
  public ActOptions withTimeout(Duration value) {
    return new ActOptions(mode, seed, outputs, mask, state, value);
  }

  /**
   * The outputs as messages; the action is among them, since none at all would mean the server's
   * own choice.
   */
  List<io.pgkeras.v1.ActOutput> outputsOr(Set<Output> byDefault) {
    List<io.pgkeras.v1.ActOutput> messages = new ArrayList<>();
    messages.add(io.pgkeras.v1.ActOutput.ACT_OUTPUT_ACTION);
    (outputs == null ? byDefault : outputs)
        .stream().map(output -> output.message).forEach(messages::add);
    return messages;
  }
}

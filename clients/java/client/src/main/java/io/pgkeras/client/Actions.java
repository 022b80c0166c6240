package io.pgkeras.client;

import com.google.protobuf.ByteString;
import io.pgkeras.v1.ActResponse;
import io.pgkeras.v1.DataType;
import io.pgkeras.v1.PlayResponse;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Supplier;

/**
 * The response for one observation or a batch. Its tensors have a batch axis if the observations
 * had one. Components that were not requested are null.
 *
 * @param action the action, with the action space's type and shape; null if the space is a Dict or
 *     Tuple
 * @param parts the action's leaves if the action space is a Dict or Tuple. Keys are paths, with
 *     dots between the parts: "move", or "hands.1" for the second part of a Tuple
 * @param logProb ln P(action | observation), float32
 * @param entropy the entropy of the distribution in nats, float32
 * @param greedyAction the action that {@link ActOptions#greedy} would have returned
 * @param greedyParts the leaves of the greedy action, keyed like {@code parts}
 * @param distribution the action distribution; null also if this client does not know its kind
 * @param state the memory of a policy with memory, to be sent with the next observation; a session
 *     keeps it itself
 * @param policy the name of the policy that responded
 * @param version the version of the policy that responded
 * @param hold sent by a policy in training. Where it is true, the environment should not take its
 *     action but send the same first observation again in the next step, with {@link
 *     StepOptions#starts}; null if no environment should wait
 */
public record Actions(
    Tensor action,
    Map<String, Tensor> parts,
    Tensor logProb,
    Tensor entropy,
    Tensor greedyAction,
    Map<String, Tensor> greedyParts,
    Distribution distribution,
    ByteString state,
    String policy,
    long version,
    boolean[] hold) {

  /**
   * Decodes the response to a session's step. Removes the batch axis for a single environment.
   *
   * @throws ServerFailedException if it is malformed, or does not have one row for a single
   *     environment
   */
  static Actions decode(PlayResponse message, boolean single) {
    if (!message.hasAct()) {
      throw unreadable("it has neither actions nor an error");
    }
    Actions actions = decode(message.getAct());
    if (message.hasHold()) {
      Tensor hold =
          asServerFailure(() -> decode(message.getHold(), "hold", DataType.DATA_TYPE_BOOL));
      actions = actions.withHold((single ? firstRow(hold) : hold).booleans());
    }
    return single ? actions.firstRow() : actions;
  }

  /**
   * Decodes a response.
   *
   * @throws ServerFailedException if it is malformed
   */
  static Actions decode(ActResponse message) {
    if (!message.hasAction() && !message.hasStructuredAction()) {
      throw unreadable("it has no action");
    }
    return asServerFailure(() -> read(message));
  }

  /** Runs a decoder. Turns its InvalidRequestException into a ServerFailedException. */
  private static <T> T asServerFailure(Supplier<T> reading) {
    try {
      return reading.get();
    } catch (InvalidRequestException wrong) {
      throw unreadable(wrong.getMessage());
    }
  }

  private static ServerFailedException unreadable(String reason) {
    return new ServerFailedException(
        "the server's answer cannot be read: %s; is the server newer than this client?"
            .formatted(reason),
        null);
  }

  private static Tensor decode(io.pgkeras.v1.Tensor message, String field, DataType dtype) {
    Tensor tensor = Tensor.decode(message, field);
    if (tensor.dtype() != dtype) {
      throw new InvalidRequestException(field + ".dtype", dtype.name(), tensor.dtype().name());
    }
    return tensor;
  }

  private static Actions read(ActResponse message) {
    return new Actions(
        message.hasStructuredAction() ? null : Tensor.decode(message.getAction(), "action"),
        message.hasStructuredAction()
            ? parts(message.getStructuredAction(), "structured_action")
            : null,
        message.hasLogProb()
            ? decode(message.getLogProb(), "log_prob", DataType.DATA_TYPE_FLOAT32)
            : null,
        message.hasEntropy()
            ? decode(message.getEntropy(), "entropy", DataType.DATA_TYPE_FLOAT32)
            : null,
        message.hasGreedyAction()
            ? Tensor.decode(message.getGreedyAction(), "greedy_action")
            : null,
        message.hasStructuredGreedyAction()
            ? parts(message.getStructuredGreedyAction(), "structured_greedy_action")
            : null,
        message.hasDistribution() ? Distribution.decode(message.getDistribution()) : null,
        message.getState(),
        message.getPolicy().getName(),
        message.getPolicy().getVersion(),
        null);
  }

  private Actions withHold(boolean[] value) {
    return new Actions(
        action,
        parts,
        logProb,
        entropy,
        greedyAction,
        greedyParts,
        distribution,
        state,
        policy,
        version,
        value);
  }

  /** Removes the batch axis of the response to a batch of one. */
  private Actions firstRow() {
    return new Actions(
        firstRow(action),
        firstRows(parts),
        firstRow(logProb),
        firstRow(entropy),
        firstRow(greedyAction),
        firstRows(greedyParts),
        distribution == null ? null : distribution.firstRow(),
        state,
        policy,
        version,
        hold);
  }

  /** Returns the leaves of a value, keyed by path. */
  private static Map<String, Tensor> parts(io.pgkeras.v1.Value value, String field) {
    Map<String, Tensor> found = new LinkedHashMap<>();
    collect(value, "", field, found);
    return Collections.unmodifiableMap(found);
  }

  private static void collect(
      io.pgkeras.v1.Value value, String path, String field, Map<String, Tensor> found) {
    if (!value.hasFields()) {
      found.put(path, Tensor.decode(value.getTensor(), field + "." + path));
      return;
    }
    value
        .getFields()
        .getFieldsMap()
        .forEach(
            (key, part) -> collect(part, path.isEmpty() ? key : path + "." + key, field, found));
  }

  static Map<String, Tensor> firstRows(Map<String, Tensor> tensors) {
    if (tensors == null) {
      return null;
    }
    Map<String, Tensor> rows = new LinkedHashMap<>();
    tensors.forEach((name, tensor) -> rows.put(name, firstRow(tensor)));
    return rows;
  }

  static Tensor firstRow(Tensor tensor) {
    if (tensor == null) {
      return null;
    }
    long[] shape = tensor.shape();
    if (shape.length == 0 || shape[0] != 1) {
      throw new ServerFailedException(
          "the server answered one observation with an array of shape " + Arrays.toString(shape),
          null);
    }
    return tensor.reshape(Arrays.copyOfRange(shape, 1, shape.length));
  }
}

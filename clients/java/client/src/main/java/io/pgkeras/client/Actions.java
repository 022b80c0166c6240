package io.pgkeras.client;

import com.google.protobuf.ByteString;
import io.pgkeras.v1.ActResponse;
import java.util.Arrays;

/**
 * The answer for one observation or a batch; the tensors have a batch axis if the observations had
 * one. What was not asked for is null.
 *
 * @param action of the action space's type and shape
 * @param logProb ln P(action | observation), float32
 * @param entropy the distribution's, in nats, float32
 * @param greedyAction what {@link ActOptions#greedy} would have done
 * @param distribution what the action was chosen from
 * @param state for policies with memory, what to send with the next observation; a session holds it
 *     itself
 * @param policy the name of the policy that answered
 * @param version its version
 */
public record Actions(
    Tensor action,
    Tensor logProb,
    Tensor entropy,
    Tensor greedyAction,
    Distribution distribution,
    ByteString state,
    String policy,
    long version) {

  static Actions decode(ActResponse message) {
    return new Actions(
        Tensor.decode(message.getAction(), "action"),
        message.hasLogProb() ? Tensor.decode(message.getLogProb(), "log_prob") : null,
        message.hasEntropy() ? Tensor.decode(message.getEntropy(), "entropy") : null,
        message.hasGreedyAction()
            ? Tensor.decode(message.getGreedyAction(), "greedy_action")
            : null,
        message.hasDistribution() ? Distribution.decode(message.getDistribution()) : null,
        message.getState(),
        message.getPolicy().getName(),
        message.getPolicy().getVersion());
  }

  /** The first row of the answers to a batch of one. */
  Actions firstRow() {
    return new Actions(
        firstRow(action),
        firstRow(logProb),
        firstRow(entropy),
        firstRow(greedyAction),
        distribution == null ? null : distribution.firstRow(),
        state,
        policy,
        version);
  }

  static Tensor firstRow(Tensor tensor) {
    if (tensor == null) {
      return null;
    }
    long[] shape = tensor.shape();
    return tensor.reshape(Arrays.copyOfRange(shape, 1, shape.length));
  }
}

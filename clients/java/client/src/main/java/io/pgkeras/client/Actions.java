package io.pgkeras.client;

import com.google.protobuf.ByteString;
import io.pgkeras.v1.ActResponse;
import io.pgkeras.v1.PlayResponse;
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
 * @param hold from a policy in training, true for each environment that should not take its action,
 *     but show the same first observation again in the next step, with {@link StepOptions#starts};
 *     null where none should wait
 */
public record Actions(
    Tensor action,
    Tensor logProb,
    Tensor entropy,
    Tensor greedyAction,
    Distribution distribution,
    ByteString state,
    String policy,
    long version,
    boolean[] hold) {

  static Actions decode(PlayResponse message) {
    Actions actions = decode(message.getAct());
    return message.hasHold()
        ? actions.withHold(Tensor.decode(message.getHold(), "hold").booleans())
        : actions;
  }

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
        message.getPolicy().getVersion(),
        null);
  }

  private Actions withHold(boolean[] value) {
    return new Actions(
        action, logProb, entropy, greedyAction, distribution, state, policy, version, value);
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
        version,
        hold);
  }

  static Tensor firstRow(Tensor tensor) {
    if (tensor == null) {
      return null;
    }
    long[] shape = tensor.shape();
    return tensor.reshape(Arrays.copyOfRange(shape, 1, shape.length));
  }
}

package io.pgkeras.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import io.pgkeras.v1.ActResponse;
import io.pgkeras.v1.Categorical;
import io.pgkeras.v1.DataType;
import io.pgkeras.v1.Distribution;
import io.pgkeras.v1.PlayError;
import io.pgkeras.v1.PlayResponse;
import io.pgkeras.v1.Texts;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class AnswersTest {
  private static final Tensor ROW = Tensor.of(new float[] {0, 0.1f, 0, -0.1f});
  private static final String NEWER = "without actions: is the server newer than this client?";

  private static io.pgkeras.v1.Tensor zeros(DataType dtype, int bytes, long... shape) {
    var message =
        io.pgkeras.v1.Tensor.newBuilder()
            .setDtype(dtype)
            .setData(ByteString.copyFrom(new byte[bytes]));
    for (long length : shape) {
      message.addShape(length);
    }
    return message.build();
  }

  private static io.pgkeras.v1.Tensor longs(int count, long... shape) {
    return zeros(DataType.DATA_TYPE_INT64, 8 * count, shape);
  }

  private static io.pgkeras.v1.Tensor floats(int count, long... shape) {
    return zeros(DataType.DATA_TYPE_FLOAT32, 4 * count, shape);
  }

  private static PlayResponse.Builder acting(ActResponse.Builder response) {
    return PlayResponse.newBuilder().setAct(response);
  }

  private static ActResponse.Builder act() {
    return ActResponse.newBuilder().setAction(longs(1, 1));
  }

  /** Answers of no use to a single environment, by words that the exception has. */
  private static Map<String, PlayResponse.Builder> wrong() {
    var scalar = Categorical.newBuilder().setProbabilities(floats(1));
    var text = Texts.newBuilder().addTexts("a");
    Map<String, PlayResponse.Builder> all = new LinkedHashMap<>();
    all.put("answer " + NEWER, PlayResponse.newBuilder());
    all.put(NEWER, acting(ActResponse.newBuilder()));
    all.put("an array of shape []", acting(ActResponse.newBuilder().setAction(longs(1))));
    all.put("an array of shape [2]", acting(ActResponse.newBuilder().setAction(longs(2, 2))));
    all.put("an array of shape [0]", acting(act().setGreedyAction(longs(0, 0))));
    all.put("an array of shape [3]", acting(act().setLogProb(floats(3, 3))));
    all.put(
        "observation was answered with an array of shape []",
        acting(act().setDistribution(Distribution.newBuilder().setCategorical(scalar))));
    all.put("log_prob.dtype: expected DATA_TYPE_FLOAT32", acting(act().setLogProb(longs(1, 1))));
    all.put("entropy.dtype: expected DATA_TYPE_FLOAT32", acting(act().setEntropy(longs(1, 1))));
    all.put(
        "structured_action.",
        acting(
            ActResponse.newBuilder()
                .setStructuredAction(io.pgkeras.v1.Value.newBuilder().setTexts(text))));
    all.put("action.data: expected", acting(ActResponse.newBuilder().setAction(longs(0, 1))));
    all.put("hold.dtype: expected DATA_TYPE_BOOL", acting(act()).setHold(longs(1, 1)));
    all.put(
        "answered with an array of shape [2]",
        acting(act()).setHold(zeros(DataType.DATA_TYPE_BOOL, 2, 2)));
    all.put(
        "OK: all is well",
        PlayResponse.newBuilder().setError(PlayError.newBuilder().setMessage("all is well")));
    return all;
  }

  @Test
  void aWrongAnswerIsTheServersFailure() throws IOException {
    try (var server = new ScriptedServer();
        var client = PolicyClient.connect(server.target())) {
      wrong()
          .forEach(
              (words, answer) -> {
                server.play =
                    (request, answers) ->
                        answers.onNext(
                            request.getId() == 1
                                ? answer.setId(1).build()
                                : ScriptedServer.answer(request.getId()));
                try (Session session = client.play()) {
                  var failed =
                      assertThrows(ServerFailedException.class, () -> session.step(ROW), words);
                  assertTrue(failed.getMessage().contains(words), failed.getMessage());
                  assertFalse(session.isOver());
                  assertArrayEquals(new long[] {2}, session.step(ROW).action().longs());
                }
              });
    }
  }

  @Test
  void aWrongAnswerToACallIsTheServersFailure() throws IOException {
    try (var server = new ScriptedServer();
        var client = PolicyClient.connect(server.target())) {
      server.response = ActResponse.getDefaultInstance();
      var failed = assertThrows(ServerFailedException.class, () -> client.act(ROW));
      assertTrue(failed.getMessage().contains(NEWER), failed.getMessage());
    }
  }
}

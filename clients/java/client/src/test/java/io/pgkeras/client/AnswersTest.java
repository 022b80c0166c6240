package io.pgkeras.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
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
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

@Timeout(60)
class AnswersTest {
  private static final Tensor ROW = Tensor.of(new float[] {0, 0.1f, 0, -0.1f});

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

  /** Malformed responses that the vectors do not cover, keyed by part of the message. */
  private static Map<String, PlayResponse.Builder> wrong() {
    var scalar = Categorical.newBuilder().setProbabilities(floats(1));
    var text = Texts.newBuilder().addTexts("a");
    Map<String, PlayResponse.Builder> all = new LinkedHashMap<>();
    all.put("it has no action", acting(ActResponse.newBuilder()));
    all.put("an array of shape [0]", acting(act().setGreedyAction(longs(0, 0))));
    all.put("an array of shape [3]", acting(act().setLogProb(floats(3, 3))));
    all.put(
        "the server answered one observation with an array of shape []",
        acting(act().setDistribution(Distribution.newBuilder().setCategorical(scalar))));
    all.put(
        "the server's answer cannot be read: structured_action.",
        acting(
            ActResponse.newBuilder()
                .setStructuredAction(io.pgkeras.v1.Value.newBuilder().setTexts(text))));
    all.put(
        "OK: all is well",
        PlayResponse.newBuilder().setError(PlayError.newBuilder().setMessage("all is well")));
    return all;
  }

  @Test
  void aMalformedResponseIsAServerFailure() throws IOException {
    for (var wrong : wrong().entrySet()) {
      assertServersFailure(wrong.getValue(), wrong.getKey());
    }
  }

  static Stream<Arguments> badAnswers() {
    return Vectors.of("bad_answers");
  }

  @ParameterizedTest
  @MethodSource("badAnswers")
  void aBadAnswerIsAServerFailure(JsonObject vector) throws IOException {
    var answer = PlayResponse.newBuilder().mergeFrom(Vectors.bytes(vector, "message"));
    assertServersFailure(answer, vector.get("says").getAsString());
  }

  /** Checks that a step fails with this message and leaves the session open. */
  private static void assertServersFailure(PlayResponse.Builder answer, String words)
      throws IOException {
    try (var server = new ScriptedServer();
        var client = PolicyClient.connect(server.target())) {
      server.play =
          (request, answers) ->
              answers.onNext(
                  request.getId() == 1
                      ? answer.setId(1).build()
                      : ScriptedServer.answer(request.getId()));
      try (Session session = client.play()) {
        var failed = assertThrows(ServerFailedException.class, () -> session.step(ROW), words);
        assertTrue(failed.getMessage().contains(words), failed.getMessage());
        assertFalse(session.isOver());
        assertArrayEquals(new long[] {2}, session.step(ROW).action().longs());
      }
    }
  }

  @Test
  void aMalformedResponseToACallIsAServerFailure() throws IOException {
    try (var server = new ScriptedServer();
        var client = PolicyClient.connect(server.target())) {
      server.response = ActResponse.getDefaultInstance();
      var failed = assertThrows(ServerFailedException.class, () -> client.act(ROW));
      assertTrue(
          failed.getMessage().contains("is the server newer than this client?"),
          failed.getMessage());
    }
  }
}

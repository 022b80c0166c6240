package io.pgkeras.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import io.grpc.Status;
import io.pgkeras.v1.ActResponse;
import io.pgkeras.v1.Categorical;
import io.pgkeras.v1.DataType;
import io.pgkeras.v1.Distribution;
import io.pgkeras.v1.Space;
import io.pgkeras.v1.StructuredDistribution;
import io.pgkeras.v1.TextSpace;
import java.io.IOException;
import java.net.ServerSocket;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class PolicyClientTest {
  private static final Tensor ROW = Tensor.of(new float[] {0, 0.1f, 0, -0.1f});
  private static final Duration LONG = Duration.ofSeconds(30);

  private ScriptedServer server;
  private PolicyClient client;

  @BeforeEach
  void connect() throws IOException {
    server = new ScriptedServer();
    client = PolicyClient.builder(server.target()).timeout(LONG).token("secret").build();
  }

  @AfterEach
  void close() {
    client.close();
    server.close();
  }

  @Test
  void aCallIsRetriedAfterTheDelayOfTheServer() {
    server.failure = n -> n < 3 ? ScriptedServer.unavailable(200) : null;
    long begin = System.nanoTime();
    client.act(ROW);
    assertEquals(3, server.calls.get());
    assertTrue(System.nanoTime() - begin >= 400_000_000L, "it came back too early");
  }

  @Test
  void waitsForAServerThatComesBack() {
    server.failure = n -> n < 4 ? ScriptedServer.unavailable(null) : null;
    client.act(ROW);
    assertEquals(4, server.calls.get());
  }

  @Test
  void givesUpBeforeItsDeadline() {
    client.describe();
    server.failure = n -> ScriptedServer.unavailable(null);
    ActOptions soon = ActOptions.sample().withTimeout(Duration.ofMillis(500));
    var error = assertThrows(ServerUnavailableException.class, () -> client.act(ROW, soon));
    assertEquals("starting", error.getMessage());
    assertTrue(server.calls.get() > 1, "it was not retried");
  }

  @Test
  void failsImmediatelyIfNoServerHasEverResponded() {
    server.describes = false;
    assertThrows(ServerUnavailableException.class, () -> client.act(ROW));
    assertEquals(1, server.descriptions.get());
  }

  @Test
  void doesNotRepeatWhatCannotSucceed() {
    server.failure = n -> Status.NOT_FOUND.withDescription("there is none").asRuntimeException();
    var error = assertThrows(PolicyNotFoundException.class, () -> client.act(ROW));
    assertEquals("there is none", error.getMessage());
    assertEquals(1, server.calls.get());
    assertTrue(
        Stream.of(error.getStackTrace())
            .anyMatch(frame -> frame.getClassName().equals(getClass().getName())),
        "the trace does not lead to the caller");
  }

  @Test
  void manyCallsRunConcurrently() {
    var calls = Stream.generate(() -> client.actAsync(ROW, ActOptions.greedy())).limit(50).toList();
    CompletableFuture.allOf(calls.toArray(new CompletableFuture<?>[0])).join();
    assertEquals(50, server.calls.get());
  }

  @Test
  void everyCallShowsTheToken() {
    client.act(ROW);
    try (Session session = client.play()) {
      session.step(ROW);
    }
    assertEquals(Set.of("Bearer secret"), Set.copyOf(server.authorizations));
  }

  @Test
  void responsesThatAreTooLargeAreInvalidRequests() {
    ByteString data = ByteString.copyFrom(ByteBuffer.allocate(PolicyClient.MAX_MESSAGE_BYTES + 1));
    server.response =
        ActResponse.newBuilder()
            .setAction(
                io.pgkeras.v1.Tensor.newBuilder()
                    .setDtype(DataType.DATA_TYPE_INT8)
                    .addShape(data.size())
                    .setData(data))
            .build();
    var error = assertThrows(InvalidRequestException.class, () -> client.act(ROW));
    assertEquals("message", error.field());
  }

  @Test
  void aLateActionIsLostAndTheSessionStaysOpen() {
    server.play =
        (request, answers) -> {
          if (request.getId() > 2) {
            answers.onNext(ScriptedServer.answer(2)); // late, to a step that timed out
          }
          if (request.getId() != 2) {
            answers.onNext(ScriptedServer.answer(request.getId()));
          }
        };
    try (Session session = client.play()) {
      assertArrayEquals(new long[] {1}, session.step(ROW).action().longs());
      StepOptions soon = StepOptions.NONE.withTimeout(Duration.ofMillis(50));
      assertThrows(DeadlineExceededException.class, () -> session.step(ROW, 1, false, false, soon));
      assertArrayEquals(new long[] {3}, session.step(ROW, 1, false, false).action().longs());
    }
  }

  @Test
  void aSingleObservationOfPartsBecomesABatchOfOne() {
    List<String> seen = new ArrayList<>();
    server.play =
        (request, answers) -> {
          var parts = request.getObservation().getFields().getFieldsMap();
          var pair = parts.get("pair").getFields().getFieldsMap();
          seen.add(
              String.join(",", parts.get("words").getTexts().getTextsList())
                  + pair.get("0").getTensor().getShapeList()
                  + pair.get("1").getTensor().getShapeList());
          answers.onNext(ScriptedServer.answer(request.getId()));
        };
    Map<String, Space> parts = new LinkedHashMap<>();
    parts.put("words", Space.newBuilder().setText(TextSpace.getDefaultInstance()).build());
    parts.put("pair", Spaces.tuple(Spaces.discrete(3), Spaces.box(-1, 1, 4)));
    Simulator simulator = new Simulator(Spaces.dict(parts), Spaces.discrete(2), 1, "test");
    Value words = new Value.Texts(List.of("go left"));
    Tensor number = Tensor.of(new long[] {2});
    Value single =
        new Value.Fields(
            Map.of(
                "words", words, "pair", new Value.Fields(Map.of("0", number.reshape(), "1", ROW))));
    Value batch =
        new Value.Fields(
            Map.of(
                "words",
                words,
                "pair",
                new Value.Fields(Map.of("0", number, "1", ROW.reshape(1, 4)))));
    try (Session session = client.play(simulator, ActOptions.sample())) {
      assertEquals(0, session.step(single).action().shape().length);
      assertEquals(1, session.step(batch).action().shape().length);
    }
    assertEquals(List.of("go left[1][1, 4]", "go left[1][1, 4]"), seen);
  }

  @Test
  void openingADeclaredSessionResetsTheConnectBackoff() throws Exception {
    int port;
    try (ServerSocket free = new ServerSocket(0)) {
      port = free.getLocalPort();
    }
    Simulator simulator = new Simulator(Spaces.box(-1, 1, 4), Spaces.discrete(2), 1, "test");
    try (var early = PolicyClient.connect("127.0.0.1:" + port)) {
      try (Session session = early.play(simulator, ActOptions.sample())) {
        assertThrows(ServerUnavailableException.class, () -> session.step(ROW));
      }
      try (ScriptedServer late = new ScriptedServer(port)) {
        early.play(simulator, ActOptions.sample()).close();
        Thread.sleep(500); // gRPC's backoff begins with a second
        try (Session session = early.play(simulator, ActOptions.sample())) {
          assertArrayEquals(new long[] {1}, session.step(ROW).action().longs());
        }
        assertEquals(0, late.descriptions.get(), "a call came before the stream");
      }
    }
  }

  @Test
  void aSessionThatTheServerEndsStaysEnded() {
    server.play = (request, answers) -> answers.onCompleted();
    try (Session session = client.play()) {
      assertThrows(ServerUnavailableException.class, () -> session.step(ROW));
      assertThrows(ServerUnavailableException.class, () -> session.step(ROW));
    }
  }

  @Test
  void aCallThatIsCutOffSaysSo() {
    server.play = (request, answers) -> answers.onError(Status.CANCELLED.asRuntimeException());
    try (Session session = client.play()) {
      var error = assertThrows(ServerUnavailableException.class, () -> session.step(ROW));
      assertTrue(error.getMessage().contains("has cut the call off"), error.getMessage());
    }
  }

  @Test
  void aDistributionOfAnUnknownKindIsOmitted() {
    Distribution unknown = Distribution.getDefaultInstance();
    var known = Categorical.newBuilder().setProbabilities(ROW.toTensorMessage());
    var parts =
        StructuredDistribution.newBuilder()
            .putParts("new", unknown)
            .putParts("old", Distribution.newBuilder().setCategorical(known).build());
    server.response = ScriptedServer.act(0).toBuilder().setDistribution(unknown).build();
    assertNull(client.act(ROW).distribution());
    server.response =
        ScriptedServer.act(0).toBuilder()
            .setDistribution(Distribution.newBuilder().setStructured(parts))
            .build();
    assertEquals(Set.of("old.probabilities"), client.act(ROW).distribution().parameters().keySet());
  }

  @Test
  void aClosedSessionSaysSo() {
    Session session = client.play();
    session.close();
    session.close();
    var error = assertThrows(ServerUnavailableException.class, () -> session.step(ROW));
    assertTrue(error.getMessage().contains("closed"), error.getMessage());
  }

  @Test
  void sendingToAServerThatDoesNotReadEndsInTime() {
    server.play =
        (request, answers) -> {
          try {
            Thread.sleep(3_000);
          } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt(); // the server is closed
          }
        };
    Tensor many = Tensor.of(new float[4 << 17], 1 << 17, 4);
    StepOptions soon = StepOptions.NONE.withTimeout(Duration.ofMillis(100));
    try (Session session = client.play()) {
      for (int i = 0; i < 5; i++) {
        assertThrows(DeadlineExceededException.class, () -> session.step(many, soon));
      }
    }
  }
}

package io.pgkeras.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.rpc.Code;
import io.grpc.protobuf.StatusProto;
import io.pgkeras.v1.PlayError;
import io.pgkeras.v1.PlayResponse;
import java.io.IOException;
import java.time.Duration;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(90)
class RetriesTest {
  private static final Tensor ROW = Tensor.of(new float[] {0, 0.1f, 0, -0.1f});
  private static final Duration YEAR = Duration.ofDays(365);
  private static final ActOptions SECOND = ActOptions.sample().withTimeout(Duration.ofSeconds(1));

  private ScriptedServer server;
  private PolicyClient client;

  @BeforeEach
  void connect() throws IOException {
    server = new ScriptedServer();
    client = PolicyClient.builder(server.target()).timeout(Duration.ofSeconds(30)).build();
    client.describe();
  }

  @AfterEach
  void close() {
    client.close();
    server.close();
  }

  private static com.google.protobuf.Duration delay(long seconds, int nanos) {
    return com.google.protobuf.Duration.newBuilder().setSeconds(seconds).setNanos(nanos).build();
  }

  @Test
  void aDelayOfZeroOrLessKeepsTheBackoff() {
    for (var delay : List.of(delay(0, 0), delay(-1, 0), delay(Long.MIN_VALUE, Integer.MIN_VALUE))) {
      server.calls.set(0);
      server.failure =
          n -> StatusProto.toStatusRuntimeException(ScriptedServer.later(Code.UNAVAILABLE, delay));
      var gone = assertThrows(ServerUnavailableException.class, () -> client.act(ROW, SECOND));
      assertEquals(Optional.empty(), gone.retryAfter());
      // With pauses of at least 50, 100, 200, 400 and 500 ms, six calls take longer than a second.
      int made = server.calls.get();
      assertTrue(made >= 1 && made <= 5, made + " calls in a second");
      assertEquals(Duration.ofSeconds(1), busy(delay).retryAfter());
    }
  }

  @Test
  void aDelayBeyondTheDeadlineEndsTheCallImmediately() {
    for (var delay : List.of(delay(10_000_000_000L, 0), delay(Long.MAX_VALUE, Integer.MAX_VALUE))) {
      server.calls.set(0);
      server.failure =
          n -> StatusProto.toStatusRuntimeException(ScriptedServer.later(Code.UNAVAILABLE, delay));
      var gone = assertThrows(ServerUnavailableException.class, () -> client.act(ROW));
      assertEquals("starting", gone.getMessage());
      assertEquals(Optional.of(YEAR), gone.retryAfter());
      assertEquals(1, server.calls.get());
      assertEquals(YEAR, busy(delay).retryAfter());
    }
  }

  private ServerBusyException busy(com.google.protobuf.Duration delay) {
    var status = ScriptedServer.later(Code.RESOURCE_EXHAUSTED, delay);
    server.play =
        (request, answers) ->
            answers.onNext(
                PlayResponse.newBuilder()
                    .setId(request.getId())
                    .setError(
                        PlayError.newBuilder()
                            .setCode(status.getCode())
                            .setMessage(status.getMessage())
                            .addAllDetails(status.getDetailsList()))
                    .build());
    try (Session session = client.play()) {
      return assertThrows(ServerBusyException.class, () -> session.step(ROW));
    }
  }

  @Test
  void aDeadlineThatPassesDuringRetriesThrowsTheLastError() {
    server.failure = n -> n < 3 ? ScriptedServer.unavailable(null) : null;
    server.response = null;
    var gone = assertThrows(ServerUnavailableException.class, () -> client.act(ROW, SECOND));
    assertEquals("starting", gone.getMessage());
    assertEquals(3, server.calls.get());
  }

  @Test
  void cancellingTheFutureCancelsTheCall() throws InterruptedException {
    server.response = null;
    CompletableFuture<Actions> answer = client.actAsync(ROW, ActOptions.sample());
    waitForCalls(1);
    assertTrue(answer.cancel(true));
    assertThrows(CancellationException.class, answer::join);
    assertTrue(server.cancelled.tryAcquire(10, TimeUnit.SECONDS), "the server goes on");
  }

  @Test
  void cancellingTheFutureEndsTheRetries() throws InterruptedException {
    server.failure = n -> ScriptedServer.unavailable(500);
    CompletableFuture<Actions> answer = client.actAsync(ROW, ActOptions.sample());
    waitForCalls(1);
    answer.cancel(false);
    Thread.sleep(1_500); // three pauses
    assertEquals(1, server.calls.get());
  }

  @Test
  void interruptingACallCancelsIt() throws InterruptedException {
    server.response = null;
    CompletableFuture<Throwable> thrown = new CompletableFuture<>();
    Thread thread =
        new Thread(
            () ->
                thrown.complete(assertThrows(PolicyServiceException.class, () -> client.act(ROW))));
    thread.start();
    waitForCalls(1);
    thread.interrupt();
    assertInstanceOf(ServerUnavailableException.class, thrown.join());
    assertTrue(server.cancelled.tryAcquire(10, TimeUnit.SECONDS), "the server goes on");
  }

  private void waitForCalls(int count) throws InterruptedException {
    while (server.calls.get() < count) {
      Thread.sleep(5);
    }
  }

  @Test
  void timeoutsMayExceedTheNanosecondsOfALong() {
    for (Duration within : List.of(ChronoUnit.FOREVER.getDuration(), Duration.ofDays(365L * 300))) {
      try (var patient = PolicyClient.builder(server.target()).timeout(within).build();
          Session session = patient.play()) {
        patient.describe(within);
        patient.act(ROW, ActOptions.sample().withTimeout(within));
        session.step(ROW, StepOptions.NONE.withTimeout(within));
      }
    }
  }

  @Test
  void aNegativeTimeoutHasExpired() {
    Duration past = ChronoUnit.FOREVER.getDuration().negated();
    assertThrows(DeadlineExceededException.class, () -> client.describe(past));
  }

  @Test
  void aLostConnectionIsReplaced() throws IOException {
    try (var proxy = new LossyProxy(server.port());
        var lost = PolicyClient.builder(proxy.target()).timeout(Duration.ofSeconds(80)).build()) {
      lost.describe();
      proxy.loseConnections();
      lost.describe(); // a ping is sent after 20 s
    }
  }
}

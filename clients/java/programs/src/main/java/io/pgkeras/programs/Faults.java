package io.pgkeras.programs;

import static io.pgkeras.programs.Checks.BAD_ROW;
import static io.pgkeras.programs.Checks.ROW;
import static io.pgkeras.programs.Checks.check;
import static io.pgkeras.programs.Checks.failure;

import io.grpc.ChannelCredentials;
import io.grpc.TlsChannelCredentials;
import io.pgkeras.client.ActOptions;
import io.pgkeras.client.DeadlineExceededException;
import io.pgkeras.client.InvalidRequestException;
import io.pgkeras.client.PolicyClient;
import io.pgkeras.client.PolicyNotFoundException;
import io.pgkeras.client.PolicyServiceException;
import io.pgkeras.client.ServerBusyException;
import io.pgkeras.client.ServerUnavailableException;
import io.pgkeras.client.Session;
import io.pgkeras.client.StepOptions;
import io.pgkeras.client.UnauthenticatedException;
import java.io.File;
import java.io.IOException;
import java.time.Duration;

/** The scenarios of errors and faults. */
record Faults(Conformance program) {
  private static final Duration SOON = Duration.ofMillis(300);

  void unknownPolicy() {
    try (var client = program.connect("no-such-policy")) {
      var error = failure(PolicyNotFoundException.class, () -> client.act(ROW));
      check(error.getMessage().contains("cartpole-v1"), error.toString());
    }
  }

  void badShape() {
    var error = failure(InvalidRequestException.class, () -> program.client().act(BAD_ROW));
    check(
        error.field().equals("observation") && error.expected().contains("[4]"), error.toString());
  }

  void deadline() {
    try (var client =
        PolicyClient.builder(program.flag("slow-target"))
            .policy("cartpole-v1")
            .timeout(Duration.ofSeconds(20))
            .build()) {
      long begin = System.nanoTime();
      failure(
          DeadlineExceededException.class,
          () -> client.act(ROW, ActOptions.sample().withTimeout(SOON)));
      check(System.nanoTime() - begin < 900_000_000L, "it came too late");
      client.act(ROW);
      try (Session session = client.play()) {
        StepOptions soon = StepOptions.NONE.withTimeout(SOON);
        failure(DeadlineExceededException.class, () -> session.step(ROW, soon));
      }
    }
  }

  void nobody() {
    String target = program.flag("dead-target");
    try (var client = PolicyClient.builder(target).timeout(Duration.ofSeconds(2)).build()) {
      long begin = System.nanoTime();
      var error = failure(PolicyServiceException.class, () -> client.act(ROW));
      check(System.nanoTime() - begin < 4_000_000_000L, "it came too late");
      check(
          error instanceof ServerUnavailableException || error instanceof DeadlineExceededException,
          error.toString());
      check(error.getMessage().contains(target), error.toString());
    }
  }

  void busy() throws InterruptedException {
    try (var client =
        PolicyClient.builder(program.flag("busy-target")).policy("cartpole-v1").build()) {
      ServerBusyException full;
      try (Session first = client.play();
          Session second = client.play()) {
        first.step(ROW);
        full = failure(ServerBusyException.class, () -> second.step(ROW));
        check(
            second.isOver() && !first.isOver(),
            "the second session is not over, or the first one is");
        check(
            !full.retryAfter().isZero() && !full.retryAfter().isNegative(),
            "retry after " + full.retryAfter());
      }
      for (int i = 0; i < 10; i++) {
        Thread.sleep(full.retryAfter().toMillis());
        try {
          stepOnce(client);
          return;
        } catch (ServerBusyException again) {
          full = again;
        }
      }
      throw full;
    }
  }

  void tlsAndToken() throws IOException {
    String target = program.flag("tls-target");
    String token = program.flag("token");
    ChannelCredentials tls =
        TlsChannelCredentials.newBuilder().trustManager(new File(program.flag("ca"))).build();
    try (var client =
        PolicyClient.builder(target).policy("cartpole-v1").tls(tls).token(token).build()) {
      client.act(ROW);
      stepOnce(client);
    }
    try (var client = PolicyClient.builder(target).policy("cartpole-v1").tls(tls).build()) {
      failure(UnauthenticatedException.class, () -> client.act(ROW));
    }
    try (var client = PolicyClient.builder(target).policy("cartpole-v1").token(token).build()) {
      failure(PolicyServiceException.class, () -> client.act(ROW));
    }
  }

  void restart() throws IOException {
    PolicyClient client = program.client();
    try (Session session = client.play(ActOptions.greedy())) {
      tenSteps(session);
      System.out.println("WAIT restart");
      while (System.in.read() != '\n') {
        // until the end of the line
      }
      failure(ServerUnavailableException.class, () -> session.step(ROW, 1, false, false));
    }
    client.act(ROW, ActOptions.sample().withTimeout(Duration.ofSeconds(30)));
    try (Session session = client.play(ActOptions.greedy())) {
      tenSteps(session);
    }
  }

  private static void stepOnce(PolicyClient client) {
    try (Session session = client.play()) {
      session.step(ROW);
    }
  }

  private static void tenSteps(Session session) {
    session.step(ROW);
    for (int i = 1; i < 10; i++) {
      session.step(ROW, 1, false, false);
    }
  }
}

package io.pgkeras.client;

import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Makes calls, and makes them again for as long as their deadlines allow while a server that was
 * there is not.
 */
final class Calls {
  private static final Duration FIRST_BACKOFF = Duration.ofMillis(100);
  private static final Duration LONGEST_BACKOFF = Duration.ofSeconds(1);

  private final ManagedChannel channel;
  private final String target;
  private volatile boolean answered;

  Calls(ManagedChannel channel, String target) {
    this.channel = channel;
    this.target = target;
  }

  /** A method of the generated stub. */
  @FunctionalInterface
  interface Method<Q, A> {
    void start(Deadline deadline, Q request, StreamObserver<A> observer);
  }

  String target() {
    return target;
  }

  /**
   * Makes a call.
   *
   * @param within how long the call was given, for messages
   */
  <Q, A> CompletableFuture<A> make(
      Method<Q, A> method, Q request, Duration within, Deadline deadline) {
    return attempt(method, request, within, deadline, FIRST_BACKOFF);
  }

  private <Q, A> CompletableFuture<A> attempt(
      Method<Q, A> method, Q request, Duration within, Deadline deadline, Duration backoff) {
    CompletableFuture<A> answer = new CompletableFuture<>();
    method.start(deadline, request, new Single<>(answer));
    return answer
        .handle(
            (found, error) -> {
              if (error == null) {
                answered = true;
                return answer;
              }
              PolicyServiceException typed = Failures.translate(error, target, within);
              if (!answered
                  || !(typed instanceof ServerUnavailableException gone)
                  || channel.isShutdown()) {
                return CompletableFuture.<A>failedFuture(typed);
              }
              Duration wait = gone.retryAfter().orElseGet(() -> jittered(backoff));
              if (deadline.timeRemaining(TimeUnit.NANOSECONDS) <= wait.toNanos()) {
                return CompletableFuture.<A>failedFuture(typed);
              }
              Duration next = min(backoff.multipliedBy(2), LONGEST_BACKOFF);
              Executor later =
                  CompletableFuture.delayedExecutor(wait.toNanos(), TimeUnit.NANOSECONDS);
              return CompletableFuture.runAsync(channel::resetConnectBackoff, later)
                  .thenCompose(done -> attempt(method, request, within, deadline, next));
            })
        .thenCompose(outcome -> outcome);
  }

  private static Duration jittered(Duration backoff) {
    return Duration.ofNanos(
        (long) (backoff.toNanos() * ThreadLocalRandom.current().nextDouble(0.5, 1.0)));
  }

  private static Duration min(Duration one, Duration other) {
    return one.compareTo(other) < 0 ? one : other;
  }

  private record Single<A>(CompletableFuture<A> answer) implements StreamObserver<A> {
    @Override
    public void onNext(A value) {
      answer.complete(value);
    }

    @Override
    public void onError(Throwable error) {
      answer.completeExceptionally(error);
    }

    @Override
    public void onCompleted() {
      // Without an answer, gRPC says onError.
    }
  }
}

package io.pgkeras.client;

import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Makes calls. Retries them until their deadlines while a server that has responded before is
 * unavailable.
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

  /** Makes a call. */
  <Q, A> CompletableFuture<A> make(Method<Q, A> method, Q request, Due due) {
    return attempt(method, request, due, FIRST_BACKOFF, null);
  }

  /**
   * @param last the error of the previous attempt; null at the first
   */
  private <Q, A> CompletableFuture<A> attempt(
      Method<Q, A> method, Q request, Due due, Duration backoff, ServerUnavailableException last) {
    Single<Q, A> call = new Single<>();
    method.start(due.deadline(), request, call);
    due.result().whenComplete((found, error) -> call.cancel());
    return call.answer
        .handle(
            (found, error) -> {
              if (error == null) {
                answered = true;
                return call.answer;
              }
              PolicyServiceException typed = Failures.translate(error, target, due.within());
              if (last != null
                  && typed instanceof DeadlineExceededException
                  && !Failures.isFromServer(error)) {
                return CompletableFuture.<A>failedFuture(last); // says why there was no response
              }
              if (!answered
                  || !(typed instanceof ServerUnavailableException gone)
                  || due.result().isDone()
                  || channel.isShutdown()) {
                return CompletableFuture.<A>failedFuture(typed);
              }
              Duration wait = Due.max(gone.retryAfter().orElse(Duration.ZERO), jittered(backoff));
              if (due.deadline().timeRemaining(TimeUnit.NANOSECONDS) <= wait.toNanos()) {
                return CompletableFuture.<A>failedFuture(typed);
              }
              Duration next = Due.min(backoff.multipliedBy(2), LONGEST_BACKOFF);
              Executor later =
                  CompletableFuture.delayedExecutor(wait.toNanos(), TimeUnit.NANOSECONDS);
              return CompletableFuture.runAsync(channel::resetConnectBackoff, later)
                  .thenCompose(
                      done ->
                          due.result().isDone()
                              ? CompletableFuture.<A>failedFuture(typed)
                              : attempt(method, request, due, next, gone));
            })
        .thenCompose(outcome -> outcome);
  }

  private static Duration jittered(Duration backoff) {
    return Duration.ofNanos(
        (long) (backoff.toNanos() * ThreadLocalRandom.current().nextDouble(0.5, 1.0)));
  }

  /** A call with one response. */
  private static final class Single<Q, A> implements ClientResponseObserver<Q, A> {
    final CompletableFuture<A> answer = new CompletableFuture<>();
    private ClientCallStreamObserver<Q> call;

    @Override
    public void beforeStart(ClientCallStreamObserver<Q> started) {
      call = started;
    }

    /** Cancels the call, unless it has ended. It must have been started. */
    void cancel() {
      if (!answer.isDone()) {
        call.cancel("the caller no longer waits", null);
      }
    }

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
      // Without a response, gRPC calls onError.
    }
  }
}

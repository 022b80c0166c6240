package io.pgkeras.client;

import io.grpc.Deadline;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.pgkeras.v1.PlayRequest;
import io.pgkeras.v1.PlayResponse;
import java.util.ArrayDeque;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/** The stream of a session, for one thread that sends a message, then waits for its response. */
final class Exchange implements ClientResponseObserver<PlayRequest, PlayResponse> {
  private final ArrayDeque<PlayResponse> inbox = new ArrayDeque<>();
  private final String target;
  private ClientCallStreamObserver<PlayRequest> call;
  private RuntimeException end;
  private boolean closed;

  Exchange(String target) {
    this.target = target;
  }

  @Override
  public void beforeStart(ClientCallStreamObserver<PlayRequest> requests) {
    call = requests;
    requests.setOnReadyHandler(this::wake);
  }

  @Override
  public synchronized void onNext(PlayResponse response) {
    inbox.add(response);
    notifyAll();
  }

  @Override
  public synchronized void onError(Throwable error) {
    end =
        new StatusRuntimeException(
            Status.fromThrowable(error), Status.trailersFromThrowable(error));
    notifyAll();
  }

  @Override
  public synchronized void onCompleted() {
    end =
        new ServerUnavailableException(
            target + " has ended the session; open a new one", null, null);
    notifyAll();
  }

  private synchronized void wake() {
    notifyAll();
  }

  /**
   * Sends a message as soon as the stream is ready.
   *
   * @return whether it was sent in time
   * @throws RuntimeException gRPC's exception or a ServerUnavailableException, if the stream has
   *     ended
   */
  synchronized boolean send(PlayRequest request, Deadline deadline) throws InterruptedException {
    await(() -> call.isReady() || end != null, deadline);
    if (end != null) {
      throw end;
    }
    if (!call.isReady()) {
      return false;
    }
    call.onNext(request);
    return true;
  }

  /**
   * Waits for the response to a message. Drops responses to earlier messages, which timed out.
   *
   * @return the response, or null if it does not arrive in time
   * @throws RuntimeException gRPC's exception or a ServerUnavailableException, if the stream has
   *     ended
   */
  synchronized PlayResponse receive(long id, Deadline deadline) throws InterruptedException {
    while (true) {
      await(() -> !inbox.isEmpty() || end != null, deadline);
      PlayResponse response = inbox.poll();
      if (response == null) {
        if (end != null) {
          throw end;
        }
        return null;
      }
      if (response.getId() == id) {
        return response;
      }
    }
  }

  /** Ends the stream, and waits until the server ends it, too. */
  synchronized void close(Deadline deadline) throws InterruptedException {
    if (end == null && !closed) {
      closed = true;
      call.onCompleted();
      await(() -> end != null, deadline);
    }
  }

  /** Cancels the stream. */
  synchronized void cancel() {
    closed = true;
    call.cancel("the session is closed", null);
  }

  private void await(BooleanSupplier happened, Deadline deadline) throws InterruptedException {
    while (!happened.getAsBoolean()) {
      long left = deadline.timeRemaining(TimeUnit.NANOSECONDS);
      if (left <= 0) {
        return;
      }
      TimeUnit.NANOSECONDS.timedWait(this, left);
    }
  }
}

package io.pgkeras.client;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.Code;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import io.pgkeras.v1.ActRequest;
import io.pgkeras.v1.ActResponse;
import io.pgkeras.v1.BoxSpace;
import io.pgkeras.v1.DataType;
import io.pgkeras.v1.GetPolicyRequest;
import io.pgkeras.v1.GetPolicyResponse;
import io.pgkeras.v1.PlayRequest;
import io.pgkeras.v1.PlayResponse;
import io.pgkeras.v1.Policy;
import io.pgkeras.v1.PolicyServiceGrpc;
import io.pgkeras.v1.PolicySpec;
import io.pgkeras.v1.Space;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BiConsumer;
import java.util.function.IntFunction;

/** A gRPC server on a real socket with scripted responses. Its policy observes float32 [4]. */
final class ScriptedServer extends PolicyServiceGrpc.PolicyServiceImplBase
    implements AutoCloseable, ServerInterceptor {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  final AtomicInteger descriptions = new AtomicInteger();
  final AtomicInteger calls = new AtomicInteger();
  final List<String> authorizations = Collections.synchronizedList(new ArrayList<>());

  /** Whether GetPolicy succeeds. */
  volatile boolean describes = true;

  /** Returns the error of the n-th call of Act, counted from 1; null for success. */
  volatile IntFunction<StatusRuntimeException> failure = n -> null;

  /** Responds to a message of a session. */
  volatile BiConsumer<PlayRequest, StreamObserver<PlayResponse>> play =
      (request, answers) -> answers.onNext(answer(request.getId()));

  /** The response of Act; null for no response. */
  volatile ActResponse response = act(0);

  /** Counts the calls of Act that were cancelled before their response. */
  final Semaphore cancelled = new Semaphore(0);

  private final Server server;

  ScriptedServer() throws IOException {
    this(0);
  }

  ScriptedServer(int port) throws IOException {
    server =
        Grpc.newServerBuilderForPort(port, InsecureServerCredentials.create())
            .addService(io.grpc.ServerInterceptors.intercept(this, this))
            .build()
            .start();
  }

  int port() {
    return server.getPort();
  }

  String target() {
    return "127.0.0.1:" + port();
  }

  static StatusRuntimeException unavailable(Integer retryMillis) {
    return StatusProto.toStatusRuntimeException(
        retryMillis == null
            ? Status.newBuilder().setCode(Code.UNAVAILABLE_VALUE).setMessage("starting").build()
            : later(
                Code.UNAVAILABLE, Duration.newBuilder().setNanos(retryMillis * 1_000_000).build()));
  }

  /** Returns a status with a RetryInfo. */
  static Status later(Code code, Duration delay) {
    return Status.newBuilder()
        .setCode(code.getNumber())
        .setMessage("starting")
        .addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()))
        .build();
  }

  static ActResponse act(long action) {
    return ActResponse.newBuilder()
        .setAction(Tensor.of(new long[] {action}).toTensorMessage())
        .build();
  }

  static PlayResponse answer(long id) {
    return PlayResponse.newBuilder().setId(id).setAct(act(id)).build();
  }

  @Override
  public void getPolicy(GetPolicyRequest request, StreamObserver<GetPolicyResponse> observer) {
    descriptions.incrementAndGet();
    if (!describes) {
      observer.onError(unavailable(null));
      return;
    }
    BoxSpace box = BoxSpace.newBuilder().setDtype(DataType.DATA_TYPE_FLOAT32).addShape(4).build();
    PolicySpec spec =
        PolicySpec.newBuilder().setObservationSpace(Space.newBuilder().setBox(box)).build();
    observer.onNext(
        GetPolicyResponse.newBuilder()
            .setPolicy(Policy.newBuilder().setSpec(spec).setSpecHash("hash"))
            .build());
    observer.onCompleted();
  }

  @Override
  public void act(ActRequest request, StreamObserver<ActResponse> observer) {
    StatusRuntimeException failed = failure.apply(calls.incrementAndGet());
    if (failed != null) {
      observer.onError(failed);
      return;
    }
    if (response == null) {
      ((ServerCallStreamObserver<ActResponse>) observer).setOnCancelHandler(cancelled::release);
      return;
    }
    observer.onNext(response);
    observer.onCompleted();
  }

  @Override
  public StreamObserver<PlayRequest> play(StreamObserver<PlayResponse> answers) {
    return new StreamObserver<>() {
      @Override
      public void onNext(PlayRequest request) {
        play.accept(request, answers);
      }

      @Override
      public void onError(Throwable gone) {
        // The client has disconnected.
      }

      @Override
      public void onCompleted() {
        answers.onCompleted();
      }
    };
  }

  @Override
  public <Q, A> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
    authorizations.add(String.valueOf(headers.get(AUTHORIZATION)));
    return next.startCall(call, headers);
  }

  @Override
  public void close() {
    server.shutdownNow();
  }
}

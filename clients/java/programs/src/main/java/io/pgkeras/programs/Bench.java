package io.pgkeras.programs;

import com.google.gson.Gson;
import io.grpc.Deadline;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.stub.StreamObserver;
import io.pgkeras.client.ActOptions;
import io.pgkeras.client.PolicyClient;
import io.pgkeras.client.Tensor;
import io.pgkeras.v1.ActResponse;
import io.pgkeras.v1.PlayRequest;
import io.pgkeras.v1.PlayResponse;
import io.pgkeras.v1.PolicyServiceGrpc;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;

/**
 * Measures sessions of the client and bare gRPC streams. conformance/README.md describes its
 * commands.
 */
public final class Bench {
  private static final int WAIT_SECONDS = 30;

  private Bench() {}

  /** Executes the commands on standard input until its end. */
  public static void main(String[] words) throws IOException, InterruptedException {
    var commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = commands.readLine(); line != null; line = commands.readLine()) {
      String[] command = line.trim().split(" +");
      Map<String, Object> answer =
          switch (command[0]) {
            case "serve" -> serve();
            case "play" ->
                play(command[1], Integer.parseInt(command[2]), Double.parseDouble(command[3]));
            case "echo" ->
                echo(command[1], Integer.parseInt(command[2]), Double.parseDouble(command[3]));
            default -> throw new IllegalArgumentException("unknown command: " + line);
          };
      System.out.println(new Gson().toJson(answer));
    }
    System.exit(0); // the echo server's threads would keep the process alive
  }

  private static Map<String, Object> serve() throws IOException {
    var server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(new Echo())
            .build()
            .start();
    return Map.of("port", server.getPort());
  }

  private static Map<String, Object> play(String target, int environments, double seconds)
      throws InterruptedException {
    float[] reward = new float[environments];
    Arrays.fill(reward, 1);
    boolean[] going = new boolean[environments];
    float[] observation = new float[4 * environments];
    try (var client = PolicyClient.builder(target).policy("cartpole-v1").build();
        var session = client.play(ActOptions.greedy())) {
      session.step(Tensor.of(observation, environments, 4));
      return measure(
          seconds,
          () ->
              session
                  .step(Tensor.of(observation, environments, 4), reward, going, going)
                  .action()
                  .longs());
    }
  }

  private static Map<String, Object> echo(String target, int environments, double seconds)
      throws InterruptedException {
    float[] reward = new float[environments];
    Arrays.fill(reward, 1);
    boolean[] going = new boolean[environments];
    PlayRequest request =
        PlayRequest.newBuilder()
            .setId(1)
            .setObservation(Tensor.of(new float[4 * environments], environments, 4).toMessage())
            .setReward(Tensor.of(reward).toMessage().getTensor())
            .setTerminated(Tensor.of(going).toMessage().getTensor())
            .setTruncated(Tensor.of(going).toMessage().getTensor())
            .build();
    ManagedChannel channel =
        Grpc.newChannelBuilder(target, InsecureChannelCredentials.create()).build();
    try {
      SynchronousQueue<Object> answers = new SynchronousQueue<>();
      StreamObserver<PlayRequest> stream =
          PolicyServiceGrpc.newStub(channel)
              .withDeadline(Deadline.after((long) seconds + WAIT_SECONDS, TimeUnit.SECONDS))
              .play(new Inbox(answers));
      Step step =
          () -> {
            stream.onNext(request);
            if (!(answers.poll(WAIT_SECONDS, TimeUnit.SECONDS) instanceof PlayResponse)) {
              throw new IllegalStateException("no answer from " + target);
            }
          };
      step.make(); // connects and loads classes, like the first step of play
      return measure(seconds, step);
    } finally {
      channel.shutdownNow();
    }
  }

  private interface Step {
    void make() throws InterruptedException;
  }

  private static Map<String, Object> measure(double seconds, Step step)
      throws InterruptedException {
    LongStream.Builder latencies = LongStream.builder();
    long begin = System.nanoTime();
    long now = begin;
    while (now - begin < seconds * 1e9) {
      step.make();
      long then = System.nanoTime();
      latencies.add(then - now);
      now = then;
    }
    long[] sorted = latencies.build().sorted().toArray();
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("messages", sorted.length);
    report.put("seconds", (now - begin) / 1e9);
    report.put("p50_us", sorted[(int) (0.5 * (sorted.length - 1))] / 1e3);
    report.put("p99_us", sorted[(int) (0.99 * (sorted.length - 1))] / 1e3);
    return report;
  }

  private record Inbox(SynchronousQueue<Object> answers) implements StreamObserver<PlayResponse> {
    @Override
    public void onNext(PlayResponse response) {
      put(response);
    }

    @Override
    public void onError(Throwable error) {
      answers.offer(error); // ignored after the last step
    }

    @Override
    public void onCompleted() {
      answers.offer("the end");
    }

    private void put(Object answer) {
      try {
        answers.put(answer);
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  private static final class Echo extends PolicyServiceGrpc.PolicyServiceImplBase {
    @Override
    public StreamObserver<PlayRequest> play(StreamObserver<PlayResponse> answers) {
      return new StreamObserver<>() {
        @Override
        public void onNext(PlayRequest request) {
          int rows = (int) request.getObservation().getTensor().getShape(0);
          var action = Tensor.of(new long[rows]).toMessage().getTensor();
          answers.onNext(
              PlayResponse.newBuilder()
                  .setId(request.getId())
                  .setAct(ActResponse.newBuilder().setAction(action))
                  .build());
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
  }
}

package io.pgkeras.programs;

import com.google.gson.Gson;
import io.pgkeras.client.ActOptions;
import io.pgkeras.client.Actions;
import io.pgkeras.client.PolicyClient;
import io.pgkeras.client.ServerUnavailableException;
import io.pgkeras.client.Session;
import io.pgkeras.client.Spaces;
import io.pgkeras.client.StepOptions;
import io.pgkeras.client.Tensor;
import java.time.Duration;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SplittableRandom;

/**
 * Plays CartPole-v1 with the actions of a policy server: {@code --target HOST:PORT [--episodes
 * 20]}. {@code --environments 256 --steps 1000} measures the throughput with many environments
 * instead. {@code --teach 24 [--patience 10]} trains a policy with that many environments, until no
 * run has responded for 10 seconds.
 */
public final class Simulator {
  private final CartPole[] carts;
  private final float[] observation;
  private final float[] reward;
  private final boolean[] terminated;
  private final boolean[] truncated;
  private final boolean[] starts;

  private Simulator(int environments) {
    SplittableRandom random = new SplittableRandom(0);
    carts = new CartPole[environments];
    Arrays.setAll(carts, i -> new CartPole(random.split()));
    observation = new float[4 * environments];
    reward = new float[environments];
    Arrays.fill(reward, 1);
    terminated = new boolean[environments];
    truncated = new boolean[environments];
    starts = new boolean[environments];
  }

  /** Plays, and prints one JSON line. */
  public static void main(String[] words) {
    Arguments arguments = Arguments.parse(words);
    int teaching = Integer.parseInt(arguments.get("teach", "0"));
    if (teaching > 0) {
      try (var client = PolicyClient.builder(arguments.get("target", "127.0.0.1:50051")).build()) {
        Duration patience = Duration.ofSeconds(Long.parseLong(arguments.get("patience", "10")));
        System.out.println(new Gson().toJson(teach(client, teaching, patience)));
      }
      return;
    }
    int environments = Integer.parseInt(arguments.get("environments", "0"));
    try (var client =
            PolicyClient.builder(arguments.get("target", "127.0.0.1:50051"))
                .policy(arguments.get("policy", "cartpole-v1"))
                .build();
        var session = client.play(ActOptions.greedy())) {
      Map<String, Object> report =
          environments > 0
              ? measure(session, environments, Integer.parseInt(arguments.get("steps", "1000")))
              : play(session, Integer.parseInt(arguments.get("episodes", "20")));
      System.out.println(new Gson().toJson(report));
    }
  }

  /** Plays whole episodes in sequence. */
  private static Map<String, Object> play(Session session, int episodes) {
    Simulator simulator = new Simulator(1);
    long[] actions = simulator.begin(session);
    int ended = 0;
    long steps = 0;
    while (true) {
      simulator.step(actions);
      steps++;
      if (simulator.starts[0] && ++ended == episodes) {
        break;
      }
      actions = simulator.ask(session);
    }
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("episodes", episodes);
    report.put("mean_return", (double) steps / episodes);
    report.put("steps", steps);
    return report;
  }

  /** Measures the throughput with many environments in every message. */
  private static Map<String, Object> measure(Session session, int environments, int steps) {
    Simulator simulator = new Simulator(environments);
    long[] actions = simulator.begin(session);
    long begin = System.nanoTime();
    for (int i = 0; i < steps; i++) {
      simulator.step(actions);
      actions = simulator.ask(session);
    }
    double seconds = (System.nanoTime() - begin) / 1e9;
    Map<String, Object> report = new LinkedHashMap<>();
    report.put("environments", environments);
    report.put("steps", steps);
    report.put("environment_steps_per_second", environments * (double) steps / seconds);
    return report;
  }

  /** Plays until no run has responded for the duration of patience. A run may be started again. */
  private static Map<String, Object> teach(
      PolicyClient client, int environments, Duration patience) {
    long messages = 0;
    long lastResponse = System.nanoTime();
    while (true) {
      long before = messages;
      try (Session session = client.play(declaration(environments), ActOptions.sample())) {
        Simulator simulator = new Simulator(environments);
        Actions answer = session.step(simulator.observe());
        while (true) {
          messages++;
          simulator.step(answer.action().longs(), answer.hold());
          answer =
              session.step(
                  simulator.observe(),
                  simulator.reward,
                  simulator.terminated,
                  simulator.truncated,
                  StepOptions.starts(simulator.starts));
        }
      } catch (ServerUnavailableException gone) {
        if (messages > before) {
          lastResponse = System.nanoTime(); // also while the policy is being updated
        }
        if (System.nanoTime() - lastResponse < patience.toNanos()) {
          pause(gone);
          continue;
        }
        if (messages == 0) {
          throw gone;
        }
      }
      Map<String, Object> report = new LinkedHashMap<>();
      report.put("environments", environments);
      report.put("messages", messages);
      return report;
    }
  }

  private static io.pgkeras.client.Simulator declaration(int environments) {
    double infinity = Double.POSITIVE_INFINITY;
    return new io.pgkeras.client.Simulator(
        Spaces.box(-infinity, infinity, 4), Spaces.discrete(2), environments, "CartPole in Java");
  }

  private static void pause(ServerUnavailableException gone) {
    try {
      Thread.sleep(500);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw gone;
    }
  }

  private void step(long[] actions) {
    step(actions, null);
  }

  /**
   * Steps all carts. A cart whose episode has ended is reset immediately. A cart that is held
   * repeats the first observation of its episode.
   */
  private void step(long[] actions, boolean[] hold) {
    for (int i = 0; i < carts.length; i++) {
      if (hold != null && hold[i]) {
        terminated[i] = false;
        truncated[i] = false;
        starts[i] = true;
        continue;
      }
      carts[i].step(actions[i]);
      terminated[i] = carts[i].terminated();
      truncated[i] = carts[i].truncated();
      starts[i] = terminated[i] || truncated[i];
      if (starts[i]) {
        carts[i].reset();
      }
    }
  }

  private long[] begin(Session session) {
    return session.step(observe()).action().longs();
  }

  private long[] ask(Session session) {
    // The observation of a cart whose episode has ended is the first of its next episode.
    StepOptions options = StepOptions.starts(starts);
    return session.step(observe(), reward, terminated, truncated, options).action().longs();
  }

  private Tensor observe() {
    for (int i = 0; i < carts.length; i++) {
      carts[i].observe(observation, 4 * i);
    }
    return Tensor.of(observation, carts.length, 4);
  }
}

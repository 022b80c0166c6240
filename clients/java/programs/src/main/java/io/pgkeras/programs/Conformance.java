package io.pgkeras.programs;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.pgkeras.client.PolicyClient;
import io.pgkeras.client.PolicyNotFoundException;
import io.pgkeras.client.PolicyServiceException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/** The conformance program of the Java client. conformance/README.md specifies it. */
public final class Conformance implements AutoCloseable {
  private final Arguments arguments;
  private final JsonObject vectors;
  private final PolicyClient client;

  private Conformance(Arguments arguments) throws IOException {
    this.arguments = arguments;
    vectors = JsonParser.parseString(Files.readString(Path.of(flag("vectors")))).getAsJsonObject();
    client = connect("cartpole-v1");
  }

  /** A scenario. It fails by throwing. */
  @FunctionalInterface
  interface Scenario {
    void play() throws IOException, InterruptedException;
  }

  /** Thrown by a scenario that cannot be run. */
  static final class Skipped extends RuntimeException {
    private static final long serialVersionUID = 1;

    Skipped(String reason) {
      super(reason);
    }
  }

  /** Runs the scenarios, and exits with 1 if one failed. */
  public static void main(String[] words) throws IOException, InterruptedException {
    Arguments arguments = Arguments.parse(words);
    boolean failed = false;
    try (var program = new Conformance(arguments)) {
      for (var scenario : program.scenarios().entrySet()) {
        if (arguments.get("only", scenario.getKey()).equals(scenario.getKey())) {
          failed |= !passes(scenario.getKey(), scenario.getValue());
        }
      }
    }
    System.exit(failed ? 1 : 0);
  }

  private static boolean passes(String name, Scenario scenario)
      throws IOException, InterruptedException {
    try {
      scenario.play();
      System.out.println("PASS " + name);
    } catch (Skipped reason) {
      System.out.println("SKIP " + name + ": " + reason.getMessage());
    } catch (PolicyServiceException | Checks.Failed failed) {
      failed.printStackTrace();
      System.out.println("FAIL " + name + ": " + failed.toString().replaceAll("\\s+", " "));
      return false;
    }
    return true;
  }

  private Map<String, Scenario> scenarios() {
    Answers answers = new Answers(this);
    Sessions sessions = new Sessions(this);
    Observations observations = new Observations(this);
    Faults faults = new Faults(this);
    Map<String, Scenario> all = new LinkedHashMap<>();
    all.put("describe", answers::describe);
    all.put("single", answers::single);
    all.put("batch", answers::batch);
    all.put("seeded_calls", answers::seededCalls);
    all.put("seeded_sessions", sessions::seededSessions);
    all.put("session_goes_on", sessions::sessionGoesOn);
    all.put("unknown_policy", faults::unknownPolicy);
    all.put("bad_shape", faults::badShape);
    all.put("image", answers::image);
    all.put("masks", sessions::masks);
    all.put("memory", sessions::memory);
    all.put("structured", sessions::structured);
    all.put("structured_observations", observations::structured);
    all.put("deadline", faults::deadline);
    all.put("nobody", faults::nobody);
    all.put("busy", faults::busy);
    all.put("tls_and_token", faults::tlsAndToken);
    all.put("restart", faults::restart);
    return all;
  }

  PolicyClient client() {
    return client;
  }

  JsonObject vectors() {
    return vectors;
  }

  String flag(String name) {
    String value = arguments.get(name, "");
    if (value.isEmpty()) {
      throw new Skipped("no --" + name);
    }
    return value;
  }

  PolicyClient connect(String policy) {
    return PolicyClient.builder(flag("target")).policy(policy).build();
  }

  /** Returns a client of a policy that the server may lack. */
  PolicyClient fixture(String policy) {
    PolicyClient found = connect(policy);
    try {
      found.describe();
      return found;
    } catch (PolicyNotFoundException missing) {
      found.close();
      throw new Skipped("the server has no policy " + policy);
    }
  }

  @Override
  public void close() {
    client.close();
  }
}

package io.pgkeras.programs;

import static io.pgkeras.programs.Checks.BAD_ROW;
import static io.pgkeras.programs.Checks.ROW;
import static io.pgkeras.programs.Checks.booleans;
import static io.pgkeras.programs.Checks.check;
import static io.pgkeras.programs.Checks.equal;
import static io.pgkeras.programs.Checks.failure;
import static io.pgkeras.programs.Checks.floats;
import static io.pgkeras.programs.Checks.longs;
import static io.pgkeras.programs.Checks.near;
import static io.pgkeras.programs.Checks.observation;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.pgkeras.client.ActOptions;
import io.pgkeras.client.Actions;
import io.pgkeras.client.InvalidRequestException;
import io.pgkeras.client.Output;
import io.pgkeras.client.Session;
import io.pgkeras.client.StepOptions;
import io.pgkeras.client.Tensor;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import java.util.function.IntPredicate;

/** The scenarios of sessions, masks and memory. */
record Sessions(Conformance program) {
  private static final int ROWS = 32;
  private static final int ACTIONS = 5;

  void seededSessions() {
    for (JsonElement element : program.vectors().getAsJsonArray("sessions")) {
      JsonObject vector = element.getAsJsonObject();
      long seed = Long.parseUnsignedLong(vector.get("seed").getAsString());
      try (Session session = program.client().play(ActOptions.sample().withSeed(seed))) {
        for (JsonElement told : vector.getAsJsonArray("steps")) {
          JsonObject step = told.getAsJsonObject();
          Actions answer =
              step.has("reward")
                  ? session.step(
                      observation(step),
                      floats(step.get("reward")),
                      booleans(step.get("terminated")),
                      booleans(step.get("truncated")))
                  : session.step(observation(step));
          equal(answer.action().longs(), longs(step.get("action")));
        }
      }
    }
  }

  void sessionGoesOn() {
    try (Session session = program.client().play(ActOptions.greedy())) {
      session.step(ROW);
      Tensor bad = BAD_ROW.reshape(1, 3);
      var error = failure(InvalidRequestException.class, () -> session.step(bad, 1, false, false));
      check(error.field().equals("observation"), error.toString());
      check(!session.isOver(), "the session is over");
      equal(session.step(ROW, 1, false, false).action().shape());
    }
  }

  void masks() {
    Tensor observation = Tensor.of(new float[4 * ROWS], ROWS, 4);
    ActOptions seeded = ActOptions.sample().withSeed(3).withOutputs(Output.DISTRIBUTION);
    try (var client = program.fixture("masked");
        Session session = client.play(seeded)) {
      masked(mask -> client.act(observation, seeded.withActionMask(mask)));
      float[] reward = new float[ROWS];
      boolean[] going = new boolean[ROWS];
      boolean[] stepped = {false};
      masked(
          mask -> {
            StepOptions options = StepOptions.NONE.withActionMask(mask);
            boolean first = !stepped[0];
            stepped[0] = true;
            return first
                ? session.step(observation, options)
                : session.step(observation, reward, going, going, options);
          });
    }
  }

  private static void masked(Function<Tensor, Actions> ask) {
    long[] own = ask.apply(mask(i -> i % ACTIONS == i / ACTIONS % ACTIONS)).action().longs();
    for (int row = 0; row < ROWS; row++) {
      check(own[row] == row % ACTIONS, "row " + row + ": action " + own[row]);
    }
    Actions answer = ask.apply(mask(i -> i % ACTIONS % 2 == 1));
    check(
        Arrays.stream(answer.action().longs()).allMatch(action -> action % 2 == 1),
        "actions " + Arrays.toString(answer.action().longs()));
    float[] probabilities = answer.distribution().parameters().get("probabilities").floats();
    for (int i = 0; i < probabilities.length; i++) {
      check(
          i % ACTIONS % 2 == 1 || probabilities[i] < 1e-6,
          "probabilities " + Arrays.toString(probabilities));
    }
    var error = failure(InvalidRequestException.class, () -> ask.apply(mask(i -> false)));
    check(error.field().equals("action_mask"), error.toString());
  }

  private static Tensor mask(IntPredicate allowed) {
    boolean[] mask = new boolean[ROWS * ACTIONS];
    for (int i = 0; i < mask.length; i++) {
      mask[i] = allowed.test(i);
    }
    return Tensor.of(mask, ROWS, ACTIONS);
  }

  void structured() {
    Tensor zeros = Tensor.of(new float[4 * ROWS], ROWS, 4);
    boolean[] allowed = new boolean[7 * ROWS];
    for (int row = 0; row < ROWS; row++) {
      allowed[7 * row + row % 4] = true;
      allowed[7 * row + 4 + row % 3] = true;
    }
    Tensor mask = Tensor.of(allowed, ROWS, 7);
    ActOptions seeded =
        ActOptions.sample().withSeed(3).withOutputs(Output.DISTRIBUTION, Output.GREEDY_ACTION);
    try (var client = program.fixture("structured");
        Session session = client.play(seeded);
        Session alone = client.play(ActOptions.sample())) {
      inParts(client.act(zeros, seeded.withActionMask(mask)));
      inParts(session.step(zeros, StepOptions.NONE.withActionMask(mask)));
      Actions single = alone.step(Tensor.of(new float[4]));
      equal(single.parts().get("aim").shape(), 2);
      equal(single.parts().get("move").shape());
    }
  }

  private static void inParts(Actions answer) {
    for (Map<String, Tensor> parts : List.of(answer.parts(), answer.greedyParts())) {
      float[] aim = parts.get("aim").floats();
      check(aim.length == 64, "an aim of " + aim.length);
      for (float number : aim) {
        check(Math.abs(number) <= 1, "aim " + Arrays.toString(aim));
      }
      byte[] bits = parts.get("hands.0").bytes();
      check(bits.length == 96, "bits: " + bits.length);
      for (byte bit : bits) {
        check(bit == 0 || bit == 1, "hands.0 " + Arrays.toString(bits));
      }
      for (int row = 0; row < ROWS; row++) {
        check(parts.get("hands.1").longs()[row] == row % 4, "row " + row + ": hands.1");
        check(parts.get("move").longs()[row] == row % 3, "row " + row + ": move");
      }
    }
    Map<String, Tensor> found = answer.distribution().parameters();
    List<String> names =
        List.of(
            "aim.mean",
            "aim.stddev",
            "hands.0.probabilities",
            "hands.1.probabilities",
            "move.probabilities");
    check(found.keySet().equals(Set.copyOf(names)), "parameters " + found.keySet());
    float[] probabilities = found.get("move.probabilities").floats();
    for (int i = 0; i < probabilities.length; i++) {
      float expected = i / 3 % 3 == i % 3 ? 1 : 0;
      check(
          Math.abs(probabilities[i] - expected) < 1e-5,
          "move.probabilities " + Arrays.toString(probabilities));
    }
  }

  void memory() {
    Tensor ones = Tensor.of(new float[] {1, 1, 1, 1});
    ActOptions greedy = ActOptions.greedy();
    try (var client = program.fixture("memory");
        Session session = client.play(greedy.withOutputs(Output.DISTRIBUTION))) {
      Actions first = client.act(ones, greedy);
      float[] second = probabilities(client.act(ones, greedy.withState(first.state())));
      float[] third = probabilities(client.act(ones, greedy));
      boolean differ = false;
      for (int i = 0; i < second.length; i++) {
        differ |= Math.abs(second[i] - third[i]) > 1e-4;
      }
      check(differ, "the state changes nothing: " + Arrays.toString(second));
      near(third, probabilities(first));
      near(probabilities(session.step(ones)), third);
      near(probabilities(session.step(ones, 1, false, false)), second);
      near(probabilities(session.step(ones, 1, false, false, StepOptions.starts(true))), third);
    }
  }

  private static float[] probabilities(Actions answer) {
    return answer.distribution().parameters().get("probabilities").floats();
  }
}

package io.pgkeras.programs;

import static io.pgkeras.programs.Checks.check;
import static io.pgkeras.programs.Checks.equal;
import static io.pgkeras.programs.Checks.failure;
import static io.pgkeras.programs.Checks.floats;
import static io.pgkeras.programs.Checks.longs;
import static io.pgkeras.programs.Checks.near;

import com.google.gson.JsonObject;
import io.pgkeras.client.ActOptions;
import io.pgkeras.client.Actions;
import io.pgkeras.client.InvalidRequestException;
import io.pgkeras.client.Output;
import io.pgkeras.client.Session;
import io.pgkeras.client.Tensor;
import io.pgkeras.client.Value;
import java.util.Arrays;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.LongStream;

/** The scenario of structured observations. */
record Observations(Conformance program) {
  private static final int ROWS = 16;

  void structured() {
    JsonObject vector = program.vectors().getAsJsonObject("structured_observations");
    ActOptions seeded =
        ActOptions.sample()
            .withSeed(Long.parseUnsignedLong(vector.get("seed").getAsString()))
            .withOutputs(Output.DISTRIBUTION);
    try (var client = program.fixture("parts");
        Session session = client.play(seeded);
        Session alone = client.play(seeded)) {
      Function<Value, Actions> act = observation -> client.act(observation, seeded);
      judge(act.apply(Rows.all().observation()), vector, Rows.all());
      wrongParts(act, Rows.all());
      judge(session.step(Rows.all().observation()), vector, Rows.all());
      judge(alone.step(Rows.single(0).observation()), vector, Rows.single(0));
      Function<Value, Actions> step = observation -> alone.step(observation, 1, false, false);
      wrongParts(step, Rows.single(1));
      check(!alone.isOver(), "the session is over");
      for (int row = 1; row < ROWS; row++) {
        judge(step.apply(Rows.single(row).observation()), vector, Rows.single(row));
      }
    }
  }

  private static void judge(Actions answer, JsonObject vector, Rows rows) {
    equal(answer.action().shape(), rows.batch);
    long[] actions = longs(vector.get("action"));
    equal(answer.action().longs(), Arrays.copyOfRange(actions, rows.begin, rows.end));
    float[] probabilities = floats(vector.get("probabilities"));
    near(
        answer.distribution().parameters().get("probabilities").floats(),
        Arrays.copyOfRange(probabilities, 3 * rows.begin, 3 * rows.end));
  }

  /** Checks that observations with a missing or misshapen part fail and name the part. */
  private static void wrongParts(Function<Value, Actions> ask, Rows rows) {
    var missing = failure(InvalidRequestException.class, () -> ask.apply(rows.missing()));
    check(missing.field().equals("observation.hands.1"), missing.toString());
    var misshapen = failure(InvalidRequestException.class, () -> ask.apply(rows.misshapen()));
    check(misshapen.field().equals("observation.position"), misshapen.toString());
    check(misshapen.expected().contains("[4]"), misshapen.toString());
  }

  /**
   * Returns some of the scenario's observations.
   *
   * @param begin the first row
   * @param end the row after the last
   * @param batch the length of the leading axis; none for a single observation
   */
  private record Rows(int begin, int end, long... batch) {
    static Rows all() {
      return new Rows(0, ROWS, ROWS);
    }

    static Rows single(int row) {
      return new Rows(row, row + 1);
    }

    Value observation() {
      return parts(Map.of("0", bits(), "1", choices()), position());
    }

    Value missing() {
      return parts(Map.of("0", bits()), position());
    }

    Value misshapen() {
      return parts(
          Map.of("0", bits(), "1", choices()), Tensor.of(new float[3 * (end - begin)], shape(3)));
    }

    private Value parts(Map<String, Value> hands, Tensor position) {
      return new Value.Fields(
          Map.of("camera", camera(), "hands", new Value.Fields(hands), "position", position));
    }

    private Tensor camera() {
      byte[] pixels = new byte[48 * (end - begin)];
      for (int i = 0; i < pixels.length; i++) {
        pixels[i] = (byte) ((48 * begin + i) % 251);
      }
      return Tensor.ofUint8(pixels, shape(4, 4, 3));
    }

    private Tensor bits() {
      byte[] bits = new byte[3 * (end - begin)];
      for (int i = 0; i < bits.length; i++) {
        bits[i] = (byte) ((3 * begin + i) % 2);
      }
      return Tensor.ofInt8(bits, shape(3));
    }

    private Tensor choices() {
      return Tensor.of(LongStream.range(begin, end).map(row -> row % 4).toArray()).reshape(batch);
    }

    private Tensor position() {
      float[] numbers = new float[4 * (end - begin)];
      for (int i = 0; i < numbers.length; i++) {
        numbers[i] = ((4 * begin + i) % 9 - 4) / 4f;
      }
      return Tensor.of(numbers, shape(4));
    }

    private long[] shape(long... own) {
      return LongStream.concat(Arrays.stream(batch), Arrays.stream(own)).toArray();
    }
  }
}

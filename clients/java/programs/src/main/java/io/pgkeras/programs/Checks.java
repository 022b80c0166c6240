package io.pgkeras.programs;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.pgkeras.client.Tensor;
import java.util.Arrays;
import java.util.Base64;
import java.util.stream.DoubleStream;

/** Checks for scenarios, and readers of the vectors. */
final class Checks {
  static final Tensor ROW = Tensor.of(new float[] {0, 0.1f, 0, -0.1f});
  static final Tensor BAD_ROW = Tensor.of(new float[] {0, 0.1f, 0});

  private static final double TOLERANCE = 1e-5;

  private Checks() {}

  /** A check of a scenario failed. */
  static final class Failed extends RuntimeException {
    private static final long serialVersionUID = 1;

    Failed(String complaint) {
      super(complaint);
    }
  }

  static void check(boolean right, String complaint) {
    if (!right) {
      throw new Failed(complaint);
    }
  }

  static void equal(long[] got, long... expected) {
    check(
        Arrays.equals(got, expected), Arrays.toString(got) + ", not " + Arrays.toString(expected));
  }

  static void near(float[] got, float... expected) {
    boolean same = got.length == expected.length;
    for (int i = 0; same && i < got.length; i++) {
      same = Math.abs(got[i] - expected[i]) <= TOLERANCE * Math.max(1, Math.abs(expected[i]));
    }
    check(same, Arrays.toString(got) + ", not " + Arrays.toString(expected));
  }

  static void sumsToOne(Tensor probabilities) {
    float sum = 0;
    for (float probability : probabilities.floats()) {
      sum += probability;
    }
    near(new float[] {sum}, 1);
  }

  /** Returns the exception of a call that must fail with the given type. */
  static <T extends RuntimeException> T failure(Class<T> kind, Runnable call) {
    try {
      call.run();
    } catch (RuntimeException error) {
      if (kind.isInstance(error)) {
        return kind.cast(error);
      }
      throw new Failed("expected " + kind.getSimpleName() + ", got " + error);
    }
    throw new Failed("expected " + kind.getSimpleName() + ", but the call succeeded");
  }

  static Tensor observation(JsonObject vector) {
    JsonObject observation = vector.getAsJsonObject("observation");
    long[] shape = longs(observation.get("shape"));
    Tensor tensor = Tensor.of(floats(observation.get("values")), shape);
    byte[] data = new byte[tensor.buffer().remaining()];
    tensor.buffer().get(data);
    check(
        Arrays.equals(data, Base64.getDecoder().decode(observation.get("data").getAsString())),
        "data and values differ");
    return tensor;
  }

  /** Flattens a number or nested lists of numbers. */
  static float[] floats(JsonElement value) {
    double[] numbers = numbers(value).toArray();
    float[] found = new float[numbers.length];
    for (int i = 0; i < found.length; i++) {
      found[i] = (float) numbers[i];
    }
    return found;
  }

  static long[] longs(JsonElement value) {
    return numbers(value).mapToLong(number -> (long) number).toArray();
  }

  static boolean[] booleans(JsonElement value) {
    boolean[] found = new boolean[value.getAsJsonArray().size()];
    for (int i = 0; i < found.length; i++) {
      found[i] = value.getAsJsonArray().get(i).getAsBoolean();
    }
    return found;
  }

  private static DoubleStream numbers(JsonElement value) {
    return value.isJsonArray()
        ? value.getAsJsonArray().asList().stream().flatMapToDouble(Checks::numbers)
        : DoubleStream.of(value.getAsDouble());
  }
}

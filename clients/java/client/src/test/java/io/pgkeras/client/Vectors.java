package io.pgkeras.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.stream.Stream;
import org.junit.jupiter.api.Named;
import org.junit.jupiter.params.provider.Arguments;

/** Reads conformance/vectors.json. */
final class Vectors {
  private static final JsonObject ALL = read(Path.of("../../../conformance/vectors.json"));

  private Vectors() {}

  /** Returns the vectors of a section, for parameterized tests. */
  static Stream<Arguments> of(String section) {
    return ALL.getAsJsonArray(section).asList().stream()
        .map(JsonElement::getAsJsonObject)
        .map(vector -> Arguments.of(Named.of(vector.get("name").getAsString(), vector)));
  }

  static byte[] bytes(JsonObject vector, String key) {
    return Base64.getDecoder().decode(vector.get(key).getAsString());
  }

  static long[] shape(JsonObject vector) {
    return vector.getAsJsonArray("shape").asList().stream()
        .mapToLong(JsonElement::getAsLong)
        .toArray();
  }

  /** Returns a tensor of the vector's values, with the vector's dtype. */
  static Tensor tensor(JsonObject vector) {
    JsonArray values = vector.getAsJsonArray("values");
    int n = values.size();
    Tensor flat =
        switch (vector.get("dtype").getAsString()) {
          case "bool" -> {
            boolean[] made = new boolean[n];
            for (int i = 0; i < n; i++) {
              made[i] = values.get(i).getAsBoolean();
            }
            yield Tensor.of(made);
          }
          case "uint8" -> Tensor.ofUint8(narrow(values));
          case "int8" -> Tensor.ofInt8(narrow(values));
          case "uint16" -> Tensor.ofUint16(shorts(values));
          case "int16" -> Tensor.of(shorts(values));
          case "int32" ->
              Tensor.of(values.asList().stream().mapToInt(JsonElement::getAsInt).toArray());
          case "int64" ->
              Tensor.of(
                  values.asList().stream()
                      .mapToLong(value -> Long.parseLong(value.getAsString()))
                      .toArray());
          case "float16" -> {
            short[] made = new short[n];
            for (int i = 0; i < n; i++) {
              made[i] = half(number(values.get(i)));
            }
            yield Tensor.ofFloat16(made);
          }
          case "float32" -> {
            float[] made = new float[n];
            for (int i = 0; i < n; i++) {
              made[i] = (float) number(values.get(i));
            }
            yield Tensor.of(made);
          }
          case "float64" ->
              Tensor.of(values.asList().stream().mapToDouble(Vectors::number).toArray());
          default -> throw new IllegalArgumentException(vector.toString());
        };
    return flat.reshape(shape(vector));
  }

  private static byte[] narrow(JsonArray values) {
    byte[] made = new byte[values.size()];
    for (int i = 0; i < made.length; i++) {
      made[i] = (byte) values.get(i).getAsInt();
    }
    return made;
  }

  private static short[] shorts(JsonArray values) {
    short[] made = new short[values.size()];
    for (int i = 0; i < made.length; i++) {
      made[i] = (short) values.get(i).getAsInt();
    }
    return made;
  }

  private static double number(JsonElement value) {
    return Double.parseDouble(value.getAsString()); // also parses NaN and Infinity
  }

  /** Returns the bits of a number that binary16 represents exactly. */
  private static short half(double value) {
    long bits = Double.doubleToRawLongBits(value);
    int sign = (int) (bits >>> 48) & 0x8000;
    if (value == 0 || Double.isInfinite(value)) {
      return (short) (sign | (value == 0 ? 0 : 0x7c00));
    }
    int exponent = Math.getExponent(value);
    return exponent < -14
        ? (short) (sign | (int) (Math.abs(value) * (1 << 24)))
        : (short) (sign | (exponent + 15) << 10 | (int) (bits >>> 42) & 0x3ff);
  }

  private static JsonObject read(Path path) {
    try {
      return JsonParser.parseString(Files.readString(path)).getAsJsonObject();
    } catch (IOException missing) {
      throw new UncheckedIOException(missing);
    }
  }
}

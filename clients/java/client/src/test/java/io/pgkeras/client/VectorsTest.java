package io.pgkeras.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.gson.JsonObject;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.pgkeras.v1.Space;
import java.time.Duration;
import java.util.Arrays;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Tests the client against the vectors that conformance/README.md describes. */
class VectorsTest {
  static Stream<Arguments> tensors() {
    return Vectors.of("tensors");
  }

  @ParameterizedTest
  @MethodSource("tensors")
  void tensorsAreDecodedAndEncoded(JsonObject vector) throws InvalidProtocolBufferException {
    Tensor decoded =
        Tensor.decode(io.pgkeras.v1.Tensor.parseFrom(Vectors.bytes(vector, "message")), "tensor");
    assertArrayEquals(Vectors.shape(vector), decoded.shape());
    assertSameElements(Vectors.tensor(vector), decoded);
    Tensor made = Vectors.tensor(vector);
    assertEquals(
        "DATA_TYPE_" + vector.get("dtype").getAsString().toUpperCase(), made.dtype().name());
    assertArrayEquals(
        Vectors.bytes(vector, "data"), made.toTensorMessage().getData().toByteArray());
  }

  static Stream<Arguments> badTensors() {
    return Vectors.of("bad_tensors");
  }

  @ParameterizedTest
  @MethodSource("badTensors")
  void badTensorsAreRefused(JsonObject vector) throws InvalidProtocolBufferException {
    var message = io.pgkeras.v1.Tensor.parseFrom(Vectors.bytes(vector, "message"));
    var error = assertThrows(InvalidRequestException.class, () -> Tensor.decode(message, "tensor"));
    assertEquals(vector.get("field").getAsString(), error.field());
  }

  static Stream<Arguments> spaces() {
    return Vectors.of("spaces");
  }

  @ParameterizedTest
  @MethodSource("spaces")
  void spacesAreRead(JsonObject vector) throws InvalidProtocolBufferException {
    Space.Builder expected = Space.newBuilder();
    JsonFormat.parser().merge(vector.get("json").toString(), expected);
    assertEquals(expected.build(), Space.parseFrom(Vectors.bytes(vector, "message")));
  }

  static Stream<Arguments> distributions() {
    return Vectors.of("distributions");
  }

  @ParameterizedTest
  @MethodSource("distributions")
  void distributionsAreRead(JsonObject vector) throws InvalidProtocolBufferException {
    Distribution decoded =
        Distribution.decode(io.pgkeras.v1.Distribution.parseFrom(Vectors.bytes(vector, "message")));
    JsonObject parameters = vector.getAsJsonObject("parameters");
    assertEquals(vector.get("kind").getAsString(), decoded.kind());
    assertEquals(parameters.keySet(), decoded.parameters().keySet());
    for (String name : parameters.keySet()) {
      Tensor parameter = decoded.parameters().get(name);
      assertArrayEquals(Vectors.shape(parameters.getAsJsonObject(name)), parameter.shape());
      assertSameElements(Vectors.tensor(parameters.getAsJsonObject(name)), parameter);
    }
  }

  static Stream<Arguments> errors() {
    return Vectors.of("errors");
  }

  @ParameterizedTest
  @MethodSource("errors")
  void failuresAreTyped(JsonObject vector) {
    Status status =
        Status.fromCodeValue(vector.get("code").getAsInt())
            .withDescription(vector.get("message").getAsString());
    Metadata trailers = new Metadata();
    if (!vector.get("status").isJsonNull()) {
      trailers.put(
          Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER),
          Vectors.bytes(vector, "status"));
    }
    StatusRuntimeException failed = new StatusRuntimeException(status, trailers);
    var error = Failures.translate(failed, "server:1", Duration.ofSeconds(1));
    JsonObject expected = vector.getAsJsonObject("expected");
    assertEquals(expected.get("error").getAsString(), kind(error));
    assertEquals(failed, error.getCause());
    if (expected.has("message")) {
      assertEquals(expected.get("message").getAsString(), error.getMessage());
    }
    if (expected.has("retry_after_seconds")) {
      Duration retryAfter =
          error instanceof ServerBusyException busy
              ? busy.retryAfter()
              : ((ServerUnavailableException) error).retryAfter().orElseThrow();
      assertEquals(expected.get("retry_after_seconds").getAsDouble(), retryAfter.toMillis() / 1e3);
    }
    if (error instanceof InvalidRequestException invalid) {
      assertEquals(expected.get("field").getAsString(), invalid.field());
      assertEquals(expected.get("got").getAsString(), invalid.got());
      if (expected.has("expected")) {
        assertEquals(expected.get("expected").getAsString(), invalid.expected());
      }
    }
  }

  /** Returns the vectors' name of a type: "invalid_request" for an InvalidRequestException. */
  private static String kind(PolicyServiceException error) {
    return error
        .getClass()
        .getSimpleName()
        .replace("Exception", "")
        .replaceAll("([a-z])([A-Z])", "$1_$2")
        .toLowerCase();
  }

  /** Compares the arrays that the tensors return, which tests decoding as well as encoding. */
  private static void assertSameElements(Tensor expected, Tensor got) {
    assertEquals(expected.dtype(), got.dtype());
    switch (got.dtype()) {
      case DATA_TYPE_BOOL -> assertArrayEquals(expected.booleans(), got.booleans());
      case DATA_TYPE_UINT8, DATA_TYPE_INT8 -> assertArrayEquals(expected.bytes(), got.bytes());
      case DATA_TYPE_UINT16, DATA_TYPE_INT16, DATA_TYPE_FLOAT16 ->
          assertArrayEquals(expected.shorts(), got.shorts());
      case DATA_TYPE_INT32 -> assertArrayEquals(expected.ints(), got.ints());
      case DATA_TYPE_INT64 -> assertArrayEquals(expected.longs(), got.longs());
      case DATA_TYPE_FLOAT32 -> assertArrayEquals(expected.floats(), got.floats());
      default -> assertArrayEquals(expected.doubles(), got.doubles());
    }
    assertEquals(
        Arrays.stream(got.shape()).reduce(1, (a, b) -> a * b),
        got.buffer().remaining() / size(got));
  }

  private static int size(Tensor tensor) {
    return switch (tensor.dtype()) {
      case DATA_TYPE_BOOL, DATA_TYPE_UINT8, DATA_TYPE_INT8 -> 1;
      case DATA_TYPE_UINT16, DATA_TYPE_INT16, DATA_TYPE_FLOAT16 -> 2;
      case DATA_TYPE_INT32, DATA_TYPE_FLOAT32 -> 4;
      default -> 8;
    };
  }
}

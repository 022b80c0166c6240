package io.pgkeras.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.pgkeras.v1.DataType;
import java.nio.ByteBuffer;
import java.nio.ReadOnlyBufferException;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class TensorTest {
  @Test
  void pixelsShareMemory() {
    byte[] pixels = {1, 2, 3, 4};
    Tensor array = Tensor.ofUint8(pixels, 2, 2);
    Tensor direct = Tensor.wrap(DataType.DATA_TYPE_UINT8, ByteBuffer.wrap(pixels, 1, 2), 2);
    pixels[1] = 9;
    assertArrayEquals(new byte[] {1, 9, 3, 4}, array.bytes());
    assertArrayEquals(new byte[] {9, 3}, direct.bytes());
  }

  @Test
  void directBuffersAreWrapped() {
    ByteBuffer drawn = ByteBuffer.allocateDirect(3);
    drawn.put(0, new byte[] {7, 8, 9});
    Tensor tensor = Tensor.wrap(DataType.DATA_TYPE_INT8, drawn, 3);
    assertArrayEquals(new byte[] {7, 8, 9}, tensor.toTensorMessage().getData().toByteArray());
  }

  @Test
  void elementsCannotBeChangedFromOutside() {
    Tensor tensor = Tensor.of(new float[] {1, 2});
    assertThrows(ReadOnlyBufferException.class, () -> tensor.buffer().put(0, (byte) 1));
    tensor.shape()[0] = 5;
    assertArrayEquals(new long[] {2}, tensor.shape());
  }

  @Test
  void shapesHaveToFit() {
    assertThrows(IllegalArgumentException.class, () -> Tensor.of(new float[6], 2, 4));
    assertThrows(IllegalArgumentException.class, () -> Tensor.of(new float[6], -2, -3));
    assertThrows(IllegalArgumentException.class, () -> Tensor.of(new float[6]).reshape());
    assertThrows(
        IllegalArgumentException.class,
        () -> Tensor.wrap(DataType.DATA_TYPE_UNSPECIFIED, ByteBuffer.allocate(4), 4));
  }

  @Test
  void readingAnotherTypeSaysWhichItIs() {
    var error = assertThrows(IllegalStateException.class, () -> Tensor.of(new float[1]).longs());
    assertTrue(error.getMessage().contains("DATA_TYPE_FLOAT32"), error.getMessage());
  }

  @Test
  void partsAndTextsBecomeMessages() {
    Value value =
        new Value.Fields(
            Map.of(
                "goal",
                Tensor.of(new long[] {3}),
                "words",
                new Value.Texts(List.of("go", "left"))));
    var fields = value.toMessage().getFields().getFieldsMap();
    assertEquals(List.of("go", "left"), fields.get("words").getTexts().getTextsList());
    assertEquals(DataType.DATA_TYPE_INT64, fields.get("goal").getTensor().getDtype());
  }
}

package io.pgkeras.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import io.pgkeras.v1.DataType;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Map;

/**
 * A dense array in C order, little-endian as on the wire. Numeric arrays are copied in one piece. A
 * tensor shares the memory of the byte array or buffer that it was made from; do not modify it
 * while a call is in flight.
 */
public final class Tensor implements Value {
  private static final int MAX_AXES = 32;

  private static final Map<DataType, Integer> SIZES =
      Map.of(
          DataType.DATA_TYPE_BOOL, 1,
          DataType.DATA_TYPE_UINT8, 1,
          DataType.DATA_TYPE_INT8, 1,
          DataType.DATA_TYPE_UINT16, 2,
          DataType.DATA_TYPE_INT16, 2,
          DataType.DATA_TYPE_FLOAT16, 2,
          DataType.DATA_TYPE_INT32, 4,
          DataType.DATA_TYPE_FLOAT32, 4,
          DataType.DATA_TYPE_INT64, 8,
          DataType.DATA_TYPE_FLOAT64, 8);

  private final DataType dtype;
  private final long[] shape;
  private final ByteString data;

  private Tensor(DataType dtype, long[] shape, ByteString data) {
    this.dtype = dtype;
    this.shape = shape;
    this.data = data;
  }

  /**
   * A float32 tensor, the usual type of observations.
   *
   * @param values the elements in C order
   * @param shape the length of every axis; without it, the tensor is a vector
   * @throws IllegalArgumentException if the number of values does not match the shape, here and in
   *     the methods below
   */
  public static Tensor of(float[] values, long... shape) {
    ByteBuffer bytes = allocate(values.length, Float.BYTES);
    bytes.asFloatBuffer().put(values);
    return make(DataType.DATA_TYPE_FLOAT32, bytes, shape);
  }

  /** A float64 tensor. */
  public static Tensor of(double[] values, long... shape) {
    ByteBuffer bytes = allocate(values.length, Double.BYTES);
    bytes.asDoubleBuffer().put(values);
    return make(DataType.DATA_TYPE_FLOAT64, bytes, shape);
  }

  /** An int64 tensor. */
  public static Tensor of(long[] values, long... shape) {
    ByteBuffer bytes = allocate(values.length, Long.BYTES);
    bytes.asLongBuffer().put(values);
    return make(DataType.DATA_TYPE_INT64, bytes, shape);
  }

  /** An int32 tensor. */
  public static Tensor of(int[] values, long... shape) {
    ByteBuffer bytes = allocate(values.length, Integer.BYTES);
    bytes.asIntBuffer().put(values);
    return make(DataType.DATA_TYPE_INT32, bytes, shape);
  }

  /** An int16 tensor. */
  public static Tensor of(short[] values, long... shape) {
    return ofShorts(DataType.DATA_TYPE_INT16, values, shape);
  }

  /** A uint16 tensor of the unsigned numbers with these bits. */
  public static Tensor ofUint16(short[] values, long... shape) {
    return ofShorts(DataType.DATA_TYPE_UINT16, values, shape);
  }

  /** A float16 tensor of the IEEE 754 binary16 numbers with these bits. */
  public static Tensor ofFloat16(short[] values, long... shape) {
    return ofShorts(DataType.DATA_TYPE_FLOAT16, values, shape);
  }

  /** A uint8 tensor, the usual type of pixels. It shares the array's memory. */
  public static Tensor ofUint8(byte[] values, long... shape) {
    return make(DataType.DATA_TYPE_UINT8, ByteBuffer.wrap(values), shape);
  }

  /** An int8 tensor. It shares the array's memory. */
  public static Tensor ofInt8(byte[] values, long... shape) {
    return make(DataType.DATA_TYPE_INT8, ByteBuffer.wrap(values), shape);
  }

  /** A bool tensor. Copied element by element, because Java does not specify the layout. */
  public static Tensor of(boolean[] values, long... shape) {
    byte[] bytes = new byte[values.length];
    for (int i = 0; i < values.length; i++) {
      bytes[i] = (byte) (values[i] ? 1 : 0);
    }
    return make(DataType.DATA_TYPE_BOOL, ByteBuffer.wrap(bytes), shape);
  }

  /**
   * Wraps a buffer as a tensor of any type. The tensor shares its memory; use it for a buffer that
   * a renderer draws into.
   *
   * @param dtype the type of the elements
   * @param bytes the elements from its position to its limit, little-endian
   * @param shape the length of every axis
   */
  public static Tensor wrap(DataType dtype, ByteBuffer bytes, long... shape) {
    Integer size = SIZES.get(dtype);
    if (size == null || !fits(shape, bytes.remaining(), size)) {
      throw new IllegalArgumentException(
          bytes.remaining() + " bytes do not match " + dtype + " " + Arrays.toString(shape));
    }
    return new Tensor(dtype, shape.clone(), UnsafeByteOperations.unsafeWrap(bytes));
  }

  /** Returns the same elements with another shape; no arguments for a scalar. */
  public Tensor reshape(long... other) {
    return wrap(dtype, data.asReadOnlyByteBuffer(), other);
  }

  /** Returns the type of the elements. */
  public DataType dtype() {
    return dtype;
  }

  /** Returns the length of every axis; empty for a scalar. */
  public long[] shape() {
    return shape.clone();
  }

  /** Returns the elements in wire format without a copy: read-only, little-endian. */
  public ByteBuffer buffer() {
    return data.asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
  }

  /**
   * Returns the elements of a float32 tensor.
   *
   * @throws IllegalStateException if the tensor has another type, here and in the methods below
   */
  public float[] floats() {
    float[] values = new float[count(DataType.DATA_TYPE_FLOAT32)];
    buffer().asFloatBuffer().get(values);
    return values;
  }

  /** Returns the elements of a float64 tensor. */
  public double[] doubles() {
    double[] values = new double[count(DataType.DATA_TYPE_FLOAT64)];
    buffer().asDoubleBuffer().get(values);
    return values;
  }

  /** Returns the elements of an int64 tensor, the usual type of discrete actions. */
  public long[] longs() {
    long[] values = new long[count(DataType.DATA_TYPE_INT64)];
    buffer().asLongBuffer().get(values);
    return values;
  }

  /** Returns the elements of an int32 tensor. */
  public int[] ints() {
    int[] values = new int[count(DataType.DATA_TYPE_INT32)];
    buffer().asIntBuffer().get(values);
    return values;
  }

  /** Returns the elements of an int16 tensor, or the element bits of a uint16 or float16 tensor. */
  public short[] shorts() {
    short[] values =
        new short
            [count(
                DataType.DATA_TYPE_INT16, DataType.DATA_TYPE_UINT16, DataType.DATA_TYPE_FLOAT16)];
    buffer().asShortBuffer().get(values);
    return values;
  }

  /** Returns the elements of an int8 tensor, or the element bits of a uint8 tensor. */
  public byte[] bytes() {
    count(DataType.DATA_TYPE_INT8, DataType.DATA_TYPE_UINT8);
    return data.toByteArray();
  }

  /** Returns the elements of a bool tensor. */
  public boolean[] booleans() {
    boolean[] values = new boolean[count(DataType.DATA_TYPE_BOOL)];
    for (int i = 0; i < values.length; i++) {
      values[i] = data.byteAt(i) != 0;
    }
    return values;
  }

  @Override
  public String toString() {
    return dtype + " " + Arrays.toString(shape);
  }

  io.pgkeras.v1.Tensor toTensorMessage() {
    var message = io.pgkeras.v1.Tensor.newBuilder().setDtype(dtype).setData(data);
    for (long length : shape) {
      message.addShape(length);
    }
    return message.build();
  }

  /**
   * Decodes a message. The tensor shares its memory.
   *
   * @param field the path of the tensor in the response, for the exception
   */
  static Tensor decode(io.pgkeras.v1.Tensor message, String field) {
    Integer size = SIZES.get(message.getDtype());
    if (size == null) {
      throw new InvalidRequestException(
          field + ".dtype", "a DataType other than UNSPECIFIED", "type " + message.getDtypeValue());
    }
    long[] shape = message.getShapeList().stream().mapToLong(Long::longValue).toArray();
    if (shape.length > MAX_AXES) {
      throw new InvalidRequestException(
          field + ".shape", "at most " + MAX_AXES + " axes", shape.length + " axes");
    }
    if (Arrays.stream(shape).anyMatch(length -> length < 0)) {
      throw new InvalidRequestException(
          field + ".shape", "lengths of at least 0", Arrays.toString(shape));
    }
    ByteString data = message.getData();
    if (!fits(shape, data.size(), size)) {
      throw new InvalidRequestException(
          field + ".data",
          size + " bytes for each element of shape " + Arrays.toString(shape),
          data.size() + " bytes");
    }
    if (message.getDtype() == DataType.DATA_TYPE_BOOL) {
      for (int i = 0; i < data.size(); i++) {
        if ((data.byteAt(i) & ~1) != 0) {
          throw new InvalidRequestException(
              field + ".data", "bytes of 0 or 1 for a bool", "" + data.byteAt(i));
        }
      }
    }
    return new Tensor(message.getDtype(), shape, data);
  }

  private static ByteBuffer allocate(int count, int size) {
    return ByteBuffer.allocate(Math.multiplyExact(count, size)).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static Tensor ofShorts(DataType dtype, short[] values, long[] shape) {
    ByteBuffer bytes = allocate(values.length, Short.BYTES);
    bytes.asShortBuffer().put(values);
    return make(dtype, bytes, shape);
  }

  private static Tensor make(DataType dtype, ByteBuffer bytes, long[] shape) {
    return shape.length > 0
        ? wrap(dtype, bytes, shape)
        : wrap(dtype, bytes, bytes.remaining() / SIZES.get(dtype));
  }

  /** Whether a shape matches a number of bytes. The product of its lengths may overflow a long. */
  private static boolean fits(long[] shape, int bytes, int size) {
    long count = 1;
    for (long length : shape) {
      if (length == 0) {
        return bytes == 0;
      }
    }
    for (long length : shape) {
      if (length < 0 || count > bytes / length) {
        return false;
      }
      count *= length;
    }
    return count * size == bytes;
  }

  private int count(DataType... readable) {
    if (!Arrays.asList(readable).contains(dtype)) {
      throw new IllegalStateException(
          "the tensor's elements are " + dtype + ", not " + Arrays.toString(readable));
    }
    return data.size() / SIZES.get(dtype);
  }
}

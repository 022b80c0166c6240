package io.pgkeras.client;

import io.pgkeras.v1.BoxSpace;
import io.pgkeras.v1.DataType;
import io.pgkeras.v1.DictSpace;
import io.pgkeras.v1.DiscreteSpace;
import io.pgkeras.v1.MultiBinarySpace;
import io.pgkeras.v1.MultiDiscreteSpace;
import io.pgkeras.v1.NamedSpace;
import io.pgkeras.v1.Space;
import io.pgkeras.v1.TupleSpace;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Observation and action spaces. The kinds are those of {@code gymnasium.spaces}. */
public final class Spaces {
  private Spaces() {}

  /** Arrays of float32 numbers, all within the same bounds, which may be infinite. */
  public static Space box(double low, double high, long... shape) {
    return box(new double[] {low}, new double[] {high}, shape);
  }

  /** Arrays of float32 numbers, with bounds for each element in C order. */
  public static Space box(double[] low, double[] high, long... shape) {
    return box(DataType.DATA_TYPE_FLOAT32, low, high, shape);
  }

  /** uint8 images. */
  public static Space pixels(long... shape) {
    return box(DataType.DATA_TYPE_UINT8, new double[] {0}, new double[] {255}, shape);
  }

  /** The integers 0 to {@code n - 1}. */
  public static Space discrete(long n) {
    DiscreteSpace.Builder space =
        DiscreteSpace.newBuilder().setN(n).setDtype(DataType.DATA_TYPE_INT64);
    return Space.newBuilder().setDiscrete(space).build();
  }

  /** Integer vectors, whose element i is in 0 to {@code counts[i] - 1}. */
  public static Space multiDiscrete(long... counts) {
    MultiDiscreteSpace.Builder space =
        MultiDiscreteSpace.newBuilder()
            .addAllNvec(numbers(counts))
            .addAllStart(numbers(new long[counts.length]))
            .addShape(counts.length)
            .setDtype(DataType.DATA_TYPE_INT64);
    return Space.newBuilder().setMultiDiscrete(space).build();
  }

  /** Arrays of zeros and ones. */
  public static Space multiBinary(long... shape) {
    MultiBinarySpace.Builder space = MultiBinarySpace.newBuilder().addAllShape(numbers(shape));
    return Space.newBuilder().setMultiBinary(space).build();
  }

  /** Named parts, in the map's order. */
  public static Space dict(Map<String, Space> parts) {
    DictSpace.Builder space = DictSpace.newBuilder();
    parts.forEach(
        (key, part) -> space.addSpaces(NamedSpace.newBuilder().setKey(key).setSpace(part)));
    return Space.newBuilder().setDict(space).build();
  }

  /** Ordered parts. */
  public static Space tuple(Space... parts) {
    return Space.newBuilder()
        .setTuple(TupleSpace.newBuilder().addAllSpaces(List.of(parts)))
        .build();
  }

  /**
   * Whether a value is one observation and not a batch, going by its first array; empty if it has
   * none: texts are a batch, be it of one.
   */
  static Optional<Boolean> isSingle(Value observation, Space space) {
    if (observation instanceof Tensor tensor) {
      return Optional.of(tensor.shape().length == rank(space));
    }
    if (observation instanceof Value.Fields found) {
      return parts(space).stream()
          .filter(part -> found.fields().containsKey(part.getKey()))
          .flatMap(part -> isSingle(found.fields().get(part.getKey()), part.getSpace()).stream())
          .findFirst();
    }
    return Optional.empty();
  }

  /** Returns the parts of a Dict or Tuple space with their keys; none for other spaces. */
  private static List<NamedSpace> parts(Space space) {
    List<NamedSpace> named = new ArrayList<>(space.getDict().getSpacesList());
    for (Space part : space.getTuple().getSpacesList()) {
      named.add(
          NamedSpace.newBuilder().setKey(String.valueOf(named.size())).setSpace(part).build());
    }
    return named;
  }

  /** Returns the number of axes of one value of a space, or -1 if the value is not a tensor. */
  private static int rank(Space space) {
    return switch (space.getKindCase()) {
      case BOX -> space.getBox().getShapeCount();
      case DISCRETE -> 0;
      case MULTI_DISCRETE -> space.getMultiDiscrete().getShapeCount();
      case MULTI_BINARY -> space.getMultiBinary().getShapeCount();
      default -> -1;
    };
  }

  private static Space box(DataType dtype, double[] low, double[] high, long... shape) {
    BoxSpace.Builder space =
        BoxSpace.newBuilder()
            .setDtype(dtype)
            .addAllShape(numbers(shape))
            .addAllLow(bounds(low))
            .addAllHigh(bounds(high));
    return Space.newBuilder().setBox(space).build();
  }

  private static List<Long> numbers(long[] values) {
    return Arrays.stream(values).boxed().toList();
  }

  private static List<Double> bounds(double[] values) {
    return Arrays.stream(values).boxed().toList();
  }
}

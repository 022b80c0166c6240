using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Pgkeras.V1;

namespace Pgkeras.Client
{
    /// <summary>
    /// Converts arrays to tensors and back, in one piece. Tensors are little-endian, like every machine that Unity and
    /// Godot run on.
    /// </summary>
    public static class Tensors
    {
        /// <summary>Returns a tensor of values in C order. Without a shape it is a vector.</summary>
        /// <exception cref="ArgumentException">The number of values does not match the shape.</exception>
        public static V1.Tensor Of(float[] values, params long[] shape)
        {
            return Make(DataType.Float32, values, shape);
        }

        /// <summary>Returns a float64 tensor.</summary>
        public static V1.Tensor Of(double[] values, params long[] shape)
        {
            return Make(DataType.Float64, values, shape);
        }

        /// <summary>Returns an int64 tensor, such as a Discrete or MultiDiscrete observation.</summary>
        public static V1.Tensor Of(long[] values, params long[] shape)
        {
            return Make(DataType.Int64, values, shape);
        }

        /// <summary>Returns an int32 tensor.</summary>
        public static V1.Tensor Of(int[] values, params long[] shape)
        {
            return Make(DataType.Int32, values, shape);
        }

        /// <summary>Returns an int8 tensor, such as a MultiBinary observation.</summary>
        public static V1.Tensor Of(sbyte[] values, params long[] shape)
        {
            return Make(DataType.Int8, values, shape);
        }

        /// <summary>Returns a uint8 tensor, the usual type of pixels.</summary>
        public static V1.Tensor Of(byte[] values, params long[] shape)
        {
            return Make(DataType.Uint8, values, shape);
        }

        /// <summary>Returns a bool tensor, such as an action mask.</summary>
        public static V1.Tensor Of(bool[] values, params long[] shape)
        {
            return Make(DataType.Bool, values, shape);
        }

        /// <summary>Returns the elements of an int64 tensor, the usual type of discrete actions.</summary>
        /// <exception cref="InvalidOperationException">The tensor has another type, here and below.</exception>
        public static long[] Longs(this V1.Tensor tensor)
        {
            return Read<long>(tensor, DataType.Int64);
        }

        /// <summary>Returns the elements of an int32 tensor.</summary>
        public static int[] Ints(this V1.Tensor tensor)
        {
            return Read<int>(tensor, DataType.Int32);
        }

        /// <summary>Returns the elements of an int8 tensor, such as MultiBinary actions.</summary>
        public static sbyte[] Bits(this V1.Tensor tensor)
        {
            return Read<sbyte>(tensor, DataType.Int8);
        }

        /// <summary>Returns the elements of a float64 tensor.</summary>
        public static double[] Doubles(this V1.Tensor tensor)
        {
            return Read<double>(tensor, DataType.Float64);
        }

        /// <summary>Returns the elements of a float32 tensor.</summary>
        public static float[] Floats(this V1.Tensor tensor)
        {
            return Read<float>(tensor, DataType.Float32);
        }

        /// <summary>Returns the elements of a bool tensor.</summary>
        public static bool[] Flags(this V1.Tensor tensor)
        {
            return Read<bool>(tensor, DataType.Bool);
        }

        private static V1.Tensor Make<T>(DataType type, T[] values, long[] shape)
            where T : struct
        {
            long[] axes = shape.Length == 0 ? new long[] { values.Length } : shape;
            if (!Fits(axes, values.Length))
            {
                throw new ArgumentException(
                    values.Length + " values do not fit shape [" + string.Join(", ", axes) + "]", nameof(shape));
            }
            var tensor = new V1.Tensor
            {
                Dtype = type,
                Data = ByteString.CopyFrom(MemoryMarshal.AsBytes(new ReadOnlySpan<T>(values))),
            };
            tensor.Shape.Add(axes);
            return tensor;
        }

        private static T[] Read<T>(V1.Tensor tensor, DataType type)
            where T : struct
        {
            if (tensor.Dtype != type)
            {
                throw new InvalidOperationException("the tensor's elements are " + tensor.Dtype + ", not " + type);
            }
            T[] values = MemoryMarshal.Cast<byte, T>(tensor.Data.Span).ToArray();
            if (!Fits(tensor.Shape, values.Length))
            {
                throw new InvalidOperationException(
                    "the tensor has " + values.Length + " elements, but shape [" + string.Join(", ", tensor.Shape) + "]");
            }
            return values;
        }

        private static bool Fits(IEnumerable<long> shape, long count)
        {
            long product = 1;
            foreach (long length in shape)
            {
                if (length < 0)
                {
                    return false;
                }
                // Caps the product at count + 1, because it might overflow. A later axis of length 0 still makes it 0.
                product = length > 0 && product > count / length ? count + 1 : product * length;
            }
            return product == count;
        }
    }
}

using System.Collections.Generic;
using System.Linq;
using Pgkeras.V1;

namespace Pgkeras.Client
{
    /// <summary>Observation and action spaces. The kinds are those of gymnasium.spaces.</summary>
    public static class Spaces
    {
        /// <summary>Arrays of float32 numbers within bounds, which may be infinite.</summary>
        /// <param name="shape">The shape of one observation or action, without a batch axis.</param>
        /// <param name="low">
        /// One bound for all elements, or one per element in C order, like <paramref name="high"/>.
        /// </param>
        /// <param name="high">The upper bounds.</param>
        public static Space Box(long[] shape, double[] low, double[] high)
        {
            return Box(DataType.Float32, shape, low, high);
        }

        /// <summary>uint8 images.</summary>
        public static Space Pixels(params long[] shape)
        {
            return Box(DataType.Uint8, shape, new double[] { 0 }, new double[] { 255 });
        }

        /// <summary>The integers 0 to n - 1.</summary>
        public static Space Discrete(long n)
        {
            return new Space { Discrete = new DiscreteSpace { N = n, Dtype = DataType.Int64 } };
        }

        /// <summary>Integer vectors, whose element i is in 0 to counts[i] - 1.</summary>
        public static Space MultiDiscrete(params long[] counts)
        {
            var space = new MultiDiscreteSpace { Dtype = DataType.Int64 };
            space.Nvec.Add(counts);
            space.Start.Add(new long[counts.Length]);
            space.Shape.Add(counts.Length);
            return new Space { MultiDiscrete = space };
        }

        /// <summary>Arrays of zeros and ones.</summary>
        public static Space MultiBinary(params long[] shape)
        {
            var space = new MultiBinarySpace();
            space.Shape.Add(shape);
            return new Space { MultiBinary = space };
        }

        /// <summary>Named parts, in this order.</summary>
        public static Space Dict(params KeyValuePair<string, Space>[] parts)
        {
            var space = new DictSpace();
            space.Spaces.Add(parts.Select(part => new NamedSpace { Key = part.Key, Space = part.Value }));
            return new Space { Dict = space };
        }

        /// <summary>Ordered parts.</summary>
        public static Space Tuple(params Space[] parts)
        {
            var space = new TupleSpace();
            space.Spaces.Add(parts);
            return new Space { Tuple = space };
        }

        private static Space Box(DataType type, long[] shape, double[] low, double[] high)
        {
            var space = new BoxSpace { Dtype = type };
            space.Shape.Add(shape);
            space.Low.Add(low);
            space.High.Add(high);
            return new Space { Box = space };
        }
    }
}

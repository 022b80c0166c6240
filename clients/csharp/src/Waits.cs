using System;
using System.Threading;

namespace Pgkeras.Client
{
    /// <summary>Clamps times to the range of timers and calls.</summary>
    internal static class Waits
    {
        /// <summary>The longest timeout of a .NET timer: 25 days.</summary>
        public static readonly TimeSpan Longest = TimeSpan.FromMilliseconds(int.MaxValue);

        private static readonly TimeSpan LongestDelay = TimeSpan.FromDays(365);

        /// <summary>Clamps a time to the range of timers. Returns the longest for <c>InfiniteTimeSpan</c>.</summary>
        public static TimeSpan Bounded(TimeSpan time)
        {
            if (time == Timeout.InfiniteTimeSpan || time > Longest)
            {
                return Longest;
            }
            return time < TimeSpan.Zero ? TimeSpan.Zero : time;
        }

        /// <summary>Returns how long a RetryInfo asks to wait, at most a year; null if it is not above zero.</summary>
        public static TimeSpan? Delay(long seconds, int nanos)
        {
            // The range of a protobuf Duration exceeds that of a TimeSpan.
            long longest = LongestDelay.Ticks / TimeSpan.TicksPerSecond;
            long whole = Math.Max(-longest, Math.Min(seconds, longest));
            long ticks = (whole * TimeSpan.TicksPerSecond) + (nanos / 100);
            return ticks > 0 ? TimeSpan.FromTicks(Math.Min(ticks, LongestDelay.Ticks)) : (TimeSpan?)null;
        }
    }
}

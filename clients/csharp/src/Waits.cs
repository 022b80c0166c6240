using System;
using System.Threading;

namespace Pgkeras.Client
{
    /// <summary>Times that there is room for.</summary>
    internal static class Waits
    {
        /// <summary>The longest that a timer of .NET can be set for: 25 days.</summary>
        public static readonly TimeSpan Longest = TimeSpan.FromMilliseconds(int.MaxValue);

        private static readonly TimeSpan LongestDelay = TimeSpan.FromDays(365);

        /// <summary>The nearest time that a timer can be set for; the longest one for <c>InfiniteTimeSpan</c>.</summary>
        public static TimeSpan Bounded(TimeSpan time)
        {
            if (time == Timeout.InfiniteTimeSpan || time > Longest)
            {
                return Longest;
            }
            return time < TimeSpan.Zero ? TimeSpan.Zero : time;
        }

        /// <summary>How long a RetryInfo asks to wait, a year at most; null if that is not above zero.</summary>
        public static TimeSpan? Delay(long seconds, int nanos)
        {
            // A protobuf Duration may say more than a TimeSpan can hold.
            long longest = LongestDelay.Ticks / TimeSpan.TicksPerSecond;
            long whole = Math.Max(-longest, Math.Min(seconds, longest));
            long ticks = (whole * TimeSpan.TicksPerSecond) + (nanos / 100);
            return ticks > 0 ? TimeSpan.FromTicks(Math.Min(ticks, LongestDelay.Ticks)) : (TimeSpan?)null;
        }
    }
}

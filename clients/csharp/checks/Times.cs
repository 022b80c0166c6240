using System;
using System.Threading;
using Pgkeras.Client;

/// <summary>Checks that times of any size are clamped to the range of timers and calls. check.sh runs it.</summary>
public static class Times
{
    public static void Main()
    {
        TimeSpan year = TimeSpan.FromDays(365);
        Same(Waits.Delay(0, 0), null);
        Same(Waits.Delay(-1, 0), null);
        Same(Waits.Delay(long.MinValue, int.MinValue), null);
        Same(Waits.Delay(2, 500000000), TimeSpan.FromSeconds(2.5));
        Same(Waits.Delay(10000000000, 0), year);
        Same(Waits.Delay(long.MaxValue, int.MaxValue), year);

        Same(Waits.Bounded(TimeSpan.FromSeconds(3)), TimeSpan.FromSeconds(3));
        Same(Waits.Bounded(TimeSpan.FromSeconds(-3)), TimeSpan.Zero);
        Same(Waits.Bounded(TimeSpan.MinValue), TimeSpan.Zero);
        foreach (TimeSpan time in new[] { Timeout.InfiniteTimeSpan, TimeSpan.MaxValue, TimeSpan.FromDays(30) })
        {
            TimeSpan bounded = Waits.Bounded(time);
            if (bounded < TimeSpan.FromDays(24) || DateTime.UtcNow + bounded < DateTime.UtcNow)
            {
                throw new Exception(time + " became " + bounded);
            }
            using (var timer = new Timer(state => { }))
            {
                timer.Change(bounded, Timeout.InfiniteTimeSpan); // throws if that is too long
            }
        }
    }

    private static void Same(TimeSpan? found, TimeSpan? expected)
    {
        if (found != expected)
        {
            throw new Exception(found + " instead of " + expected);
        }
    }
}

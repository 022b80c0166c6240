using System;
using System.Diagnostics;
using System.Globalization;
using System.Threading.Tasks;
using Grpc.Net.Client;
using Pgkeras.Client;
using Pgkeras.V1;

namespace Pgkeras.Example
{
    /// <summary>Plays CartPole-v1: --target HOST:PORT [--episodes 20], or --environments 256 --steps 1000.</summary>
    public static class Program
    {
        public static void Main(string[] words)
        {
            RunAsync(words).GetAwaiter().GetResult();
        }

        private static async Task RunAsync(string[] words)
        {
            string target = Flag(words, "--target", "127.0.0.1:50051");
            int environments = Number(words, "--environments", 0);
            using (GrpcChannel channel = GrpcChannel.ForAddress("http://" + target))
            {
                var client = new PolicyClient(channel, new PolicyRef { Name = "cartpole-v1" });
                using (Session session = await client.PlayAsync(ActMode.Greedy))
                {
                    Console.WriteLine(
                        environments > 0
                            ? await RaceAsync(session, environments, Number(words, "--steps", 1000))
                            : await PlayAsync(session, Number(words, "--episodes", 20)));
                }
            }
        }

        private static async Task<string> PlayAsync(Session session, int episodes)
        {
            var simulator = new Simulator(session, 1);
            int ended = 0;
            int steps = 0;
            while (ended < episodes)
            {
                ended += await simulator.StepAsync();
                steps++;
            }
            return Format("{{\"episodes\": {0}, \"mean_return\": {1}, \"steps\": {2}}}", episodes, (double)steps / episodes, steps);
        }

        private static async Task<string> RaceAsync(Session session, int environments, int steps)
        {
            var simulator = new Simulator(session, environments);
            await simulator.StepAsync();
            Stopwatch watch = Stopwatch.StartNew();
            for (int i = 0; i < steps; i++)
            {
                await simulator.StepAsync();
            }
            return Format(
                "{{\"environments\": {0}, \"steps\": {1}, \"environment_steps_per_second\": {2}}}",
                environments,
                steps,
                environments * (double)steps / watch.Elapsed.TotalSeconds);
        }

        private static string Format(string format, params object[] values)
        {
            return string.Format(CultureInfo.InvariantCulture, format, values);
        }

        private static string Flag(string[] words, string name, string byDefault)
        {
            int at = Array.IndexOf(words, name);
            return at >= 0 && at + 1 < words.Length ? words[at + 1] : byDefault;
        }

        private static int Number(string[] words, string name, int byDefault)
        {
            return int.Parse(Flag(words, name, byDefault.ToString(CultureInfo.InvariantCulture)), CultureInfo.InvariantCulture);
        }
    }
}

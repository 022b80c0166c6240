using System;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http;
using System.Threading.Tasks;
using Grpc.Net.Client;
using Pgkeras.Client;
using Pgkeras.V1;

namespace Pgkeras.Example
{
    /// <summary>
    /// Plays CartPole-v1: --target HOST:PORT [--episodes 20]. --environments 256 --steps 1000 measures the throughput.
    /// --teach 24 [--patience 10] trains a policy (<c>pgkeras train --listen</c>), until no run has responded for 10
    /// seconds.
    /// </summary>
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
            using (GrpcChannel channel = GrpcChannel.ForAddress("http://" + target, Options(target)))
            {
                int teachEnvironments = Number(words, "--teach", 0);
                if (teachEnvironments > 0)
                {
                    TimeSpan patience = TimeSpan.FromSeconds(Number(words, "--patience", 10));
                    Console.WriteLine(await TeachAsync(new PolicyClient(channel), teachEnvironments, patience));
                    return;
                }
                string policy = Flag(words, "--policy", "cartpole-v1");
                var client = new PolicyClient(channel, new PolicyRef { Name = policy });
                using (Session session = await client.PlayAsync(ActMode.Greedy))
                {
                    Console.WriteLine(
                        environments > 0
                            ? await MeasureAsync(session, environments, Number(words, "--steps", 1000))
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

        /// <summary>Plays until no run has responded for the duration of patience. A run may be started
        /// again.</summary>
        private static async Task<string> TeachAsync(PolicyClient client, int environments, TimeSpan patience)
        {
            double[] bounds = { 2 * CartPole.MaxX, double.PositiveInfinity, 2 * CartPole.MaxAngle, double.PositiveInfinity };
            var declared = new V1.Simulator
            {
                ObservationSpace = Spaces.Box(new long[] { 4 }, Array.ConvertAll(bounds, bound => -bound), bounds),
                ActionSpace = Spaces.Discrete(2),
                Environments = environments,
                Name = "CartPole in C#",
            };
            int messages = 0;
            Stopwatch silence = Stopwatch.StartNew();
            while (true)
            {
                int before = messages;
                try
                {
                    using (Session session = client.Play(declared))
                    {
                        var simulator = new Simulator(session, environments);
                        while (true)
                        {
                            await simulator.StepAsync();
                            messages++;
                        }
                    }
                }
                catch (ServerUnavailableException)
                {
                    if (messages > before)
                    {
                        silence.Restart(); // the run has responded until now, also while the policy was being updated
                    }
                    if (silence.Elapsed >= patience)
                    {
                        if (messages == 0)
                        {
                            throw;
                        }
                        return Format("{{\"environments\": {0}, \"messages\": {1}}}", environments, messages);
                    }
                    await Task.Delay(500);
                }
            }
        }

        private static async Task<string> MeasureAsync(Session session, int environments, int steps)
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

        /// <summary>
        /// Returns a handler that ignores http_proxy on this machine, and closes connections whose peer has vanished.
        /// </summary>
        private static GrpcChannelOptions Options(string target)
        {
            string host = new Uri("http://" + target).Host;
            bool isOwn = host == "localhost" || (IPAddress.TryParse(host.Trim('[', ']'), out IPAddress ip) && IPAddress.IsLoopback(ip));
            var handler = new SocketsHttpHandler
            {
                UseProxy = !isOwn,
                KeepAlivePingDelay = TimeSpan.FromSeconds(20),
                KeepAlivePingTimeout = TimeSpan.FromSeconds(10),
            };
            return new GrpcChannelOptions { HttpHandler = handler };
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

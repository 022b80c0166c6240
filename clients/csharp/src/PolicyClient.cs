using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;
using Pgkeras.V1;

namespace Pgkeras.Client
{
    /// <summary>Asks one policy on a server for actions. Safe for use by several threads.</summary>
    /// <remarks>
    /// A call that the server cannot be reached for is made again, with back-off, as long as its timeout allows. Only a
    /// client that was never answered says so at once, since its address may be wrong. Whatever fails is thrown as a
    /// <see cref="PolicyServiceException"/>; what its caller cancels, as an <see cref="OperationCanceledException"/>.
    /// </remarks>
    public sealed class PolicyClient
    {
        /// <summary>How long a call may take that has no timeout of its own.</summary>
        public static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(10);

        private static readonly TimeSpan FirstBackoff = TimeSpan.FromMilliseconds(100);
        private static readonly TimeSpan LongestBackoff = TimeSpan.FromSeconds(1);

        private readonly CallInvoker invoker;
        private readonly PolicyRef policy;
        private readonly Metadata headers = new Metadata();
        private readonly Random random = new Random();
        private volatile GetPolicyResponse known;
        private volatile bool answered;

        /// <summary>Makes a client of a channel, which the caller keeps and closes.</summary>
        /// <param name="channel">Such as <c>GrpcChannel.ForAddress("http://127.0.0.1:50051", options)</c>.</param>
        /// <param name="policy">Which policy; null or without a name when the server has only one.</param>
        /// <param name="timeout">How long a call may take that has no timeout of its own.</param>
        /// <param name="token">What authenticates every call; send it over TLS, or others can read it.</param>
        /// <exception cref="InvalidRequestException">The token cannot be sent.</exception>
        public PolicyClient(ChannelBase channel, PolicyRef policy = null, TimeSpan? timeout = null, string token = null)
        {
            invoker = channel.CreateCallInvoker();
            Target = channel.Target;
            this.policy = policy ?? new PolicyRef();
            Timeout = Waits.Bounded(timeout ?? DefaultTimeout);
            if (token != null)
            {
                if (token.Length == 0 || token.Trim() != token || token.Any(letter => letter < ' ' || letter > '~'))
                {
                    const string expected = "printable ASCII without spaces around it, as pgkeras token makes it";
                    throw new InvalidRequestException("token", expected, "another", null); // which is a secret
                }
                headers.Add("authorization", "Bearer " + token);
            }
        }

        /// <summary>Whom the client calls.</summary>
        public string Target { get; }

        /// <summary>How long a call may take that has no timeout of its own.</summary>
        public TimeSpan Timeout { get; }

        /// <summary>Describes the policy and the limits. From then on, requests carry the spec hash that it gives.</summary>
        public async Task<GetPolicyResponse> DescribeAsync(
            TimeSpan? timeout = null, CancellationToken cancellation = default(CancellationToken))
        {
            GetPolicyResponse found = await GetPolicyAsync(Deadline(timeout), cancellation).ConfigureAwait(false);
            known = found;
            return found;
        }

        /// <summary>Describes every policy and version that the server has ready.</summary>
        public Task<ListPoliciesResponse> PoliciesAsync(
            TimeSpan? timeout = null, CancellationToken cancellation = default(CancellationToken))
        {
            return CallAsync(
                PolicyServiceMethods.ListPolicies, new ListPoliciesRequest(), Deadline(timeout), cancellation);
        }

        /// <summary>Asks for the action for one observation, or for each of a batch.</summary>
        /// <param name="request">What to ask; policy and spec hash are filled in.</param>
        /// <param name="timeout">How long the call may take.</param>
        /// <param name="cancellation">Ends the call.</param>
        public async Task<ActResponse> ActAsync(
            ActRequest request, TimeSpan? timeout = null, CancellationToken cancellation = default(CancellationToken))
        {
            DateTime deadline = Deadline(timeout);
            GetPolicyResponse found =
                known ?? (known = await GetPolicyAsync(deadline, cancellation).ConfigureAwait(false));
            ActRequest message = request.Clone();
            message.Policy = policy;
            message.SpecHash = found.Policy.SpecHash;
            return Failures.WithActions(
                await CallAsync(PolicyServiceMethods.Act, message, deadline, cancellation).ConfigureAwait(false));
        }

        /// <summary>Opens a session for one simulator, of one or many environments.</summary>
        /// <param name="mode">Whether actions are drawn from the distribution, or its mode is taken.</param>
        /// <param name="seed">Makes the whole session reproducible.</param>
        /// <param name="outputs">What to answer besides the action.</param>
        public Task<Session> PlayAsync(ActMode mode = ActMode.Sample, ulong? seed = null, params ActOutput[] outputs)
        {
            return PlayAsync(mode, seed, null, default(CancellationToken), outputs);
        }

        /// <summary>The same with a timeout of its own.</summary>
        /// <param name="mode">As above, like the next.</param>
        /// <param name="seed">Makes the whole session reproducible.</param>
        /// <param name="timeout">How long opening the session may take, and each of its steps.</param>
        /// <param name="cancellation">Ends the opening; a step has its own.</param>
        /// <param name="outputs">What to answer besides the action.</param>
        public async Task<Session> PlayAsync(
            ActMode mode, ulong? seed, TimeSpan? timeout, CancellationToken cancellation, params ActOutput[] outputs)
        {
            // A session is not made again, so this is what waits for a server that restarts.
            GetPolicyResponse found = await GetPolicyAsync(Deadline(timeout), cancellation).ConfigureAwait(false);
            known = known ?? found;
            var first = new PlayRequest { Policy = policy, SpecHash = known.Policy.SpecHash, Mode = mode };
            first.Outputs.Add(ActOutput.Action);
            first.Outputs.Add(outputs);
            if (seed.HasValue)
            {
                first.Seed = seed.Value;
            }
            return Open(first, timeout);
        }

        /// <summary>Opens a session of a simulator that declares itself, and so can also teach a policy.</summary>
        /// <remarks>
        /// Where <c>pgkeras train --listen</c> listens, the policy in training learns from it, and answers sampled actions
        /// alone. A server of trained policies checks that the spaces are the policy's: an
        /// <see cref="InvalidRequestException"/> of the first step names the field that differs.
        /// </remarks>
        /// <param name="simulator">Its spaces, made by <see cref="Spaces"/>, its environments, and what people call it.</param>
        /// <param name="mode">Whether actions are drawn from the distribution, or its mode is taken.</param>
        /// <param name="timeout">How long each of its steps may take.</param>
        public Session Play(Simulator simulator, ActMode mode = ActMode.Sample, TimeSpan? timeout = null)
        {
            var first = new PlayRequest { Policy = policy, Simulator = simulator, Mode = mode };
            first.Outputs.Add(ActOutput.Action);
            return Open(first, timeout);
        }

        private Session Open(PlayRequest first, TimeSpan? timeout)
        {
            var ending = new CancellationTokenSource();
            var options = new CallOptions(headers, null, ending.Token);
            try
            {
                var call = invoker.AsyncDuplexStreamingCall(PolicyServiceMethods.Play, null, options);
                return new Session(call, first, ending, Target, Waits.Bounded(timeout ?? Timeout));
            }
            catch (ObjectDisposedException error)
            {
                throw Failures.Closed(Target, error);
            }
        }

        private DateTime Deadline(TimeSpan? timeout)
        {
            return DateTime.UtcNow + Waits.Bounded(timeout ?? Timeout);
        }

        private Task<GetPolicyResponse> GetPolicyAsync(DateTime deadline, CancellationToken cancellation)
        {
            var request = new GetPolicyRequest { Policy = policy };
            return CallAsync(PolicyServiceMethods.GetPolicy, request, deadline, cancellation);
        }

        private async Task<TResponse> CallAsync<TRequest, TResponse>(
            Method<TRequest, TResponse> method, TRequest request, DateTime deadline, CancellationToken cancellation)
            where TRequest : class
            where TResponse : class
        {
            TimeSpan within = deadline - DateTime.UtcNow;
            TimeSpan backoff = FirstBackoff;
            ServerUnavailableException last = null;
            while (true)
            {
                TimeSpan wait;
                try
                {
                    var options = new CallOptions(headers, deadline, cancellation);
                    using (var call = invoker.AsyncUnaryCall(method, null, options, request))
                    {
                        TResponse response = await call.ResponseAsync.ConfigureAwait(false);
                        answered = true;
                        return response;
                    }
                }
                catch (RpcException error)
                {
                    cancellation.ThrowIfCancellationRequested();
                    if (last != null && Failures.IsLate(error))
                    {
                        throw last; // which tells why there was no answer
                    }
                    PolicyServiceException failure = Failures.Translate(error, Target, within);
                    if (!answered || !(failure is ServerUnavailableException gone))
                    {
                        throw failure;
                    }
                    TimeSpan pause = Jittered(backoff);
                    wait = gone.RetryAfter > pause ? gone.RetryAfter.Value : pause;
                    if (DateTime.UtcNow + wait >= deadline)
                    {
                        throw failure;
                    }
                    last = gone;
                }
                catch (ObjectDisposedException error)
                {
                    throw Failures.Closed(Target, error);
                }
                await Task.Delay(wait, cancellation).ConfigureAwait(false);
                backoff = TimeSpan.FromTicks(Math.Min(2 * backoff.Ticks, LongestBackoff.Ticks));
            }
        }

        private TimeSpan Jittered(TimeSpan backoff)
        {
            lock (random)
            {
                return TimeSpan.FromTicks((long)(backoff.Ticks * (0.5 + (random.NextDouble() / 2))));
            }
        }
    }
}

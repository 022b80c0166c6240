using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;
using Pgkeras.V1;

namespace Pgkeras.Client
{
    /// <summary>Client of one policy on a server. Thread-safe.</summary>
    /// <remarks>
    /// If the server cannot be reached, a call is retried with backoff until its timeout. A client that has never
    /// received a response fails immediately instead, because its address may be wrong. Failures are thrown as <see
    /// cref="PolicyServiceException"/>, cancellation as <see cref="OperationCanceledException"/>.
    /// </remarks>
    public sealed class PolicyClient
    {
        /// <summary>The timeout of calls that do not set their own.</summary>
        public static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(10);

        private static readonly TimeSpan FirstBackoff = TimeSpan.FromMilliseconds(100);
        private static readonly TimeSpan LongestBackoff = TimeSpan.FromSeconds(1);

        private readonly CallInvoker invoker;
        private readonly PolicyRef policy;
        private readonly Metadata headers = new Metadata();
        private readonly Random random = new Random();
        private volatile GetPolicyResponse known;
        private volatile bool answered;

        /// <summary>Creates a client on a channel, which the caller owns and disposes.</summary>
        /// <param name="channel">Such as <c>GrpcChannel.ForAddress("http://127.0.0.1:50051", options)</c>.</param>
        /// <param name="policy">The policy; null or without a name if the server has only one.</param>
        /// <param name="timeout">The timeout of calls that do not set their own.</param>
        /// <param name="token">
        /// The token that authenticates every call. Use TLS, because others can read it otherwise.
        /// </param>
        /// <exception cref="InvalidRequestException">The token is malformed.</exception>
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
                    throw new InvalidRequestException("token", expected, "another", null); // the token is a secret
                }
                headers.Add("authorization", "Bearer " + token);
            }
        }

        /// <summary>The target that the client calls.</summary>
        public string Target { get; }

        /// <summary>The timeout of calls that do not set their own.</summary>
        public TimeSpan Timeout { get; }

        /// <summary>Returns the policy's description and the limits. Later requests carry its spec hash.</summary>
        public async Task<GetPolicyResponse> DescribeAsync(
            TimeSpan? timeout = null, CancellationToken cancellation = default(CancellationToken))
        {
            GetPolicyResponse found = await GetPolicyAsync(Deadline(timeout), cancellation).ConfigureAwait(false);
            known = found;
            return found;
        }

        /// <summary>Returns the description of every policy version that is ready on the server.</summary>
        public Task<ListPoliciesResponse> PoliciesAsync(
            TimeSpan? timeout = null, CancellationToken cancellation = default(CancellationToken))
        {
            return CallAsync(
                PolicyServiceMethods.ListPolicies, new ListPoliciesRequest(), Deadline(timeout), cancellation);
        }

        /// <summary>Returns the action for one observation, or the actions for a batch.</summary>
        /// <param name="request">The request; policy and spec hash are filled in.</param>
        /// <param name="timeout">The timeout of the call.</param>
        /// <param name="cancellation">Cancels the call.</param>
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

        /// <summary>Opens a session for a simulator with one or many environments.</summary>
        /// <param name="mode">Whether actions are sampled from the distribution, or its mode is selected.</param>
        /// <param name="seed">Makes the whole session reproducible.</param>
        /// <param name="outputs">What a response contains besides the action.</param>
        public Task<Session> PlayAsync(ActMode mode = ActMode.Sample, ulong? seed = null, params ActOutput[] outputs)
        {
            return PlayAsync(mode, seed, null, default(CancellationToken), outputs);
        }

        /// <summary>The same with a separate timeout.</summary>
        /// <param name="mode">Whether actions are sampled from the distribution, or its mode is selected.</param>
        /// <param name="seed">Makes the whole session reproducible.</param>
        /// <param name="timeout">The timeout of opening the session, and of each of its steps.</param>
        /// <param name="cancellation">Cancels the opening; steps have separate tokens.</param>
        /// <param name="outputs">What a response contains besides the action.</param>
        public async Task<Session> PlayAsync(
            ActMode mode, ulong? seed, TimeSpan? timeout, CancellationToken cancellation, params ActOutput[] outputs)
        {
            // Opening a session is not retried, so this call waits for a server that restarts.
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

        /// <summary>Opens a session of a simulator that declares itself, which can also train a policy.</summary>
        /// <remarks>
        /// With <c>pgkeras train --listen</c>, the policy in training learns from the session, and returns only sampled
        /// actions. A server of trained policies checks that the spaces match the policy's: an <see
        /// cref="InvalidRequestException"/> of the first step names the field that differs.
        /// </remarks>
        /// <param name="simulator">
        /// Its spaces, created by <see cref="Spaces"/>, its number of environments and its name.
        /// </param>
        /// <param name="mode">Whether actions are sampled from the distribution, or its mode is selected.</param>
        /// <param name="timeout">The timeout of each step.</param>
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
                        throw last; // the error before says why there was no response
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

using System;
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
    /// <see cref="PolicyServiceException"/>.
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
        public PolicyClient(ChannelBase channel, PolicyRef policy = null, TimeSpan? timeout = null, string token = null)
        {
            invoker = channel.CreateCallInvoker();
            Target = channel.Target;
            this.policy = policy ?? new PolicyRef();
            Timeout = timeout ?? DefaultTimeout;
            if (token != null)
            {
                headers.Add("authorization", "Bearer " + token);
            }
        }

        /// <summary>Whom the client calls.</summary>
        public string Target { get; }

        /// <summary>How long a call may take that has no timeout of its own.</summary>
        public TimeSpan Timeout { get; }

        /// <summary>Describes the policy and the limits. From then on, requests carry the spec hash that it gives.</summary>
        public async Task<GetPolicyResponse> DescribeAsync(TimeSpan? timeout = null)
        {
            GetPolicyResponse found = await GetPolicyAsync(DateTime.UtcNow + (timeout ?? Timeout)).ConfigureAwait(false);
            known = found;
            return found;
        }

        /// <summary>Describes every policy and version that the server has ready.</summary>
        public Task<ListPoliciesResponse> PoliciesAsync()
        {
            return CallAsync(PolicyServiceMethods.ListPolicies, new ListPoliciesRequest(), DateTime.UtcNow + Timeout);
        }

        /// <summary>Asks for the action for one observation, or for each of a batch.</summary>
        /// <param name="request">What to ask; policy and spec hash are filled in.</param>
        /// <param name="timeout">How long the call may take.</param>
        public async Task<ActResponse> ActAsync(ActRequest request, TimeSpan? timeout = null)
        {
            DateTime deadline = DateTime.UtcNow + (timeout ?? Timeout);
            GetPolicyResponse found = known ?? (known = await GetPolicyAsync(deadline).ConfigureAwait(false));
            ActRequest message = request.Clone();
            message.Policy = policy;
            message.SpecHash = found.Policy.SpecHash;
            return await CallAsync(PolicyServiceMethods.Act, message, deadline).ConfigureAwait(false);
        }

        /// <summary>Opens a session for one simulator, of one or many environments.</summary>
        /// <param name="mode">Whether actions are drawn from the distribution, or its mode is taken.</param>
        /// <param name="seed">Makes the whole session reproducible.</param>
        /// <param name="outputs">What to answer besides the action.</param>
        public async Task<Session> PlayAsync(
            ActMode mode = ActMode.Sample, ulong? seed = null, params ActOutput[] outputs)
        {
            DateTime deadline = DateTime.UtcNow + Timeout;
            // A session is not made again, so this is what waits for a server that restarts.
            GetPolicyResponse found = await GetPolicyAsync(deadline).ConfigureAwait(false);
            known = known ?? found;
            var first = new PlayRequest { Policy = policy, SpecHash = known.Policy.SpecHash, Mode = mode };
            first.Outputs.Add(ActOutput.Action);
            first.Outputs.Add(outputs);
            if (seed.HasValue)
            {
                first.Seed = seed.Value;
            }
            return Open(first);
        }

        /// <summary>Opens a session of a simulator that declares itself, and so can also teach a policy.</summary>
        /// <remarks>
        /// Where <c>pgkeras train --listen</c> listens, the policy in training learns from it, and answers sampled actions
        /// alone. A server of trained policies checks that the spaces are the policy's: an
        /// <see cref="InvalidRequestException"/> of the first step names the field that differs.
        /// </remarks>
        /// <param name="simulator">Its spaces, made by <see cref="Spaces"/>, its environments, and what people call it.</param>
        /// <param name="mode">Whether actions are drawn from the distribution, or its mode is taken.</param>
        public Session Play(Simulator simulator, ActMode mode = ActMode.Sample)
        {
            var first = new PlayRequest { Policy = policy, Simulator = simulator, Mode = mode };
            first.Outputs.Add(ActOutput.Action);
            return Open(first);
        }

        private Session Open(PlayRequest first)
        {
            var ending = new CancellationTokenSource();
            var options = new CallOptions(headers, null, ending.Token);
            return new Session(
                invoker.AsyncDuplexStreamingCall(PolicyServiceMethods.Play, null, options), first, ending, Target, Timeout);
        }

        private Task<GetPolicyResponse> GetPolicyAsync(DateTime deadline)
        {
            return CallAsync(PolicyServiceMethods.GetPolicy, new GetPolicyRequest { Policy = policy }, deadline);
        }

        private async Task<TResponse> CallAsync<TRequest, TResponse>(
            Method<TRequest, TResponse> method, TRequest request, DateTime deadline)
            where TRequest : class
            where TResponse : class
        {
            TimeSpan within = deadline - DateTime.UtcNow;
            TimeSpan backoff = FirstBackoff;
            while (true)
            {
                TimeSpan wait;
                try
                {
                    using (var call = invoker.AsyncUnaryCall(method, null, new CallOptions(headers, deadline), request))
                    {
                        TResponse response = await call.ResponseAsync.ConfigureAwait(false);
                        answered = true;
                        return response;
                    }
                }
                catch (RpcException error)
                {
                    PolicyServiceException failure = Failures.Translate(error, Target, within);
                    if (!answered || !(failure is ServerUnavailableException gone))
                    {
                        throw failure;
                    }
                    wait = gone.RetryAfter ?? Jittered(backoff);
                    if (DateTime.UtcNow + wait >= deadline)
                    {
                        throw failure;
                    }
                }
                await Task.Delay(wait).ConfigureAwait(false);
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

using System;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;
using Pgkeras.V1;

namespace Pgkeras.Client
{
    /// <summary>A simulator's session with one or many environments. Not thread-safe.</summary>
    public sealed class Session : IDisposable
    {
        private readonly AsyncDuplexStreamingCall<PlayRequest, PlayResponse> call;
        private readonly CancellationTokenSource ending;
        private readonly string target;
        private readonly TimeSpan timeout;
        private readonly PlayRequest later;
        private PlayRequest template;
        private ulong id;
        private Task<bool> reading;
        private PolicyServiceException failure;
        private bool[] hold;

        internal Session(
            AsyncDuplexStreamingCall<PlayRequest, PlayResponse> call,
            PlayRequest first,
            CancellationTokenSource ending,
            string target,
            TimeSpan timeout)
        {
            this.call = call;
            this.ending = ending;
            this.target = target;
            this.timeout = timeout;
            template = first;
            later = new PlayRequest { Mode = first.Mode };
            later.Outputs.Add(first.Outputs);
        }

        /// <summary>
        /// Sent by a policy in training, one flag per environment. Where it is true, the environment should not take
        /// its action but send the same first observation again in the next step, with <c>episodeStart</c>. Null if no
        /// environment should wait.
        /// </summary>
        public bool[] Hold
        {
            get { return hold; }
        }

        /// <summary>Whether the session has ended, by an exception or by Dispose. Later steps throw that
        /// exception.</summary>
        public bool IsOver
        {
            get { return failure != null; }
        }

        /// <summary>Reports the outcome of the previous actions and returns the next ones.</summary>
        /// <remarks>
        /// After an <see cref="InvalidRequestException"/> the session is as if the step had not been made. After a <see
        /// cref="ServerBusyException"/> the same step may be retried. A step that times out counts, and its action is
        /// lost. A timeout that passes while the server does not read ends the session. A server that has too many
        /// sessions, refuses the simulator, or has seen the session idle for too long also ends it with one of these
        /// exceptions, so check <see cref="IsOver"/> after an exception.
        /// </remarks>
        /// <param name="observation">Always a batch: one row per environment, the same number at every step.</param>
        /// <param name="reward">The reward of each environment. Like the next two it is null at the first step.</param>
        /// <param name="terminated">Whether the episode ended in a terminal state.</param>
        /// <param name="truncated">Whether the episode was cut off.</param>
        /// <param name="episodeStart">
        /// Whether each observation is the first of an episode. If null: where the step before it ended an episode.
        /// </param>
        /// <param name="actionMask">The allowed actions; null allows all.</param>
        /// <param name="within">
        /// The timeout of the step; the client's timeout if null. It restarts whenever a policy in training reports
        /// that it is being updated.
        /// </param>
        /// <param name="cancellation">
        /// Ends the step like its timeout, with an <see cref="OperationCanceledException"/>: it counts, and its action
        /// is lost.
        /// </param>
        public Task<ActResponse> StepAsync(
            V1.Tensor observation,
            float[] reward = null,
            bool[] terminated = null,
            bool[] truncated = null,
            bool[] episodeStart = null,
            V1.Tensor actionMask = null,
            TimeSpan? within = null,
            CancellationToken cancellation = default(CancellationToken))
        {
            var value = new Value { Tensor = observation };
            return StepAsync(value, reward, terminated, truncated, episodeStart, actionMask, within, cancellation);
        }

        /// <summary>The same for an observation space that is a Dict, a Tuple or a Text.</summary>
        /// <param name="observation">
        /// A batch, too: every tensor has a leading axis, and every text has one string per environment.
        /// </param>
        /// <param name="reward">The reward of each environment.</param>
        /// <param name="terminated">Whether the episode ended in a terminal state.</param>
        /// <param name="truncated">Whether the episode was cut off.</param>
        /// <param name="episodeStart">Whether each observation is the first of an episode.</param>
        /// <param name="actionMask">The allowed actions.</param>
        /// <param name="within">The timeout of the step.</param>
        /// <param name="cancellation">Ends the step.</param>
        public async Task<ActResponse> StepAsync(
            Value observation,
            float[] reward = null,
            bool[] terminated = null,
            bool[] truncated = null,
            bool[] episodeStart = null,
            V1.Tensor actionMask = null,
            TimeSpan? within = null,
            CancellationToken cancellation = default(CancellationToken))
        {
            cancellation.ThrowIfCancellationRequested();
            if (failure != null)
            {
                throw failure;
            }
            TimeSpan allowed = within.HasValue ? Waits.Bounded(within.Value) : timeout;
            hold = null;
            PlayRequest request = template.Clone();
            request.Id = ++id;
            request.Observation = observation;
            request.Reward = reward == null ? null : Tensors.Of(reward);
            request.Terminated = terminated == null ? null : Tensors.Of(terminated);
            request.Truncated = truncated == null ? null : Tensors.Of(truncated);
            request.EpisodeStart = episodeStart == null ? null : Tensors.Of(episodeStart);
            request.ActionMask = actionMask;
            template = later;
            using (var stepTimeout = new StepTimeout(allowed, cancellation))
            {
                try
                {
                    await SendAsync(request, stepTimeout).ConfigureAwait(false);
                    return Read(await ReceiveAsync(stepTimeout).ConfigureAwait(false));
                }
                catch (RpcException error)
                {
                    throw Ended(Failures.Translate(error, target, allowed));
                }
                catch (ObjectDisposedException error)
                {
                    throw Ended(Failures.Closed(target, error));
                }
            }
        }

        /// <summary>Ends the session.</summary>
        public void Dispose()
        {
            Ended(new ServerUnavailableException("the session has been closed; open a new one", null, null));
            ending.Cancel();
            call.Dispose();
        }

        private async Task SendAsync(PlayRequest request, StepTimeout stepTimeout)
        {
            try
            {
                Task sending = call.RequestStream.WriteAsync(request);
                await Task.WhenAny(sending, stepTimeout.Over).ConfigureAwait(false);
                if (sending.IsCompleted)
                {
                    await sending.ConfigureAwait(false);
                    return;
                }
            }
            catch (InvalidOperationException error) when (!(error is ObjectDisposedException))
            {
                // WriteAsync throws this when the stream has ended. Reading returns the reason, if there is one.
                await ReceiveAsync(stepTimeout).ConfigureAwait(false);
                throw Ended(EndedByServer(error));
            }
            // The server does not read. A stream allows only one write at a time.
            ending.Cancel();
            Ended(Failures.Late(target, stepTimeout.Allowed, null));
            stepTimeout.Cancellation.ThrowIfCancellationRequested();
            throw failure;
        }

        private async Task<PlayResponse> ReceiveAsync(StepTimeout stepTimeout)
        {
            while (true)
            {
                // Reuses the pending read of a step that timed out, because a stream allows only one read at a time.
                reading = reading ?? call.ResponseStream.MoveNext(CancellationToken.None);
                if (await Task.WhenAny(reading, stepTimeout.Over).ConfigureAwait(false) != reading)
                {
                    stepTimeout.Cancellation.ThrowIfCancellationRequested();
                    throw Failures.Late(target, stepTimeout.Allowed, null);
                }
                bool more = await reading.ConfigureAwait(false);
                reading = null;
                if (!more)
                {
                    throw Ended(EndedByServer(null));
                }
                PlayResponse response = call.ResponseStream.Current;
                if (response.Id != id)
                {
                    continue; // a response to a step that timed out
                }
                if (response.ResultCase != PlayResponse.ResultOneofCase.Waiting)
                {
                    return response;
                }
                stepTimeout.Renew();
            }
        }

        private ActResponse Read(PlayResponse response)
        {
            if (response.ResultCase == PlayResponse.ResultOneofCase.Error)
            {
                throw Failures.Of(response.Error, null);
            }
            if (response.ResultCase != PlayResponse.ResultOneofCase.Act)
            {
                throw Failures.Unreadable("it has neither actions nor an error", null);
            }
            ActResponse actions = Failures.WithActions(response.Act);
            try
            {
                hold = response.Hold?.Flags();
            }
            catch (InvalidOperationException wrong)
            {
                throw Failures.Unreadable("hold: " + wrong.Message, wrong);
            }
            return actions;
        }

        /// <summary>Records why the session has ended. The first reason is kept.</summary>
        private PolicyServiceException Ended(PolicyServiceException reason)
        {
            failure = failure ?? reason;
            return failure;
        }

        private ServerUnavailableException EndedByServer(Exception inner)
        {
            return new ServerUnavailableException(target + " has ended the session; open a new one", null, inner);
        }

        /// <summary>The timeout of a step. Its timer is disposed with the step.</summary>
        private sealed class StepTimeout : IDisposable
        {
            private CancellationTokenSource timer;

            public StepTimeout(TimeSpan allowed, CancellationToken cancellation)
            {
                Allowed = allowed;
                Cancellation = cancellation;
                Renew();
            }

            public TimeSpan Allowed { get; }

            public CancellationToken Cancellation { get; }

            /// <summary>Completes when the timeout has passed or the step is cancelled.</summary>
            public Task Over { get; private set; }

            public void Renew()
            {
                Dispose();
                timer = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
                Over = Task.Delay(Allowed, timer.Token);
            }

            public void Dispose()
            {
                timer?.Cancel();
                timer?.Dispose();
            }
        }
    }
}

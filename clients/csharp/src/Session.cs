using System;
using System.Threading;
using System.Threading.Tasks;
using Grpc.Core;
using Pgkeras.V1;

namespace Pgkeras.Client
{
    /// <summary>One simulator's session, of one or many environments. For one caller at a time.</summary>
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
        /// Which environments should not take the actions of the last step, one flag for each; null: none. They have played
        /// what a policy in training had them play: the next step sends the same first observation again, with
        /// <c>episodeStart</c>.
        /// </summary>
        public bool[] Hold
        {
            get { return hold; }
        }

        /// <summary>Whether the session has ended, with an exception or by Dispose; a step then throws what ended it.</summary>
        public bool IsOver
        {
            get { return failure != null; }
        }

        /// <summary>Reports what the last actions led to, and asks for the next.</summary>
        /// <remarks>
        /// An <see cref="InvalidRequestException"/> leaves the session as if the step had not been made; after a
        /// <see cref="ServerBusyException"/> the same step may be made again; a step whose timeout passes counts, and its
        /// action is lost. But a timeout that passes while the server takes nothing ends the session, and a server that has
        /// too many sessions, that refuses the simulator, or for which a session was idle for too long, ends it with such an
        /// exception: <see cref="IsOver"/> tells whether it goes on.
        /// </remarks>
        /// <param name="observation">Always a batch: one row for each environment, as many at every step.</param>
        /// <param name="reward">One for each environment; like the next two null at the first step.</param>
        /// <param name="terminated">Whether the last action ended the episode in a terminal state.</param>
        /// <param name="truncated">Whether the episode was cut off after it.</param>
        /// <param name="episodeStart">Whether each observation is the first of an episode; null: after one that ended.</param>
        /// <param name="actionMask">Which actions are allowed; null: all.</param>
        /// <param name="within">
        /// How long the step may take; the client's timeout when null. It begins anew whenever a policy in training lets the
        /// simulator know that it is being improved.
        /// </param>
        /// <param name="cancellation">
        /// Ends the step as its timeout does, with an <see cref="OperationCanceledException"/>: it counts, and its action is lost.
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

        /// <summary>The same where the observation space is a Dict, a Tuple or a Text.</summary>
        /// <param name="observation">
        /// A batch, too: every tensor in it has a leading axis, and every text as many strings as there are environments.
        /// </param>
        /// <param name="reward">As above, like what follows.</param>
        /// <param name="terminated">Whether the last action ended the episode in a terminal state.</param>
        /// <param name="truncated">Whether the episode was cut off after it.</param>
        /// <param name="episodeStart">Whether each observation is the first of an episode.</param>
        /// <param name="actionMask">Which actions are allowed.</param>
        /// <param name="within">How long the step may take.</param>
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
            using (var patience = new Patience(allowed, cancellation))
            {
                try
                {
                    await SendAsync(request, patience).ConfigureAwait(false);
                    return Read(await ReceiveAsync(patience).ConfigureAwait(false));
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

        private async Task SendAsync(PlayRequest request, Patience patience)
        {
            try
            {
                Task sending = call.RequestStream.WriteAsync(request);
                await Task.WhenAny(sending, patience.Over).ConfigureAwait(false);
                if (sending.IsCompleted)
                {
                    await sending.ConfigureAwait(false);
                    return;
                }
            }
            catch (InvalidOperationException error) when (!(error is ObjectDisposedException))
            {
                // What WriteAsync says when the stream has ended. Reading says why, or else that it has just ended.
                await ReceiveAsync(patience).ConfigureAwait(false);
                throw Ended(EndedByServer(error));
            }
            // The server takes nothing; a stream can have but one message on its way.
            ending.Cancel();
            Ended(Failures.Late(target, patience.Allowed, null));
            patience.Cancellation.ThrowIfCancellationRequested();
            throw failure;
        }

        private async Task<PlayResponse> ReceiveAsync(Patience patience)
        {
            while (true)
            {
                // A read that a late answer left behind goes on; there can be but one.
                reading = reading ?? call.ResponseStream.MoveNext(CancellationToken.None);
                if (await Task.WhenAny(reading, patience.Over).ConfigureAwait(false) != reading)
                {
                    patience.Cancellation.ThrowIfCancellationRequested();
                    throw Failures.Late(target, patience.Allowed, null);
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
                    continue; // it is one whose deadline has passed
                }
                if (response.ResultCase != PlayResponse.ResultOneofCase.Waiting)
                {
                    return response;
                }
                patience.Renew();
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

        /// <summary>What has ended the session: the first reason stays.</summary>
        private PolicyServiceException Ended(PolicyServiceException reason)
        {
            failure = failure ?? reason;
            return failure;
        }

        private ServerUnavailableException EndedByServer(Exception inner)
        {
            return new ServerUnavailableException(target + " has ended the session; open a new one", null, inner);
        }

        /// <summary>How long a step waits, in a timer that does not outlive it.</summary>
        private sealed class Patience : IDisposable
        {
            private CancellationTokenSource timer;

            public Patience(TimeSpan allowed, CancellationToken cancellation)
            {
                Allowed = allowed;
                Cancellation = cancellation;
                Renew();
            }

            public TimeSpan Allowed { get; }

            public CancellationToken Cancellation { get; }

            /// <summary>Is complete when it has waited so long, or nobody wants to wait any longer.</summary>
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

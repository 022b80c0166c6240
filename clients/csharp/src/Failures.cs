using System;
using System.Linq;
using Google.Protobuf;
using Grpc.Core;
using Pgkeras.Client.Rpc;
using Pgkeras.V1;

namespace Pgkeras.Client
{
    /// <summary>Translates the status of failed calls to exceptions.</summary>
    internal static class Failures
    {
        private const string Details = "grpc-status-details-bin";
        private const string Domain = "pgkeras";
        private static readonly TimeSpan DefaultRetryAfter = TimeSpan.FromSeconds(1);

        // Parts of the messages of gRPC servers and of grpc-dotnet for a message that is too large. Such a status has
        // no details.
        private static readonly string[] SizeRefusals = { "larger than max", "exceeds the maximum configured message size" };

        /// <summary>Whether a call reached its deadline on this side, without a response from the server.</summary>
        public static bool IsLate(RpcException error)
        {
            return error.StatusCode == StatusCode.DeadlineExceeded && Trailer(error) == null;
        }

        /// <summary>Returns the exception of a failed call, with a message that says what to do.</summary>
        public static PolicyServiceException Translate(RpcException error, string target, TimeSpan timeout)
        {
            Metadata.Entry entry = Trailer(error);
            if (entry != null)
            {
                try
                {
                    // A PlayError has the fields of a google.rpc.Status, with the same numbers.
                    PlayError status = PlayError.Parser.ParseFrom(entry.ValueBytes);
                    if (status.Code == (int)error.StatusCode)
                    {
                        return Of(status, error);
                    }
                }
                catch (InvalidProtocolBufferException)
                {
                    // The trailer was corrupted on the way. Code and message are still valid.
                }
            }
            switch (error.StatusCode)
            {
                case StatusCode.DeadlineExceeded:
                    return Late(target, timeout, error);
                case StatusCode.Cancelled:
                    return new ServerUnavailableException(
                        target + " has cut the call off: it is stopping, or has far more calls than it can take; try again in "
                        + "a moment",
                        null,
                        error);
                case StatusCode.Unavailable:
                    return new ServerUnavailableException(
                        "no policy server answers at " + target + "; start one with: pgkeras serve, or check the address, "
                        + "and whether it speaks TLS (" + error.Status.Detail + ")",
                        null,
                        error);
                default:
                    return Of(new PlayError { Code = (int)error.StatusCode, Message = error.Status.Detail ?? "" }, error);
            }
        }

        /// <summary>Returns the exception for a response that did not arrive in time.</summary>
        public static DeadlineExceededException Late(string target, TimeSpan timeout, Exception inner)
        {
            return new DeadlineExceededException(
                "no answer from " + target + " within " + timeout.TotalSeconds + " s; is it the right address? If the "
                + "server is just slow, give the call a longer timeout",
                inner);
        }

        /// <summary>Returns the exception for a call on a disposed channel.</summary>
        public static ServerUnavailableException Closed(string target, Exception inner)
        {
            return new ServerUnavailableException("the connection to " + target + " has been closed", null, inner);
        }

        /// <summary>Returns the exception for a response that this client cannot decode.</summary>
        public static ServerFailedException Unreadable(string reason, Exception inner)
        {
            return new ServerFailedException(
                "the server's answer cannot be read: " + reason + "; is the server newer than this client?", inner);
        }

        /// <summary>Returns the response if it has actions.</summary>
        /// <exception cref="ServerFailedException">The response has no actions.</exception>
        public static ActResponse WithActions(ActResponse response)
        {
            if (response.Action == null && response.StructuredAction == null)
            {
                throw Unreadable("it has no action", null);
            }
            return response;
        }

        /// <summary>Returns the exception for a status.</summary>
        public static PolicyServiceException Of(PlayError status, Exception inner)
        {
            string message = status.Message;
            switch ((StatusCode)status.Code)
            {
                case StatusCode.InvalidArgument:
                    return Invalid(status, inner);
                case StatusCode.NotFound:
                    return new PolicyNotFoundException(message, inner);
                case StatusCode.FailedPrecondition:
                    return new SpecMismatchException(message, inner);
                case StatusCode.ResourceExhausted:
                    if (SizeRefusals.Any(refusal => message.Contains(refusal)))
                    {
                        return new InvalidRequestException(
                            "message", "a message within the size limits that GetPolicy states", message, inner);
                    }
                    return new ServerBusyException(message, RetryAfter(status) ?? DefaultRetryAfter, inner);
                case StatusCode.DeadlineExceeded:
                    return new DeadlineExceededException(message, inner);
                case StatusCode.Unavailable:
                case StatusCode.Cancelled:
                    return new ServerUnavailableException(message, RetryAfter(status), inner);
                case StatusCode.Unauthenticated:
                    return new UnauthenticatedException(message, inner);
                case StatusCode.Internal:
                    return new ServerFailedException(message, inner);
                default:
                    return new ServerFailedException((StatusCode)status.Code + ": " + message, inner);
            }
        }

        private static InvalidRequestException Invalid(PlayError status, Exception inner)
        {
            const string accepted = "one that the server accepts";
            BadRequest bad = Detail(status, "google.rpc.BadRequest", BadRequest.Parser);
            if (bad == null || bad.FieldViolations.Count == 0)
            {
                return new InvalidRequestException("request", accepted, status.Message, inner);
            }
            BadRequest.Types.FieldViolation violation = bad.FieldViolations[0];
            ErrorInfo info = Detail(status, "google.rpc.ErrorInfo", ErrorInfo.Parser);
            if (info == null || info.Domain != Domain)
            {
                return new InvalidRequestException(violation.Field, accepted, violation.Description, inner);
            }
            info.Metadata.TryGetValue("expected", out string expected);
            info.Metadata.TryGetValue("got", out string got);
            return new InvalidRequestException(violation.Field, expected ?? "", got ?? "", inner);
        }

        private static TimeSpan? RetryAfter(PlayError status)
        {
            var delay = Detail(status, "google.rpc.RetryInfo", RetryInfo.Parser)?.RetryDelay;
            return delay == null ? null : Waits.Delay(delay.Seconds, delay.Nanos);
        }

        private static Metadata.Entry Trailer(RpcException error)
        {
            return error.Trailers.FirstOrDefault(trailer => trailer.IsBinary && trailer.Key == Details);
        }

        private static T Detail<T>(PlayError status, string kind, MessageParser<T> parser)
            where T : class, IMessage<T>
        {
            foreach (var packed in status.Details.Where(detail => detail.TypeUrl.EndsWith("/" + kind, StringComparison.Ordinal)))
            {
                try
                {
                    return parser.ParseFrom(packed.Value);
                }
                catch (InvalidProtocolBufferException)
                {
                    // A corrupted detail counts as missing.
                }
            }
            return null;
        }
    }
}

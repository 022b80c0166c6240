using System;

namespace Pgkeras.Client
{
    /// <summary>A call to a policy server failed. The inner exception is gRPC's exception, if there was one.</summary>
    public abstract class PolicyServiceException : Exception
    {
        protected PolicyServiceException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>A field of the request is invalid.</summary>
    public sealed class InvalidRequestException : PolicyServiceException
    {
        public InvalidRequestException(string field, string expected, string got, Exception inner)
            : base(field + ": expected " + expected + ", got " + got, inner)
        {
            Field = field;
            Expected = expected;
            Got = got;
        }

        /// <summary>The path of the field in the message, such as "observation".</summary>
        public string Field { get; }

        /// <summary>A description of a valid value.</summary>
        public string Expected { get; }

        /// <summary>A description of the value that was received.</summary>
        public string Got { get; }
    }

    /// <summary>The policy, version or label does not exist. The message lists those that do.</summary>
    public sealed class PolicyNotFoundException : PolicyServiceException
    {
        public PolicyNotFoundException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>The policy's spec has changed since the client described it. Describe it again.</summary>
    public sealed class SpecMismatchException : PolicyServiceException
    {
        public SpecMismatchException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>The server is at capacity.</summary>
    public sealed class ServerBusyException : PolicyServiceException
    {
        public ServerBusyException(string message, TimeSpan retryAfter, Exception inner)
            : base(message, inner)
        {
            RetryAfter = retryAfter;
        }

        /// <summary>How long to wait before a retry.</summary>
        public TimeSpan RetryAfter { get; }
    }

    /// <summary>No response arrived in time.</summary>
    public sealed class DeadlineExceededException : PolicyServiceException
    {
        public DeadlineExceededException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>No server responds at the address, or it is starting or stopping. Ends a session.</summary>
    public sealed class ServerUnavailableException : PolicyServiceException
    {
        public ServerUnavailableException(string message, TimeSpan? retryAfter, Exception inner)
            : base(message, inner)
        {
            RetryAfter = retryAfter;
        }

        /// <summary>How long the server asks to wait before a retry, if it says so.</summary>
        public TimeSpan? RetryAfter { get; }
    }

    /// <summary>The call's token is missing or unknown to the server.</summary>
    public sealed class UnauthenticatedException : PolicyServiceException
    {
        public UnauthenticatedException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>An internal error of the server (its log has the reason), or a call that is not implemented.</summary>
    public sealed class ServerFailedException : PolicyServiceException
    {
        public ServerFailedException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }
}

using System;

namespace Pgkeras.Client
{
    /// <summary>A call to a policy server failed; its inner exception is gRPC's own, if there was one.</summary>
    public abstract class PolicyServiceException : Exception
    {
        protected PolicyServiceException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>A field of the request is wrong.</summary>
    public sealed class InvalidRequestException : PolicyServiceException
    {
        public InvalidRequestException(string field, string expected, string got, Exception inner)
            : base(field + ": expected " + expected + ", got " + got, inner)
        {
            Field = field;
            Expected = expected;
            Got = got;
        }

        /// <summary>Its path in the message, such as "observation".</summary>
        public string Field { get; }

        /// <summary>What would have been right.</summary>
        public string Expected { get; }

        /// <summary>What came.</summary>
        public string Got { get; }
    }

    /// <summary>There is no such policy, version or label; the message lists what there is.</summary>
    public sealed class PolicyNotFoundException : PolicyServiceException
    {
        public PolicyNotFoundException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>The policy has another spec than when it was described: describe it again.</summary>
    public sealed class SpecMismatchException : PolicyServiceException
    {
        public SpecMismatchException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>The server is full.</summary>
    public sealed class ServerBusyException : PolicyServiceException
    {
        public ServerBusyException(string message, TimeSpan retryAfter, Exception inner)
            : base(message, inner)
        {
            RetryAfter = retryAfter;
        }

        /// <summary>How long to wait before trying again.</summary>
        public TimeSpan RetryAfter { get; }
    }

    /// <summary>No answer came in time.</summary>
    public sealed class DeadlineExceededException : PolicyServiceException
    {
        public DeadlineExceededException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>Nobody answers at the address, or the server is starting or stopping; it ends a session.</summary>
    public sealed class ServerUnavailableException : PolicyServiceException
    {
        public ServerUnavailableException(string message, TimeSpan? retryAfter, Exception inner)
            : base(message, inner)
        {
            RetryAfter = retryAfter;
        }

        /// <summary>How long to wait before trying again, if the server said so.</summary>
        public TimeSpan? RetryAfter { get; }
    }

    /// <summary>The call's token is missing, or not one that the server knows.</summary>
    public sealed class UnauthenticatedException : PolicyServiceException
    {
        public UnauthenticatedException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }

    /// <summary>The server has a defect, whose reason is in its log, or does not offer the call.</summary>
    public sealed class ServerFailedException : PolicyServiceException
    {
        public ServerFailedException(string message, Exception inner)
            : base(message, inner)
        {
        }
    }
}

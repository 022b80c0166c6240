// Stubs of Grpc.Core.Api and Grpc.Net.Client; see Protobuf.cs.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Grpc.Core
{
    public enum StatusCode
    {
        OK = 0,
        Cancelled = 1,
        Unknown = 2,
        InvalidArgument = 3,
        DeadlineExceeded = 4,
        NotFound = 5,
        AlreadyExists = 6,
        PermissionDenied = 7,
        ResourceExhausted = 8,
        FailedPrecondition = 9,
        Aborted = 10,
        OutOfRange = 11,
        Unimplemented = 12,
        Internal = 13,
        Unavailable = 14,
        DataLoss = 15,
        Unauthenticated = 16,
    }

    public enum MethodType
    {
        Unary,
        ClientStreaming,
        ServerStreaming,
        DuplexStreaming,
    }

    public struct Status
    {
        public StatusCode StatusCode => throw null;
        public string Detail => throw null;
    }

    public class RpcException : Exception
    {
        public Status Status => throw null;
        public StatusCode StatusCode => throw null;
        public Metadata Trailers => throw null;
    }

    public sealed class Metadata : IList<Metadata.Entry>
    {
        public int Count => throw null;
        public bool IsReadOnly => throw null;
        public Entry this[int index] { get => throw null; set => throw null; }
        public void Add(string key, string value) => throw null;
        public void Add(Entry item) => throw null;
        public void Clear() => throw null;
        public bool Contains(Entry item) => throw null;
        public void CopyTo(Entry[] array, int at) => throw null;
        public bool Remove(Entry item) => throw null;
        public int IndexOf(Entry item) => throw null;
        public void Insert(int index, Entry item) => throw null;
        public void RemoveAt(int index) => throw null;
        public IEnumerator<Entry> GetEnumerator() => throw null;
        IEnumerator IEnumerable.GetEnumerator() => throw null;

        public class Entry
        {
            public string Key => throw null;
            public bool IsBinary => throw null;
            public byte[] ValueBytes => throw null;
        }
    }

    public class SerializationContext
    {
    }

    public class DeserializationContext
    {
    }

    public class Marshaller<T>
    {
    }

    public static class Marshallers
    {
        public static Marshaller<T> Create<T>(Func<T, byte[]> serializer, Func<byte[], T> deserializer) => throw null;

        public static Marshaller<T> Create<T>(
            Action<T, SerializationContext> serializer, Func<DeserializationContext, T> deserializer)
            => throw null;
    }

    public class Method<TRequest, TResponse>
    {
        public Method(
            MethodType type,
            string serviceName,
            string name,
            Marshaller<TRequest> requestMarshaller,
            Marshaller<TResponse> responseMarshaller)
            => throw null;
    }

    public class WriteOptions
    {
    }

    public class ContextPropagationToken
    {
    }

    public class CallCredentials
    {
    }

    public struct CallOptions
    {
        public CallOptions(
            Metadata headers = null,
            DateTime? deadline = null,
            CancellationToken cancellationToken = default(CancellationToken),
            WriteOptions writeOptions = null,
            ContextPropagationToken propagationToken = null,
            CallCredentials credentials = null)
            => throw null;
    }

    public interface IAsyncStreamReader<T>
    {
        T Current { get; }
        Task<bool> MoveNext(CancellationToken cancellationToken);
    }

    public interface IAsyncStreamWriter<T>
    {
        Task WriteAsync(T message);
    }

    public interface IClientStreamWriter<T> : IAsyncStreamWriter<T>
    {
        Task CompleteAsync();
    }

    public sealed class AsyncUnaryCall<TResponse> : IDisposable
    {
        public Task<TResponse> ResponseAsync => throw null;
        public void Dispose() => throw null;
    }

    public sealed class AsyncDuplexStreamingCall<TRequest, TResponse> : IDisposable
    {
        public IAsyncStreamReader<TResponse> ResponseStream => throw null;
        public IClientStreamWriter<TRequest> RequestStream => throw null;
        public void Dispose() => throw null;
    }

    public abstract class CallInvoker
    {
        public abstract AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            Method<TRequest, TResponse> method, string host, CallOptions options, TRequest request)
            where TRequest : class
            where TResponse : class;

        public abstract AsyncDuplexStreamingCall<TRequest, TResponse> AsyncDuplexStreamingCall<TRequest, TResponse>(
            Method<TRequest, TResponse> method, string host, CallOptions options)
            where TRequest : class
            where TResponse : class;
    }

    public abstract class ChannelBase
    {
        public string Target => throw null;
        public abstract CallInvoker CreateCallInvoker();
    }
}

namespace System.Net.Http
{
    public class SocketsHttpHandler
    {
        public bool UseProxy { get; set; }
        public TimeSpan KeepAlivePingDelay { get; set; }
        public TimeSpan KeepAlivePingTimeout { get; set; }
    }
}

namespace Grpc.Net.Client
{
    public class GrpcChannelOptions
    {
        public object HttpHandler { get; set; }
    }

    public sealed class GrpcChannel : Grpc.Core.ChannelBase, IDisposable
    {
        public static GrpcChannel ForAddress(string address) => throw null;
        public static GrpcChannel ForAddress(string address, GrpcChannelOptions options) => throw null;
        public override Grpc.Core.CallInvoker CreateCallInvoker() => throw null;
        public void Dispose() => throw null;
    }
}

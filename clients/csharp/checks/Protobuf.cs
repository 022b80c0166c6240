// Stubs of Google.Protobuf, which let Mono's compiler check this client without NuGet: the documented signatures,
// without behavior. Not part of the client.
using System;
using System.Collections;
using System.Collections.Generic;

namespace Google.Protobuf
{
    public interface IMessage
    {
        Reflection.MessageDescriptor Descriptor { get; }
        void MergeFrom(CodedInputStream input);
        void WriteTo(CodedOutputStream output);
        int CalculateSize();
    }

    public interface IDeepCloneable<T>
    {
        T Clone();
    }

    public interface IMessage<T> : IMessage, IEquatable<T>, IDeepCloneable<T>
        where T : IMessage<T>
    {
        void MergeFrom(T message);
    }

    public static class MessageExtensions
    {
        public static byte[] ToByteArray(this IMessage message) => throw null;
    }

    public class MessageParser
    {
    }

    public sealed class MessageParser<T> : MessageParser
        where T : IMessage<T>
    {
        public MessageParser(Func<T> factory) => throw null;
        public T ParseFrom(byte[] data) => throw null;
        public T ParseFrom(ByteString data) => throw null;
    }

    public sealed class InvalidProtocolBufferException : System.IO.IOException
    {
    }

    public sealed class ByteString
    {
        public static ByteString Empty => throw null;
        public int Length => throw null;
        public ReadOnlySpan<byte> Span => throw null;
        public static ByteString CopyFrom(params byte[] bytes) => throw null;
        public static ByteString CopyFrom(ReadOnlySpan<byte> bytes) => throw null;
        public static bool operator ==(ByteString one, ByteString other) => throw null;
        public static bool operator !=(ByteString one, ByteString other) => throw null;
        public override bool Equals(object other) => throw null;
        public override int GetHashCode() => throw null;
    }

    public sealed class UnknownFieldSet
    {
        public static UnknownFieldSet Clone(UnknownFieldSet other) => throw null;
        public static UnknownFieldSet MergeFrom(UnknownFieldSet one, UnknownFieldSet other) => throw null;
        public static UnknownFieldSet MergeFieldFrom(UnknownFieldSet fields, CodedInputStream input) => throw null;
        public void WriteTo(CodedOutputStream output) => throw null;
        public int CalculateSize() => throw null;
    }

    public static class JsonFormatter
    {
        public static string ToDiagnosticString(IMessage message) => throw null;
    }

    public static class ProtoPreconditions
    {
        public static T CheckNotNull<T>(T value, string name)
            where T : class
            => throw null;
    }

    public sealed class CodedInputStream
    {
        public uint ReadTag() => throw null;
        public string ReadString() => throw null;
        public ByteString ReadBytes() => throw null;
        public bool ReadBool() => throw null;
        public float ReadFloat() => throw null;
        public double ReadDouble() => throw null;
        public int ReadInt32() => throw null;
        public uint ReadUInt32() => throw null;
        public long ReadInt64() => throw null;
        public ulong ReadUInt64() => throw null;
        public int ReadEnum() => throw null;
        public void ReadMessage(IMessage message) => throw null;
    }

    public sealed class CodedOutputStream
    {
        public void WriteRawTag(byte first) => throw null;
        public void WriteString(string value) => throw null;
        public void WriteBytes(ByteString value) => throw null;
        public void WriteRawTag(byte first, byte second) => throw null;
        public void WriteBool(bool value) => throw null;
        public void WriteFloat(float value) => throw null;
        public void WriteDouble(double value) => throw null;
        public void WriteInt32(int value) => throw null;
        public void WriteUInt32(uint value) => throw null;
        public void WriteInt64(long value) => throw null;
        public void WriteUInt64(ulong value) => throw null;
        public void WriteEnum(int value) => throw null;
        public void WriteMessage(IMessage value) => throw null;
        public static int ComputeStringSize(string value) => throw null;
        public static int ComputeBytesSize(ByteString value) => throw null;
        public static int ComputeInt32Size(int value) => throw null;
        public static int ComputeUInt32Size(uint value) => throw null;
        public static int ComputeInt64Size(long value) => throw null;
        public static int ComputeUInt64Size(ulong value) => throw null;
        public static int ComputeEnumSize(int value) => throw null;
        public static int ComputeMessageSize(IMessage value) => throw null;
    }

    public sealed class FieldCodec<T>
    {
    }

    public static class FieldCodec
    {
        public static FieldCodec<string> ForString(uint tag) => throw null;
        public static FieldCodec<string> ForString(uint tag, string byDefault) => throw null;
        public static FieldCodec<bool> ForBool(uint tag) => throw null;
        public static FieldCodec<int> ForInt32(uint tag) => throw null;
        public static FieldCodec<uint> ForUInt32(uint tag) => throw null;
        public static FieldCodec<long> ForInt64(uint tag) => throw null;
        public static FieldCodec<ulong> ForUInt64(uint tag) => throw null;
        public static FieldCodec<float> ForFloat(uint tag) => throw null;
        public static FieldCodec<ByteString> ForBytes(uint tag) => throw null;
        public static FieldCodec<double> ForDouble(uint tag) => throw null;
        public static FieldCodec<T> ForEnum<T>(uint tag, Func<T, int> toInt, Func<int, T> fromInt) => throw null;

        public static FieldCodec<T> ForMessage<T>(uint tag, MessageParser<T> parser)
            where T : class, IMessage<T>
            => throw null;
    }
}

namespace Google.Protobuf.Collections
{
    public static class ProtobufEqualityComparers
    {
        public static EqualityComparer<double> BitwiseDoubleEqualityComparer => throw null;
        public static EqualityComparer<float> BitwiseSingleEqualityComparer => throw null;
    }

    public sealed class RepeatedField<T> : IList<T>, IDeepCloneable<RepeatedField<T>>
    {
        public int Count => throw null;
        public bool IsReadOnly => throw null;
        public T this[int index] { get => throw null; set => throw null; }
        public void Add(T item) => throw null;
        public void Add(IEnumerable<T> items) => throw null;
        public void AddRange(IEnumerable<T> items) => throw null;
        public void Clear() => throw null;
        public bool Contains(T item) => throw null;
        public void CopyTo(T[] array, int at) => throw null;
        public bool Remove(T item) => throw null;
        public int IndexOf(T item) => throw null;
        public void Insert(int index, T item) => throw null;
        public void RemoveAt(int index) => throw null;
        public IEnumerator<T> GetEnumerator() => throw null;
        IEnumerator IEnumerable.GetEnumerator() => throw null;
        public RepeatedField<T> Clone() => throw null;
        public bool Equals(RepeatedField<T> other) => throw null;
        public void WriteTo(CodedOutputStream output, FieldCodec<T> codec) => throw null;
        public void AddEntriesFrom(CodedInputStream input, FieldCodec<T> codec) => throw null;
        public int CalculateSize(FieldCodec<T> codec) => throw null;
    }

    public sealed class MapField<TKey, TValue>
    {
        public bool TryGetValue(TKey key, out TValue value) => throw null;
        public void Add(MapField<TKey, TValue> other) => throw null;
        public void MergeFrom(MapField<TKey, TValue> other) => throw null;
        public MapField<TKey, TValue> Clone() => throw null;
        public bool Equals(MapField<TKey, TValue> other) => throw null;
        public void WriteTo(CodedOutputStream output, Codec codec) => throw null;
        public void AddEntriesFrom(CodedInputStream input, Codec codec) => throw null;
        public int CalculateSize(Codec codec) => throw null;

        public sealed class Codec
        {
            public Codec(FieldCodec<TKey> keys, FieldCodec<TValue> values, uint tag) => throw null;
        }
    }
}

namespace Google.Protobuf.Reflection
{
    public sealed class OriginalNameAttribute : Attribute
    {
        public OriginalNameAttribute(string name) => throw null;
        public bool PreferredAlias { get; set; }
    }

    public sealed class MessageDescriptor
    {
        public IList<MessageDescriptor> NestedTypes => throw null;
    }

    public sealed class FileDescriptor
    {
        public IList<MessageDescriptor> MessageTypes => throw null;

        public static FileDescriptor FromGeneratedCode(
            byte[] descriptor, FileDescriptor[] dependencies, GeneratedClrTypeInfo info)
            => throw null;
    }

    public sealed class Extension
    {
    }

    public sealed class GeneratedClrTypeInfo
    {
        public GeneratedClrTypeInfo(
            Type type,
            MessageParser parser,
            string[] properties,
            string[] oneofs,
            Type[] enums,
            Extension[] extensions,
            GeneratedClrTypeInfo[] nested)
            => throw null;

        public GeneratedClrTypeInfo(Type[] enums, Extension[] extensions, GeneratedClrTypeInfo[] nested) => throw null;
    }
}

namespace Google.Protobuf.WellKnownTypes
{
    public abstract class WellKnown<T> : IMessage<T>
        where T : WellKnown<T>
    {
        public static MessageParser<T> Parser => throw null;
        public Reflection.MessageDescriptor Descriptor => throw null;
        public void MergeFrom(T message) => throw null;
        public void MergeFrom(CodedInputStream input) => throw null;
        public void WriteTo(CodedOutputStream output) => throw null;
        public int CalculateSize() => throw null;
        public T Clone() => throw null;
        public bool Equals(T other) => throw null;
    }

    public sealed class Any : WellKnown<Any>
    {
        public string TypeUrl => throw null;
        public ByteString Value => throw null;
    }

    public sealed class Duration : WellKnown<Duration>
    {
        public long Seconds => throw null;
        public int Nanos => throw null;
    }

    public sealed class Timestamp : WellKnown<Timestamp>
    {
    }

    public sealed class Struct : WellKnown<Struct>
    {
    }

    public static class AnyReflection
    {
        public static Reflection.FileDescriptor Descriptor => throw null;
    }

    public static class DurationReflection
    {
        public static Reflection.FileDescriptor Descriptor => throw null;
    }

    public static class TimestampReflection
    {
        public static Reflection.FileDescriptor Descriptor => throw null;
    }

    public static class StructReflection
    {
        public static Reflection.FileDescriptor Descriptor => throw null;
    }
}

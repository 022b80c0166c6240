using Google.Protobuf;
using Grpc.Core;
using Pgkeras.V1;

namespace Pgkeras.Client
{
    /// <summary>The methods of pgkeras.v1.PolicyService, as Grpc.Tools would generate them.</summary>
    internal static class PolicyServiceMethods
    {
        private const string Service = "pgkeras.v1.PolicyService";

        public static readonly Method<ActRequest, ActResponse> Act =
            Make(MethodType.Unary, "Act", ActRequest.Parser, ActResponse.Parser);

        public static readonly Method<PlayRequest, PlayResponse> Play =
            Make(MethodType.DuplexStreaming, "Play", PlayRequest.Parser, PlayResponse.Parser);

        public static readonly Method<GetPolicyRequest, GetPolicyResponse> GetPolicy =
            Make(MethodType.Unary, "GetPolicy", GetPolicyRequest.Parser, GetPolicyResponse.Parser);

        public static readonly Method<ListPoliciesRequest, ListPoliciesResponse> ListPolicies =
            Make(MethodType.Unary, "ListPolicies", ListPoliciesRequest.Parser, ListPoliciesResponse.Parser);

        private static Method<TRequest, TResponse> Make<TRequest, TResponse>(
            MethodType type, string name, MessageParser<TRequest> requests, MessageParser<TResponse> responses)
            where TRequest : class, IMessage<TRequest>
            where TResponse : class, IMessage<TResponse>
        {
            return new Method<TRequest, TResponse>(
                type,
                Service,
                name,
                Marshallers.Create<TRequest>(message => message.ToByteArray(), bytes => requests.ParseFrom(bytes)),
                Marshallers.Create<TResponse>(message => message.ToByteArray(), bytes => responses.ParseFrom(bytes)));
        }
    }
}

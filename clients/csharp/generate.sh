#!/usr/bin/env bash
# Generates the committed messages from protos/ into the given directory, by default src.
set -euo pipefail
cd "$(dirname "$0")"
into=${1:-src}
mkdir -p "$into/V1" "$into/Rpc"
protoc -I../../protos --csharp_out="$into/V1" ../../protos/pgkeras/v1/*.proto
# The error details use the C++ client's definitions, because Unity then needs no further assembly for them.
protoc -I../cpp/protos --csharp_out="$into/Rpc" ../cpp/protos/error_details.proto

#!/usr/bin/env bash
# Generates the committed messages from protos/, into a directory of one's choice: that of the client by default.
set -euo pipefail
cd "$(dirname "$0")"
into=${1:-src}
mkdir -p "$into/V1" "$into/Rpc"
protoc -I../../protos --csharp_out="$into/V1" ../../protos/pgkeras/v1/*.proto
# The details of errors: the C++ client's definitions, so that Unity needs no further assembly for them.
protoc -I../cpp/protos --csharp_out="$into/Rpc" ../cpp/protos/error_details.proto

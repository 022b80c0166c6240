#!/usr/bin/env bash
# Generates the stubs into the given folder, from protos/ and from the google.rpc protos that pgkeras installs.
set -euo pipefail
out=$(realpath -m "${1:-$(dirname "$0")/src/generated}")
cd "$(dirname "$0")"
rpc=$(python -c "import google.rpc, pathlib; print(pathlib.Path(list(google.rpc.__path__)[0]))")
rm -rf build/rpc "$out"
mkdir -p build/rpc/google/rpc "$out"
cp "$rpc"/{status,error_details}.proto build/rpc/google/rpc/
for input in ../../protos build/rpc; do
  buf generate "$input" --output "$out" --template '{
    "version": "v2",
    "plugins": [{
      "local": "./node_modules/.bin/protoc-gen-ts_proto",
      "out": ".",
      "opt": ["esModuleInterop=true", "exportCommonSymbols=false", "forceLong=bigint", "importSuffix=.js",
              "oneof=unions-value", "outputJsonMethods=false", "outputPartialMethods=false", "outputServices=grpc-js",
              "useOptionals=all", "removeEnumPrefix=true"]
    }]
  }'
done

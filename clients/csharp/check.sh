#!/usr/bin/env bash
# Checks that the committed messages match what protoc generates, and that everything compiles with Mono's compiler
# against stubs of the NuGet assemblies.
set -euo pipefail
cd "$(dirname "$0")"
rm -rf build && mkdir build
./generate.sh build/generated
for directory in V1 Rpc; do
  diff -rq "build/generated/$directory" "src/$directory" || { echo "out of date: run ./generate.sh"; exit 1; }
done
compile="mcs -langversion:7.2 -warn:4 -warnaserror"
# Compiles the branch of the generated code without ref structs, because the other one needs more of Google.Protobuf.
$compile -define:GOOGLE_PROTOBUF_REFSTRUCT_COMPATIBILITY_MODE -out:build/outline.exe \
  checks/Protobuf.cs checks/Grpc.cs src/*.cs src/*/*.cs example/*.cs
$compile -out:build/trajectory.exe checks/Trajectory.cs example/CartPole.cs
$compile -out:build/times.exe checks/Times.cs src/Waits.cs
mono build/times.exe

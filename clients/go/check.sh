#!/usr/bin/env bash
# Runs the formatter and the linters, and checks that the committed stubs match what buf generates from protos/.
set -euo pipefail
cd "$(dirname "$0")"
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "not formatted: $unformatted; run gofmt -w ."; exit 1; }
go vet ./...
go tool -modfile=tools.mod staticcheck ./...
rm -rf build/_stubs
buf generate --output build/_stubs
diff -r build/_stubs/pgkeras/v1 pgkeras/v1 || { echo "the committed stubs are out of date: run buf generate"; exit 1; }

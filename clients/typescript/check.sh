#!/usr/bin/env bash
# Formatter and linter, and whether the committed stubs are what buf generates from protos/.
set -euo pipefail
cd "$(dirname "$0")"
./node_modules/.bin/biome check .
./generate.sh build/stubs
diff -r build/stubs src/generated || { echo "the committed stubs are out of date: run npm run generate"; exit 1; }

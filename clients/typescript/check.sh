#!/usr/bin/env bash
# Runs the formatter and the linter, and checks that the committed stubs match what buf generates from protos/.
set -euo pipefail
cd "$(dirname "$0")"
./node_modules/.bin/prettier --check --log-level warn .
./node_modules/.bin/eslint .
./generate.sh build/_stubs
diff -r build/_stubs src/generated || { echo "the committed stubs are out of date: run npm run generate"; exit 1; }

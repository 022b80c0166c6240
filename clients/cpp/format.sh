#!/bin/sh
# Formats the code; with --dry-run -Werror, only says what is not formatted.
cd "$(dirname "$0")" && find include src examples bench conformance tests -name '*.?pp' -exec clang-format "${@:--i}" {} +

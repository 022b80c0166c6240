#!/bin/sh
# Formats the code. With --dry-run -Werror, only reports files that are not formatted.
cd "$(dirname "$0")" && find include src examples bench conformance tests -name '*.?pp' -exec clang-format "${@:--i}" {} +

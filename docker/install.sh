#!/bin/sh
# Builds the wheel of a source tree and installs it into a virtual environment of its own.
# What the image is made by, and what a test runs where there is no container engine.
#
#   install.sh SOURCE TARGET [EXTRAS]      such as  install.sh . /opt/milonga postgresql
set -eu
source=$1
target=$2
extras=${3:-}
: "${PYTHON:=python3}"

wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
"$PYTHON" -m venv "$target"
"$target/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$wheels" "$source"
set -- "$wheels"/milonga-*.whl
"$target/bin/python" -m pip install --quiet "$1${extras:+[$extras]}"
"$target/bin/milonga" --version

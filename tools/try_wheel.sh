#!/usr/bin/env bash
# Installs a built wheel in an empty environment, outside any repository, and runs first commands.
#
#   tools/try_wheel.sh DIST [TORCH [lowest]]
#
# TORCH: such as torch==2.4.1, default any that fits. lowest: the oldest releases that the wheel allows
# of all else, in place of the newest.
set -euo pipefail
dist=$(realpath "$1")
entry=$(realpath "$(dirname "$0")/../leaderboard/entries/digits-v2/zoo-jointvae")
torch=${2:-torch}
which=${3:-}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
unset PYTHONPATH
python3 -m venv env
# torch first and alone, as a second resolution could fetch another build of it.
env/bin/python -m pip install --quiet "$torch"
if [ "$which" = lowest ]; then
  unzip -p "$dist"/*.whl '*.dist-info/METADATA' |
    sed -n 's/^Requires-Dist: \([a-z0-9_-]*\)>=\([0-9.]*\)$/\1==\2/p' | grep -v '^torch' > constraints.txt
  export PIP_CONSTRAINT=$home/constraints.txt
fi
# shellcheck disable=SC2086 - several words, where a torch of that age needs its torchvision
env/bin/python -m pip install --quiet "$dist"/*.whl ${TORCHVISION:-} "$(env/bin/python -m pip freeze | grep '^torch==')"
env/bin/genrobust --version
env/bin/genrobust doctor
mkdir digits-v2
cp -r "$entry" digits-v2
env/bin/genrobust verify digits-v2/zoo-jointvae # its hashes are of bytes that libraries write
env/bin/genrobust bench --model jointvae
env/bin/python - <<'PYTHON'
import genrobust

record = genrobust.Record.load("genrobust-runs/digits-v2/jointvae")
print(record)
assert record.official and genrobust.__file__.startswith(__import__("sys").prefix)
PYTHON

#!/usr/bin/env bash
# From nothing to a finished federation: one hub and two institutions on this machine, with the public commands only.
# docs/operations.md explains each step. The headlines are synthetic. The encoder, the privacy and the TLS are real.
# It takes about three minutes on two busy cores.
#
#   examples/deployment/run.sh [DIR]      a new directory (default: runs/deployment)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-runs/deployment}
port=${FEDFIN_PORT:-18443}
[ ! -e "$dir" ] || { echo "$dir exists already: name another directory" >&2; exit 2; }
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
hub=$dir/hub
say() { printf '\n== %s\n' "$*"; }
field() { python3 -c 'import json, sys; print(json.loads(sys.stdin.read().splitlines()[-1])[sys.argv[1]])' "$1"; }

stop() {
  trap - EXIT INT TERM
  local started
  started=$(jobs -p)
  [ -z "$started" ] || { kill $started 2>/dev/null || true; wait || true; }
}
trap stop EXIT INT TERM

say "The hub: authority, server certificate, keys, hub.toml"
fedfin-hub init --home "$hub" --address "127.0.0.1:$port"

for name in bank-one bank-two; do
  home=$dir/$name
  say "$name makes its keys and a request; the hub approves it; $name joins with the package"
  request=$(fedfin-institution init --home "$home" --name "$name" --json)
  # Two people compare this fingerprint by telephone. Here the script does it.
  heard=$(field fingerprint <<<"$request")
  approved=$(fedfin-hub approve "$home/request.json" --fingerprint "$heard" --home "$hub" --json)
  fedfin-institution join "$(field package <<<"$approved")" --fingerprint "$(field fingerprint <<<"$approved")" --home "$home"

  # Only the institution decides these: its rows and its limits.
  cp "$here/$name.csv" "$home/train.csv"
  cat >"$home/institution.toml" <<SETTINGS
[institution]
name = "$name"

[data]
train = "train.csv"

[model]
allowed = ["minilm"]
device = "auto"

[limits]
max_epsilon = 10.0
delta = 1e-4
min_noise_multiplier = 0.3

[release]
declared_units = 512
SETTINGS
done

say "The hub and both institutions start"
fedfin-hub start --home "$hub" >"$dir/hub.log" 2>&1 &
for name in bank-one bank-two; do
  fedfin-institution start --home "$dir/$name" >"$dir/$name.log" 2>&1 &
done
deadline=$((SECONDS + 300))
until fedfin-hub institutions --home "$hub" --json | python3 -c '
import json, sys
found = json.loads(sys.stdin.read().splitlines()[-1])["institutions"]
sys.exit(not all(entry["state"] == "connected" for entry in found))'; do
  [ $SECONDS -lt $deadline ] || { echo "not connected after 300 s: see $dir/*.log" >&2; exit 1; }
  sleep 2
done
fedfin-hub status --home "$hub"

say "The federation runs"
fedfin-hub run "$here/headlines.toml" --home "$hub"

say "The privacy budget that each institution spent, from its own ledger"
for name in bank-one bank-two; do
  fedfin-institution budget show --home "$dir/$name"
done

say "Check the audit logs and the certificates"
fedfin-hub verify --home "$hub"
fedfin-hub certs --home "$hub"

say "Done: everything is in $dir"

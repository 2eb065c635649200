#!/usr/bin/env bash
# What osv.dev knows against the versions that are pinned, by pip-audit, which is on PATH.
#
#   image/audit.sh [FILE …]      default: constraints.txt and the locks
#
# Fails on any finding but the exceptions (EXCEPTIONS=image/audit-exceptions.txt), each until its day. Where the
# service (OSV_URL) cannot be reached nothing is audited: one line says so, and that is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
exceptions=${EXCEPTIONS:-image/audit-exceptions.txt}
service=${OSV_URL:-https://api.osv.dev/v1/query}
[ $# -gt 0 ] || set -- constraints.txt image/*.lock

audit() {
  pip-audit --vulnerability-service osv --osv-url "$service" --timeout 10 --no-deps --disable-pip \
    --progress-spinner off "$@"
}

# CVE-2019-11324. A service that does not know of it, such as a mirror that answers everything, knows nothing
known=$(audit --requirement <(echo urllib3==1.24.1) 2>/dev/null) || true
case $known in *urllib3*) ;; *) echo "not audited: $service cannot be reached" >&2; exit ;; esac

# shellcheck disable=SC2046  # the options are words
# Without hashes: pip-audit wants them on all lines or on none, and would advise them
PIP_AUDIT_LOGLEVEL=error audit --requirement <(grep -hoE '^[^ #]+==[^ ]+' "$@" | sort -u) \
  $(awk -v today="$(date +%F)" '/^[^#]/ && $2 >= today && NF > 2 {print "--ignore-vuln", $1}' "$exceptions")

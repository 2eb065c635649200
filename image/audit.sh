#!/usr/bin/env bash
# Looks up the pinned versions in osv.dev with pip-audit (from PATH), and fails if one has a known vulnerability.
#
#   image/audit.sh [FILE …]      (default: constraints.txt and the lock files)
#
#   EXCEPTIONS=…  file of vulnerabilities to ignore, each until a date (default: image/audit-exceptions.txt)
#   OSV_URL=…     the service (default: osv.dev). If it cannot be reached, a line says so and the exit status is 0.
set -euo pipefail
cd "$(dirname "$0")/.."
exceptions=${EXCEPTIONS:-image/audit-exceptions.txt}
service=${OSV_URL:-https://api.osv.dev/v1/query}
[ $# -gt 0 ] || set -- constraints.txt image/*.lock

audit() {
  pip-audit --vulnerability-service osv --osv-url "$service" --timeout 10 --no-deps --disable-pip \
    --progress-spinner off "$@"
}

# CVE-2019-11324. A service that does not report it is not osv.dev
known=$(audit --requirement <(echo urllib3==1.24.1) 2>/dev/null) || true
case $known in *urllib3*) ;; *) echo "not audited: $service cannot be reached" >&2; exit ;; esac

# shellcheck disable=SC2046  # each word of the output is one argument
# Without hashes, which pip-audit accepts only if all lines have one
PIP_AUDIT_LOGLEVEL=error audit --requirement <(grep -hoE '^[^ #]+==[^ ]+' "$@" | sort -u) \
  $(awk -v today="$(date +%F)" '/^[^#]/ && $2 >= today && NF > 2 {print "--ignore-vuln", $1}' "$exceptions")

#!/usr/bin/env bash
# Versions: urllib3 2.8.0; Python 3.11
# Expected: Retry-After is followed as it stands, or refused when it is too long; 1.5 seconds are two.
# Seen: 12 hours (43200) become 6 hours, in silence, and so does a date in ten years. 1.5 and an ISO date raise
#   InvalidHeader, after an answer that was good enough to retry.
# Why it matters: a shop in maintenance until tomorrow is asked again after six hours. A proxy that writes fractions
#   ends the retries instead of delaying them. Retry(retry_after_max=…) sets the limit.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    urllib3==2.8.0 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

def wait(text, **more):
    try:
        return round(Retry(3, **more).parse_retry_after(text))
    except InvalidHeader:
        return "InvalidHeader"

texts = ["120", "43200", "Wed, 21 Oct 2037 07:28:00 GMT", "1.5", "2037-10-21T07:28:00Z"]
seen = [wait(text) for text in texts]
for text, seconds in zip(texts, seen):
    print(f"{text:30}", seconds)
print("43200, retry_after_max=86400  ", wait("43200", retry_after_max=86400))
sys.exit(not (seen == [120, 21600, 21600, "InvalidHeader", "InvalidHeader"] and wait("43200", retry_after_max=86400) == 43200))
PYTHON

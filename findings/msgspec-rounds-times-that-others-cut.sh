#!/usr/bin/env bash
# Versions: msgspec 0.23.0, pydantic 2.14.4, duckdb 2.0.1; Python 3.11
# Expected: a time with nanoseconds is cut to microseconds, by every reader alike.
# Seen: msgspec rounds: …05.999999999Z becomes the next second. pydantic, datetime.fromisoformat and DuckDB cut.
# Why it matters: a time is used as a mark ("changed since"): read by two programs it differs by a microsecond, equal
#   rows look changed, and a mark that was rounded up lies after the row it stands for.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    msgspec==0.23.0 pydantic==2.14.4 duckdb==2.0.1 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import datetime, sys
import duckdb, msgspec, pydantic

text = "2024-01-02T03:04:05.999999999Z"
seen = {
    "msgspec": msgspec.convert(text, datetime.datetime, strict=False),
    "pydantic": pydantic.TypeAdapter(datetime.datetime).validate_python(text),
    "fromisoformat": datetime.datetime.fromisoformat(text),
    "DuckDB": duckdb.sql(f"SELECT (TIMESTAMPTZ '{text}') AT TIME ZONE 'UTC'").fetchall()[0][0],
}
for name, value in seen.items():
    print(f"{name:14}", value)
seconds = [(value.second, value.microsecond) for value in seen.values()]
sys.exit(seconds != [(6, 0)] + [(5, 999999)] * 3)
PYTHON

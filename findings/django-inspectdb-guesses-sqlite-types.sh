#!/usr/bin/env bash
# Versions: django 5.2.19; Python 3.11
# Expected: inspectdb takes digits, places and types from the columns as they were declared.
# Seen: NUMERIC(20,6), TIMESTAMP and JSON become TextField; DECIMAL(20,6) becomes DecimalField(max_digits=10,
#   decimal_places=5), and reading through it rounds 1.123456 to 1.12346 (a comment in the generated file admits the
#   guess).
# Why it matters: models made from a SQLite copy round the sixth place and sort prices as text. Correct the fields by
#   hand, or introspect a PostgreSQL copy.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -n '2,/^$/s/^# //p' "$0"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
    django==5.2.19 || exit 2
cd "$folder"
venv/bin/python - <<'PYTHON'
import pathlib, sqlite3, subprocess, sys

connection = sqlite3.connect("p.db")
connection.executescript("""
    CREATE TABLE p (id INTEGER PRIMARY KEY, a DECIMAL(20,6), b NUMERIC(20,6), at TIMESTAMP, day DATETIME, data JSON);
    INSERT INTO p (a, b) VALUES (1.123456, 1.123456);
""")
pathlib.Path("conf.py").write_text(
    "SECRET_KEY = 'x'\nDATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'p.db'}}\n"
)
command = [sys.executable, "-m", "django", "--settings=conf", "--pythonpath=."]
django = lambda *words: subprocess.run([*command[:3], *words, *command[3:]], capture_output=True, text=True).stdout
models = django("inspectdb")
fields = dict(line.strip().split(" = models.", 1) for line in models.splitlines() if " = models." in line)
for name, field in fields.items():
    print(f"{name:5}", field.split(")")[0] + ")")
pathlib.Path("m.py").write_text(models.replace("class Meta:", "class Meta:\n        app_label = 'm'"))
read = django("shell", "-c", "import m; row = m.P.objects.get(); print(row.a, repr(row.b))").strip().splitlines()[-1]
print("read back:", read)
sys.exit(not ("max_digits=10, decimal_places=5" in fields["a"] and all(fields[it].startswith("TextField") for it in ("b", "at", "data"))
              and fields["day"].startswith("DateTimeField") and read.startswith("1.12346 ")))
PYTHON

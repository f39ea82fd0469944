"""msgspec works out a class when it is first asked for it; a thread that asks meanwhile crashes."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import importlib, pkgutil, sys
import msgspec
import sync

for module in pkgutil.walk_packages(sync.__path__, "sync."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

from sync.commerce.pacing import as_shared, new_pace, to_share

late = []


def watch(frame, event, argument):
    if event == "call" and frame.f_code.co_name in ("get_class_annotations", "get_dataclass_info"):
        late.append(frame.f_locals["obj"].__qualname__)


def descendants(kind):
    for each in kind.__subclasses__():
        yield each
        yield from descendants(each)


def is_read(kind):
    return kind.__name__ != "_Sent" and not getattr(kind, "__parameters__", ())  # a base; what is generic


class Control(msgspec.Struct):
    pass


ours = [each for each in descendants(msgspec.Struct) if each.__module__.startswith("sync.")]
classes = [each for each in ours if is_read(each)]
assert len(classes) > 20, classes
shared = to_share(new_pace(4))
sys.setprofile(watch)
for each in [*classes, Control]:
    msgspec.json.Decoder(each)
as_shared(new_pace(4), shared)
sys.setprofile(None)
print(*late)
"""


def test_every_class_that_is_decoded_is_worked_out_when_its_module_is_imported() -> None:
    """Two threads of a worker that mapped their first products at once ended it without a word."""
    late = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)

    assert (late.stdout.split(), late.stderr) == (["Control"], "")

# SPDX-License-Identifier: GPL-2.0-or-later
"""A report with the recording that it was made of, as one file to attach to a bug.

Nothing in it says who made it where: names, ids and times of its members are always the same.
"""

import base64
import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterator
from datetime import datetime

from tdxhost.recording import MEMBER, Recording
from tdxhost.report.document import report_document
from tdxhost.report.model import Report
from tdxhost.report.page import page

FOLDER = "tdxhost-report"
MODE = 0o644
#: One file for each CPU and question is for no one to read.
NOT_RAW = re.compile(r"/sys/devices/system/cpu/cpu\d")
DATA = "data "


def bundle(report: Report, recording: Recording) -> bytes:
    """Makes the tar.gz; the same report and recording give the same bytes."""
    taken_at = seconds(report.taken_at)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members(report, recording):
            info = tarfile.TarInfo(f"{FOLDER}/{name}")
            info.size, info.mtime, info.mode = len(content), taken_at, MODE
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), mtime=taken_at)


def members(report: Report, recording: Recording) -> Iterator[tuple[str, bytes]]:
    """Names and contents: the report, the recording, and what was read as it was read."""
    document = json.dumps(report_document(report), indent=2, ensure_ascii=False)
    yield "report.html", page(report).encode()
    yield "report.json", f"{document}\n".encode()
    yield MEMBER, recording.text().encode()
    yield from raw(recording)


def raw(recording: Recording) -> Iterator[tuple[str, bytes]]:
    """Files of the host and its log, as far as they were read (sieve.py)."""
    for key, answer in sorted(recording.answers.items()):
        path = key.removeprefix(DATA)
        if key.startswith(DATA) and not NOT_RAW.match(path):
            if "text" in answer:
                yield f"raw{path}", str(answer["text"]).encode()
            elif "base64" in answer:
                yield f"raw{path}", base64.b64decode(answer["base64"])
    if lines := recording.answers.get("log", {}).get("lines"):
        yield "raw/dmesg", "".join(f"{line}\n" for line in lines).encode()


def seconds(moment: str) -> int:
    """A time in ISO 8601 in seconds since 1970; 0 where it is none."""
    try:
        return max(int(datetime.fromisoformat(moment).timestamp()), 0)
    except ValueError:
        return 0

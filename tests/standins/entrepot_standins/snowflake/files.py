"""Files on their way into a stage, and out of it."""

from __future__ import annotations

import glob
import os
import re
import shutil
import urllib.parse
from typing import Any

from fakesnow.transforms import stage
from starlette.concurrency import run_in_threadpool


def remove(reference: str, database: str | None, schema: str | None) -> None:
    """Deletes the files of a stage, or those below a path of it."""
    name, _, path = reference.partition("/")
    below = stage.internal_dir(".".join(stage.parts_from_var(name, database, schema)), path)
    if os.path.isfile(below):
        os.remove(below)
    else:
        shutil.rmtree(below, ignore_errors=True)


async def corrected_put(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to PUT: where and how the client is to upload the files."""
    data = answer.get("data") or {}
    info = data.get("stageInfo")
    if not info:
        return answer
    info |= {"region": "us-central1", "isClientSideEncrypted": False, "endPoint": None, "storageAccount": None}
    source = data["src_locations"][0]
    if info.get("presignedUrl") and re.search(r"[*?]", source):
        await upload_here(data, sorted(glob.glob(source)))
    data["overwrite"] = True  # or else the client asks the storage first, in Google's own protocol
    return answer


async def upload_here(data: dict[str, Any], files: list[str]) -> None:
    """One URL cannot take several files: they are copied here, on the same machine, and the client's copies dropped."""
    url: str = data["stageInfo"]["presignedUrl"]
    server, path = url.split("/fs_bucket/", 1)
    folder = os.path.dirname(urllib.parse.unquote(path))
    location = os.path.join(stage.LOCAL_BUCKET_PATH, folder)
    # Files of these formats are compressed already.
    compress = data["autoCompress"] and not any(f.endswith((".parquet", ".orc", ".avro")) for f in files)
    command = {**data, "stageInfo": {"location": location}, "src_locations": files, "autoCompress": compress}
    await run_in_threadpool(stage.upload_files, command)
    data["stageInfo"]["presignedUrl"] = f"{server}/fs_discard"

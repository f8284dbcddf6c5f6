"""What the catalog's tables hold: their columns, and what tells their rows apart."""

from __future__ import annotations

_PUBLISH = {
    "pipeline": "string",
    "environment": "string",
    "sequence": "int64",
    "action": "string",  # publish, rollback, undo
    "run": "string",
    "published_at": "timestamp",
    "pointers": "string",  # JSON: every name → version, after it
    "moved": "string",  # JSON: the names that it moved
}

_LOAD = {
    "pipeline": "string",
    "step": "string",
    "environment": "string",
    "sequence": "int64",
    "load": "string",  # what it was: the hash of what it came after and of what it brought
    "action": "string",  # load, rollback
    "run": "string",
    "loaded_at": "timestamp",
    "fingerprint": "string",  # of the source and of what reads it; NULL where a source has none
    "tables": "string",  # JSON: table → version
    "state": "string",  # the file in the lake with what the source remembers
    "changes": "string",  # JSON: table → what changed in its columns
}

TABLES: dict[str, dict[str, str]] = {
    "versions": {
        "pipeline": "string",
        "name": "string",
        "version": "string",
        "kind": "string",
        "step": "string",
        "identity": "string",  # the hash of what computed it
        "inputs": "string",  # JSON: name → version; this is the lineage
        "columns": "string",  # JSON: column → type, as the warehouse has them
        "inferred": "string",  # JSON: column → type, as ibis inferred them
        "physical_schema": "string",
        "physical_table": "string",
        "row_count": "int64",
        "byte_count": "int64",
        "scanned": "int64",  # bytes read in the warehouse to make it, where the warehouse says so
        "seconds": "float64",
        "run": "string",
        "made_at": "timestamp",
        "details": "string",  # JSON: scores, how rows were scored, the artifact's path
    },
    "cursors": _LOAD,
    "loads": _LOAD,  # the history of the cursors
    "heads": {**_PUBLISH, "shown": "int64"},  # the sequence up to which the views show what was published
    "publishes": _PUBLISH,  # the history of the heads
    "places": {  # each name that people see has one owner
        "tenant": "string",
        "pipeline": "string",
        "environment": "string",
        "name": "string",  # of what is shown there
        "kind": "string",  # view, file, versions
        "warehouse": "string",
        "place": "string",  # the same for two names that are one to some warehouse
        "in_schema": "string",
        "in_table": "string",
        "run": "string",
        "since": "timestamp",
    },
    "checks": {
        "pipeline": "string",
        "name": "string",
        "version": "string",
        "identity": "string",
        "inputs": "string",
        "guards": "string",
        "severity": "string",
        "violations": "int64",
        "sample": "string",  # JSON: some of the violating rows
        "run": "string",
        "checked_at": "timestamp",
    },
    "certificates": {  # that two warehouses have the same rows for a version; for how long: certificates.py
        "pipeline": "string",
        "name": "string",
        "version": "string",
        "identity": "string",  # the hash of what computed it
        "warehouses": "string",  # JSON: the two, each with its engine, and how they were digested
        "verdict": "string",
        "row_count": "int64",
        "digest": "string",
        "run": "string",
        "made_at": "timestamp",
    },
    "runs": {
        "pipeline": "string",
        "environment": "string",
        "run": "string",
        "workflow": "string",
        "status": "string",
        "started_at": "timestamp",
        "ended_at": "timestamp",
        "summary": "string",  # JSON: the steps, what they read and wrote, and the versions
        "error": "string",
    },
}

KEYS = {
    "versions": ("pipeline", "name", "version"),
    "heads": ("pipeline", "environment"),
    "publishes": ("pipeline", "environment", "sequence"),
    "cursors": ("pipeline", "step", "environment"),
    "loads": ("pipeline", "step", "environment", "sequence"),
}

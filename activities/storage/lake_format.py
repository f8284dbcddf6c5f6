"""The format of a lake: how its folders and manifests are made. A newer program reads older ones, never the reverse."""

from __future__ import annotations

import json
from importlib.metadata import version

from entrepot.activities.storage import lake
from entrepot.errors import BadInput

FORMAT = 1
MARKER = "format.json"
"""The file in the lake that says which it has."""


def ensure(marker: str) -> None:
    """Writes down the format of a lake that says none yet.

    Args:
        marker: The path of its marker.

    Raises:
        BadInput: if a newer version of Entrepot made the lake, or the marker is not one.
    """
    if not lake.exists(marker):
        lake.write(json.dumps({"format": FORMAT, "release": version("entrepot")}).encode(), marker)
        return
    try:
        said = json.loads(lake.read(marker))
        number, release = int(said["format"]), said["release"]
    except (ValueError, TypeError, KeyError):
        raise BadInput(f"{marker} does not say which format the lake has; it is written by Entrepot alone") from None
    if number > FORMAT:
        raise BadInput(
            f"{marker}: the lake is in format {number}, which Entrepot {release} has made, and this one, "
            f"{version('entrepot')}, reads up to {FORMAT}: use that version, or a newer one"
        )

"""A lake that is no folder of this machine, as far as Entrepot knows: `elsewhere://` and a path."""

from __future__ import annotations

from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Elsewhere(LocalFileSystem):
    """The machine's files, under another name: what is to be local has to be copied first."""

    protocol = ("elsewhere",)  # type: ignore[assignment]

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return super()._strip_protocol(str(path).removeprefix("elsewhere://"))


fsspec.register_implementation("elsewhere", Elsewhere, clobber=True)

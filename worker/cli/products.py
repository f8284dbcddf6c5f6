"""`entrepot products`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.errors import BadInput
from entrepot.language.names import PIPELINE
from entrepot.worker.cli.options import EnvironmentOption, JsonOption, TenantOption, TenantsOption, named

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDINGS = (".yaml", ".yml", ".json")
_MOST_BYTES = 1_500_000
"""Of all files together: Temporal takes payloads of 2 MB."""


def products(
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", "-p", help="Pipeline name. Default: every pipeline.", callback=named(PIPELINE)),
    ] = None,
    environment: EnvironmentOption = "prod",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FOLDER", help="Write an Open Data Contract Standard file for each product."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="PATH", help="Hold such a file, or a folder of them, against what is shown."),
    ] = None,
    tenants: TenantsOption = None,
) -> None:
    """List data products: their version, owner and promise, whether it is kept, and who depends on them.

    With --check, the exit code is 1 if a file does not hold, 2 if one is no Open Data Contract Standard file.

    \b
    Examples:
      entrepot products
      entrepot products -p flights --export contracts
      entrepot products -e dev --check contracts
    """
    if export is not None and check is not None:
        raise BadInput("contracts are written or checked: leave out --export or --check")

    from entrepot.worker.config import settings

    value: dict[str, Any] = {"tenant": settings.tenant_of(tenant, tenants), "environment": environment}
    value |= {"pipeline": pipeline} if pipeline else {}
    if export is not None:
        _export(value, export, as_json=as_json)
    elif check is not None:
        _check(value, check, as_json=as_json)
    else:
        _list(value, as_json=as_json)


def _list(value: Mapping[str, Any], *, as_json: bool) -> None:
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output

    rows = follow.execute_activity(activities.PRODUCTS.name, value)
    if as_json:
        output.json(rows)
    elif rows:
        lines = [
            (
                row["pipeline"],
                row["table"],
                row["version"],
                row["owner"],
                row["state"],
                row["fresh_within"],
                f"{row['rows']:,}" if row["rows"] is not None else "",
                row["published_at"],
                ", ".join(row["consumers"]),
            )
            for row in rows
        ]
        heads = ("pipeline", "product", "version", "owner", "", "promised", "rows", "published (UTC)", "consumers")
        output.rows(heads, lines)
    else:
        output.out.print("✓ no table is a product")


def _export(value: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output

    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; name a folder for the contracts")
    files = follow.execute_activity(activities.CONTRACTS.name, value)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for file in files:
        path = folder / f"{file['pipeline']}.{file['table']}.odcs.yaml"
        scratch = path.with_name(f".{path.name}.tmp")
        scratch.write_text(file["text"], encoding="utf-8")
        scratch.replace(path)
        written.append(str(path))
    if as_json:
        output.json(written)
    else:
        for name in written:
            output.out.print(f"✓ {name}", soft_wrap=True, markup=False)
        if not written:
            output.out.print(f"{value['environment']} shows no product, so nothing was written")


def _check(value: Mapping[str, Any], path: Path, *, as_json: bool) -> None:
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output

    files = dict(_read(path))
    differences = follow.execute_activity(activities.CHECK_CONTRACTS.name, {**value, "files": files})
    if as_json:
        output.json(differences)
    else:
        for each in differences:
            output.out.print(f"✗ {each['file']}: {each['said']}", soft_wrap=True, markup=False)
        if not differences:
            held = "its contract holds" if len(files) == 1 else f"all {len(files)} contracts hold"
            output.out.print(f"✓ {held} in {value['environment']}")
    if differences:
        raise typer.Exit(1)


def _read(path: Path) -> Iterator[tuple[str, str]]:
    """The files to check, each with its text.

    Raises:
        BadInput: if there is none, or they are too large.
    """
    if not path.exists():
        raise BadInput(f"there is no file or folder {path}")
    found = sorted(each for each in path.rglob("*") if each.suffix in _ENDINGS) if path.is_dir() else [path]
    if not found:
        raise BadInput(f"{path} has no file that ends with {', '.join(_ENDINGS)}")
    if (size := sum(each.stat().st_size for each in found)) > _MOST_BYTES:
        raise BadInput(
            f"{path} has {size / 1e6:.1f} MB of contracts, and 1.5 MB are checked at once; check it in parts"
        )
    for each in found:
        try:
            yield str(each), each.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise BadInput(f"{each} is no Open Data Contract Standard file: it is no text in UTF-8") from None

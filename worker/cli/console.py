"""`entrepot console`."""

from __future__ import annotations

from typing import Any

from entrepot.worker.cli.options import StateOption, TenantOption, TenantsOption


def console(tenant: TenantOption = None, tenants: TenantsOption = None, state: StateOption = None) -> None:
    """Open Python with a tenant's tables at hand, read only, while runs go on. IPython, if it is installed.

    \b
    Example:
      entrepot console --tenant acme
      >>> flights.table("departures", environment="dev").count()
    """
    import importlib
    import importlib.util

    import ibis

    import entrepot
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    ibis.options.interactive = True  # what is typed is computed, and some rows of it are shown
    with entrepot.open(name, tenants=tenants, state=state) as opened:
        pipelines = {each: opened[each] for each in opened.pipelines}
        given: dict[str, Any] = {"entrepot": entrepot, "ibis": ibis, "_": ibis._, "tenant": opened, **pipelines}
        first = next(iter(pipelines), "flights")
        banner = (
            f"Entrepot: tenant {name}, read only. Pipelines: {', '.join(pipelines) or 'none'}.\n"
            f'{first}.tables() names what prod shows; {first}.table("NAME") is one of them, as ibis has it.'
        )
        if importlib.util.find_spec("IPython"):
            print(banner)
            importlib.import_module("IPython").start_ipython(argv=["--no-banner"], user_ns=given)
        else:
            from code import interact

            interact(banner, local=given, exitmsg="")

"""One suite for every backend: what proves that a driver does what Entrepot needs of it.

It runs on all four backends, the cloud ones on their local stand-ins. Which, and on what, environment variables say:

- `ENTREPOT_BACKEND=snowflake`: this backend only; several with commas.
- `ENTREPOT_LIVE=1`: real accounts. Settings come from `ENTREPOT_<BACKEND>_<SETTING>`, such as
  `ENTREPOT_SNOWFLAKE_ACCOUNT`; secrets stay references (`ENTREPOT_SNOWFLAKE_PASSWORD=env:MY_PASSWORD`). Whole numbers
  are numbers; put a text that looks like one into double quotes. Everything happens in schemas of its own, named
  `entrepot_test_...`, which are dropped at the end.
- `ENTREPOT_GAPS=module:NAME`: more gaps, a sequence of `tests.conformance.gaps.Gap`.

A fifth backend is proven from outside with just these, once its package is installed with its entry point:

    ENTREPOT_LIVE=1 ENTREPOT_BACKEND=mine ENTREPOT_MINE_HOST=... ENTREPOT_GAPS=my_tests.gaps:GAPS \\
      pytest tests/conformance

What a backend does not do stands in `gaps.py`, with the reason. `python -m tests.conformance.matrix` makes
`docs/backends.md` of it.
"""

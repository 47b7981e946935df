"""From result files to figures, tables and a page. Reads JSON only: never torch, pytest or benchmarks.

`read` turns the file that pytest-benchmark wrote into frozen values, `series` puts records on lines,
`figures`, `tables` and `findings` show them, `page` writes them down. `python -m reports RUN.json`.
"""

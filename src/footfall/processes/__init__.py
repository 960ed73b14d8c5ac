"""What runs in each process: one module a process, each with a `run` that builds its objects and works until told.

A module is imported in its own process only, so that DuckDB, say, takes no memory in a collector. Importing this
package imports none of them.
"""

"""What runs in each process: one module a process, whose `run` builds its objects and works until it is told to stop.

Such a module is imported in its own process only, so that DuckDB, for one, takes no memory in a collector. Importing
this package imports none of them. `roles`, `data_dir`, `feeds`, `listeners` and `service_status` are what they share.
"""

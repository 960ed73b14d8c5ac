"""The embedded queue: a SQLite file in `data_dir`, its writer, its reader and its repair."""

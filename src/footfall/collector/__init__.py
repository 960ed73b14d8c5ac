"""The collector: takes hits and events, and acknowledges them when they are in the queue on disk.

`server`, `connection` and `parser` speak HTTP and know no path. `endpoints` looks up the route of a request, the
protocol that declares the route makes entries of it, and `intake` commits them. The collector knows no sink and no
database.
"""

"""Reports over HTTP.

`api` answers with figures and the state of the service, `envelope` puts access control and security headers around
every answer, `stats` checks what `/stats` is asked, `openapi` describes every endpoint, `docs` is the page that shows
the description, and `server` accepts the connections. The package writes nothing and does not know the queue.
"""

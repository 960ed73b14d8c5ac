"""How a service is doing, and who may know.

`service` answers questions about health, `readiness`, the `ledger` and the `metrics`. `access` decides who may read
reports: whoever has the token, or, if none is set, the user that runs Footfall. `local` recognises that user with the
help of `socket_owner`. `refusals` counts the requests that were refused.
"""

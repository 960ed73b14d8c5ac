"""How a service is doing, and who may know.

`service` answers for health, `readiness`, the `ledger` and the `metrics`. `access` decides who may read reports: who
has the token, or else the user that runs Footfall (`local`), told by `socket_owner`. `refusals` counts everybody else.
"""

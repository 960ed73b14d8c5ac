"""The collector: takes hits and events, answers, and has each on disk in the queue.

`http` reads requests and writes answers, `endpoints` decides what each request means, `intake` commits what was
accepted. It knows of no sink and no database.
"""

"""Private broker processes for tests: started by them, on free ports of this machine, and gone with them.

They ship with the kit so that a plugin's author has what our own tests have: a server that
can be killed, paused and restarted (`headrace.conformance.servers.process`), and a network that
breaks when told to (`headrace.conformance.servers.proxy`). No client library is needed.
"""

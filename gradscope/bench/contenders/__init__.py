"""Programs that answer the same question as gradscope, one a file, as their users write them.

A contender is a module with `TITLE` (what the tables call it), `NEEDS` (modules beside NumPy), `supports(workload)` and
`prepare(workload, networks)`: it gets ready, compiling included, for calls with that many networks, and returns the
function to be timed, from networks to their answers.
"""

"""The parts of `benchmarks/tunnel.py`: whole tunnels, ours and others', measured beside each other on the same four namespaces.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

`names` has the tables of what is measured and against whom; `contenders` brings tunnels up, `measures` and `generator` measure,
`statistics` and `bars` judge, `report` and `plots` show.
"""

"""When each row of a network is computed: regions that are streamed in bands, the order of operations, one arena.

`planner.plan` schedules an unrolled graph, `streamed.stream` makes a model that runs so.
"""

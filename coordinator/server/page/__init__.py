"""What the organizer's page shows (`protocol.page` is the page).

Reading order: `leases` (of the swarm), `latest` (networks of the zoo), `map_child` (the map, made by another process),
`source` (all of it together).
"""

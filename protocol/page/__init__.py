"""A swarm as a web page: what the coordinator, and every peer on loopback, shows of it. It can be read, nothing more.

Reading order: `state` (all that is shown, as values), `told` (a coordinator's status, also another host's, into such
values), `pictures` (bars, curves and the map as SVG paths), `render` (values into HTML), `feed` (one computation for
all who watch), `guard` (which requests are answered), `app` (the routes), `server` (its thread, started when somebody
comes).
"""

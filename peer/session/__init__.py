"""Talking to one coordinator and to the swarm: performers of the actions that `peer.state` decides.

Reading order: `first_contact` (the organizer's time, a stamp), `throttle` (no more bytes than allowed), `client`
(gRPC), `requests` (the longer ones: checks, openings, uploads), `welcome` (from an address or an invite to the
organizer), `session` (coordinator calls), `dataset_fetcher` (data sets), `claim_book` (claims, through a swarm node),
`own_page` (for a browser), `certificate` (credit, signed by the organizer).
"""

"""What should happen, as functions from facts to decisions: no clock, no chance, no disk, no SQL.

Reading order: `phases` (a result's life as a table), `actions` (effects as values), `facts` (what decisions depend on),
`receive` (a result is handed in), `uploads` (which blobs), `standing` (who may vouch), `referee` (what is due for an
unsettled result), `settle` (how it ends, and what falls with a liar), `auditing` (what is trained again), `convict`
(who vouched for a fake), `inbox` (what a host is asked for, how much it may claim), `presence` (who is here),
`campaigns` (what an organizer may do), `publishing` (when the zoo grows, and what the DHT is told). `ledger` reads the
facts and stores the decisions, in one transaction; `checking.effects` performs the actions.
"""

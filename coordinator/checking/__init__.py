"""From a commitment to a verdict.

Reading order: `beacon` and `blobs` (secrets and bytes), `cases` (one result with all that follows from it), `stores`
(all that is kept, as one value), `effects` (performs the policy's actions), `answers` (judged and entered),
`own_checks` (the organizer's replays), `rosters` (who may be drawn), `referee_loop` (acts on the referee's rulings),
`retraining` (a network again, from its seed), `audits` (admitted bundles again, and who vouched for a fake).
"""

"""The computer that is lent, and its person's wishes: everything that is read of it, and the little that is set on it.

Reading order: `settings` (remembered options), `options` (what `join` was told), `control` (pause, resume and leave
from another terminal, and what the volunteer says of itself), `meter` (what our processes use), `sensors` (what else
the computer is doing), `pace` (no more processor time than allowed), `preflight` (what could stand in the way),
`service` (start with the session), `purge` (no trace left), `verbs`.
"""

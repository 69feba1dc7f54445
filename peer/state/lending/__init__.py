"""How much of this computer is lent, when, and to which campaign.

Reading order: `sizes` (as people write them), `limits` (what a campaign costs at most), `pausing` (may we train now,
and why not), `sharing` (which campaign comes next), `traffic` (how fast bytes go over the network).
"""

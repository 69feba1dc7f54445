"""`zooswarm doctor DIR`: is everything in a directory what it was, and if not, what is to be done?

Reading order: `findings` (what is found, and its mend), `examine` (which directory is it? and the report), `records`
(the ledger: its pages, then what every row says), `uploads` (keys and blobs), `networks` (the zoo's files, and the
story of each bundle), `volunteer` (a volunteer's directory). Nothing is written, and a running host is not disturbed.
"""

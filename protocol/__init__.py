"""The contract: everything that crosses a border or must be the same everywhere.

Reading order: `recipe`, `tasks`, `machines`, `datasets`, `engine` (what is trained), `identity`, `envelope`,
`messages`, `commitment`, `challenge`, `judgement`, `admission`, `evidence` (how it is trusted), `campaign`, `records`,
`claims`, `swarm` (how hosts find work), `zoo` (where it ends up), `proto` (gRPC), `cli` (the one command).
"""

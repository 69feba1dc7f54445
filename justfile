# Everything a developer types. `scripts/setup dev` once; then .venv/bin/just, or a `just` of your own.

bin := env("ZOOSWARM_VENV", justfile_directory() / ".venv") / "bin"
export PYTHON := bin / "python"

# What there is to type.
default:
    @"{{just_executable()}}" --list --unsorted --justfile "{{justfile()}}"

# Make or renew the private environment with everything for developers.
setup:
    scripts/setup dev

# Style: ruff's rules and its format.
lint:
    "{{bin}}/ruff" check .
    "{{bin}}/ruff" format --check .

# Repair what ruff can repair.
fix:
    "{{bin}}/ruff" check --fix .
    "{{bin}}/ruff" format .

# Types of everything, tests and scripts too.
type:
    "{{bin}}/basedpyright" --pythonpath "{{PYTHON}}"

# Rooms: who may import whom.
imports:
    "{{bin}}/lint-imports"

# Is the committed gRPC code that of coordinator.proto?
generated:
    scripts/generate --check

# Write the gRPC code again from coordinator.proto.
generate:
    scripts/generate

# All tests, slow ones too; arguments go to pytest.
test *args="tests":
    "{{PYTHON}}" -m pytest {{args}}

# The tests of minutes, which CI leaves out: hundreds of nulls and planted counter-examples. A quarter of an hour.
test-long *args="tests":
    "{{PYTHON}}" -m pytest -n 2 --dist worksteal -m long {{args}}

# The fast tests, in every room: some minutes on two cores. Lists the slowest, so that none creeps in.
test-fast *args:
    "{{PYTHON}}" -m pytest -n 2 --dist worksteal --durations=5 -m "not slow and not swarm" {{args}}

# What to run before a commit is shared.
check: lint type imports generated docs test-fast

# Volunteers and organizer over a simulated clock, network and disk: just simulate --seeds 0:20
simulate *args="--seeds 0:5":
    scripts/simulate {{args}}

# Real processes, killed and attacked; then doctor and audit: just soak --kills 20
soak *args="--kills 20":
    scripts/soak {{args}}

# Speed of the engine beside PyTorch: just bench --only lenet
bench *args:
    "{{PYTHON}}" scripts/bench/engine.py {{args}}

# Do all links of the documents lead somewhere, and do their snippets run?
docs:
    "{{PYTHON}}" scripts/check_links.py
    "{{PYTHON}}" -m pytest tests/analysis/test_analysis.py -k snippets

# The static site in build/site: documents, tours, gallery, reference. A link that leads nowhere fails it.
site:
    "{{PYTHON}}" scripts/build_site.py

# One host, three volunteers, 240 networks, a report: three minutes.
demo *args:
    scripts/demo {{args}}

# What CI does, on this checkout.
ci:
    .ci/run

"""What the page says of the zoo itself: what is there, who trained and checked it, under which licence."""

import json
from typing import Any

import pyarrow as pa

from analysis.report.selection import count_by
from analysis.zoo import Zoo

ROWS_LISTED_MAX = 50  # of hosts and recipes: a page, not a listing
TABLE_COLUMNS = [
    "class",
    "recipe",
    "campaign",
    "host",
    "checkers",
    "checks_valid",
    "cells_checked",
    "credit",
    "evidence",
]
TABLE_COLUMNS += ["id"]


def overview(table: pa.Table) -> dict[str, Any]:
    """What is there and what stands behind it, as (name, number) pairs, and the networks of each class."""
    hosts, checkers = table["host"].to_pylist(), [set(row) for row in table["checkers"].to_pylist()]
    numbers = [
        ("networks", table.num_rows),
        ("checked by another host", sum(bool(them - {host}) for host, them in zip(hosts, checkers, strict=True))),
        ("hosts that trained", len(set(hosts))),
        ("hosts that checked", len(set().union(*checkers))),
        ("checks that agreed", sum(table["checks_valid"].to_pylist())),
        ("segments re-run", sum(table["cells_checked"].to_pylist())),
        ("evidence files", len(table["evidence"].unique())),
        ("credit, network-segments", round(sum(table["credit"].to_pylist()))),
    ]
    return {"numbers": [(name, f"{value:,}") for name, value in numbers], "classes": count_by(table, "class")}


def provenance(zoo: Zoo, table: pa.Table) -> dict[str, Any]:
    campaigns = []
    for digest, rows in count_by(table, "campaign"):
        value = campaign_value(zoo.campaigns.get(digest, b"{}"))
        texts = {key: str(value.get(key) or "not stated") for key in ("name", "licence", "citation", "description")}
        campaigns.append({"digest": digest, "networks": f"{rows:,}", **texts})
    recipes = []
    for digest, rows in count_by(table, "recipe"):
        recipe = zoo.recipe(digest)
        layers = [
            f"{layer.__struct_config__.tag} {getattr(layer, 'width', '')}".strip() for layer in recipe.network.layers
        ]
        recipes.append(
            {
                "name": recipe.name,
                "label": recipe.label,
                "layers": " → ".join(layers),
                "parameters": f"{recipe.parameter_count:,}",
                "networks": f"{rows:,}",
                "digest": digest,
            }
        )
    credit = table.group_by("host").aggregate([("credit", "sum"), ("id", "count")]).to_pylist()
    hosts = sorted(credit, key=lambda row: (-row["credit_sum"], row["host"]))
    return {
        "campaigns": campaigns,
        "recipes": sorted(recipes, key=lambda row: (row["label"], row["name"]))[:ROWS_LISTED_MAX],
        "recipes_more": max(0, len(recipes) - ROWS_LISTED_MAX),
        "hosts": [
            (row["host"], f"{row['id_count']:,}", f"{row['credit_sum']:,.0f}") for row in hosts[:ROWS_LISTED_MAX]
        ],
        "hosts_more": max(0, len(hosts) - ROWS_LISTED_MAX),
    }


def campaign_value(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = {}
    return value if isinstance(value, dict) else {}

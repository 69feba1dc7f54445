"""What a zoo says about itself: README.md for people, croissant.json for dataset search engines.

Both are made from the manifest, the recipes and the campaigns alone, so writing them costs no scan of the catalogue.
"""

from typing import Any

import msgspec

from protocol.canonical import NOT_DECODABLE
from protocol.errors import shown
from protocol.files import write_atomic
from protocol.zoo.catalogue import all_columns
from protocol.zoo.manifests import ZooManifest
from protocol.zoo.store import Store

CITATION = "zooswarm: populations of small neural networks, trained by volunteers, bit for bit checkable."
TEXT_MAX = 2000  # of a citation, as campaigns have it
RECIPES_LISTED_MAX = 200  # a page, not a listing; the catalogue has them all

CARD = """---
pretty_name: "{title}"
license: {licence_tag}
tags: [model-zoo, weight-space, zooswarm]
configs:
- config_name: catalogue
  data_files: [{data_files}]
---
# {title}

{networks:,} small neural networks, {classes}, trained by volunteers. Every network is a pure function of
its recipe and seed, bit for bit, so anyone can retrain any of them and compare digests. Manifest {number}, written
{written_at}{signed}.{retracted}

{class_table}

## Load it

With zooswarm: `from analysis import open_zoo; weights_NP = open_zoo("PATH").weights(where="class='...'")`.
A page about the whole zoo: `zooswarm report PATH --out report`.

Without it, the latest `manifests/*.json` says which files belong to the zoo; take no others.

```python
import json, pathlib
import duckdb, numpy as np
from safetensors.numpy import load_file

zoo = pathlib.Path("PATH")
manifest = json.loads(max(zoo.glob("manifests/*.json")).read_text())
parts = [str(zoo / "catalogue" / f"{{part['digest']}}.parquet") for part in manifest["catalogue"]]
table = duckdb.read_parquet(parts, union_by_name=True).to_arrow_table()   # a row a network
network = table.slice(0, 1).to_pylist()[0]
shard = load_file(next(zoo.glob(f"weights/*/{{network['shard']}}.safetensors")))
weights = {{name: stacked[network["row"]] for name, stacked in shard.items()}}    # layer name -> array
```

## Recipes

{recipe_table}

## Catalogue columns

{column_table}

## Licence and citation

Licence: {licence}. Cite: {citation}
"""


def write_card(store: Store) -> None:
    """Bring README.md and croissant.json up to the store's manifest; untouched when they already are."""
    facts = card_facts(store)
    croissant = msgspec.json.format(msgspec.json.encode(croissant_value(store, facts)), indent=2) + b"\n"
    for name, data in (("README.md", card_text(store, facts).encode()), ("croissant.json", croissant)):
        path = store.path / name
        if not path.is_file() or path.read_bytes() != data:
            write_atomic(path, data)


def card_facts(store: Store) -> dict[str, str]:
    """Title, licence and citation as the campaigns state them; several are joined."""
    found: dict[str, list[str]] = {"title": [], "licence": [], "citation": []}
    for data in store.campaigns.values():
        try:
            value = msgspec.json.decode(data)
        except NOT_DECODABLE:
            continue
        if not isinstance(value, dict):
            continue
        for key, names in (
            ("title", ("title", "name")),
            ("licence", ("licence", "license")),
            ("citation", ("citation",)),
        ):
            texts = [value[name] for name in names if isinstance(value.get(name), str) and value[name].strip()]
            found[key] += [shown(" ".join(text.split()), TEXT_MAX) for text in texts[:1]]
    unique = {key: list(dict.fromkeys(values)) for key, values in found.items()}
    return {
        "title": "Zoo: " + ", ".join(unique["title"][:3]) if unique["title"] else "A zooswarm zoo",
        "licence": ", ".join(unique["licence"]) or "not stated",
        "citation": " ".join(unique["citation"]) or CITATION,
    }


def card_text(store: Store, facts: dict[str, str]) -> str:
    manifest = store.manifest
    recipes = [
        [recipe.name, recipe.label, f"{recipe.parameter_count:,}", f"{recipe.training.max_steps:,}", f"`{digest[:16]}`"]
        for digest, recipe in list(store.recipes.items())[:RECIPES_LISTED_MAX]
    ]
    licence = facts["licence"].lower()
    return CARD.format(
        title=facts["title"].replace('"', "'"),
        licence=facts["licence"],
        licence_tag=licence if licence.replace("-", "").replace(".", "").isalnum() else "other",
        citation=facts["citation"],
        networks=manifest.networks,
        classes="of one class" if len(manifest.classes) == 1 else f"in {len(manifest.classes)} classes",
        # Named one by one: a pattern would also take files that a merge has replaced.
        data_files=", ".join(f"catalogue/{part.digest}.parquet" for part in manifest.catalogue),
        number=manifest.number,
        written_at=manifest.written_at,
        signed=f", signed by {manifest.organizer}" if manifest.organizer else "",
        retracted=retracted_text(manifest),
        class_table=markdown_table(["class", "networks"], [[k, f"{n:,}"] for k, n in manifest.classes.items()]),
        recipe_table=markdown_table(["recipe", "class", "parameters", "steps at most", "digest"], recipes),
        column_table=markdown_table(["column", "type", "meaning"], [list(column) for column in all_columns()]),
    )


def retracted_text(manifest: ZooManifest) -> str:
    networks = sum(retraction.networks for retraction in manifest.retracted)
    if not networks:
        return ""
    return f" {networks:,} networks were taken back since, for the reasons in the manifest."


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def croissant_value(store: Store, facts: dict[str, str]) -> dict[str, Any]:
    """The dataset in the Croissant 1.0 vocabulary (https://docs.mlcommons.org/croissant/docs/croissant-spec.html)."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": f"catalogue-{part.digest[:16]}",
            "name": f"catalogue-{part.digest[:16]}",
            "contentUrl": f"catalogue/{part.digest}.parquet",
            "contentSize": f"{part.bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": part.digest,
        }
        for part in store.manifest.catalogue
    ]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts["title"],
        "description": f"{store.manifest.networks} small neural networks trained by volunteers, bit for bit checkable: "
        "weights, losses and provenance, with the signed evidence of every check.",
        "license": facts["licence"],
        "citeAs": facts["citation"],
        "version": f"{store.manifest.number}.0.0",
        "datePublished": store.manifest.written_at,
        "distribution": files,
        "recordSet": [record_set(file["@id"], single=len(files) == 1) for file in files],
    }


def record_set(file: str, single: bool) -> dict[str, Any]:
    """One catalogue file as records: Croissant has no union of files, so each file is a record set."""
    name = "networks" if single else f"networks-{file}"
    kinds = {"string": "sc:Text", "int64": "sc:Integer", "float64": "sc:Float", "timestamp": "sc:DateTime"}
    kinds |= {"bool": "sc:Boolean", "list<float32>": "sc:Float", "list<string>": "sc:Text"}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": f"{name}/{column}",
            "description": meaning,
            "dataType": kinds[kind],
            "repeated": kind.startswith("list"),
            "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
        }
        for column, kind, meaning in all_columns()
    ]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}


CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

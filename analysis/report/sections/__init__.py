"""The report's questions, one theme a file, in the page's order: `training`, `classes`, `maps`, `changes`, `paths`."""
